"""Repair without training: each layer is refitted, in order, to make the original's outputs of the pruned inputs.

For every layer that reads something pruning has changed, the least squares problem

    min || X^ W^T + b - (X W0^T + b0 + S - S^) ||^2   with W zero where it is masked

is solved for W and b. X is what the layer reads in the original, X^ in the pruned model as repaired so far (He et al.,
Channel Pruning, ICCV 2017, arXiv 1707.06168; ThiNet, arXiv 1707.06342). S and S^ are the other operand of an Add that
reads the layer's output, in both models: the error that a shortcut carries already is absorbed by the branch. Where a
ReLU or a Clip follows, what it cuts off is no error (`clipping`). Of a recurrence the weights of its inputs are
refitted, the others stay. Integers are solved for as the reals that they stand for, and rounded to their scale again.
Each repair is kept only if the error of what is stored falls on samples that it was not fitted to. What has changed and
cannot be refitted is told, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.dependency import Analysis
from onnxprune.layers import Layer, layers_of, left_alone
from onnxprune.model.segment import Segments
from onnxprune.recovery.behind import Behind, Surroundings
from onnxprune.recovery.clipping import MORE, Bounds, fitted_within, worthwhile
from onnxprune.recovery.evidence import Equations, Evidence, Fit, alike, gathered
from onnxprune.recovery.leastsquares import Normal
from onnxprune.recovery.reading import reading_of
from onnxprune.recovery.rows import unfolding
from onnxprune.recovery.stepping import Feed, Stepper
from onnxprune.recovery.stored import Stored
from onnxprune.recovery.threads import Threads
from onnxprune.recovery.wide import effort
from onnxprune.weights import Weights

__all__ = ["Repair", "Repaired", "Solver", "Start", "least_squares", "repaired"]

Array: TypeAlias = npt.NDArray[Any]
Float: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
LIMIT = 256  # rows of each sample
WORK = 1e13  # multiplications that solving one layer of many inputs may take


@dataclass(frozen=True, slots=True)
class Repair:
    """One layer: its error on held-out samples as a share of its outputs' energy, before and after; was it kept?"""

    layer: str
    before: float
    after: float
    kept: bool


@dataclass(frozen=True, slots=True)
class Repaired:
    """New values of weights by their names in the original, and in the pruned model, and what each repair did.

    `left` are the layers (or weights of none) that pruning has changed and that cannot be refitted: why, by name.
    """

    values: Mapping[str, Array]
    pruned_values: Mapping[str, Array]
    repairs: tuple[Repair, ...]
    left: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Start:
    """Weights (G, O, d) of a layer: the original's, and as pruned; `keep` is False where they stay zero.

    The last `free` of the d inputs are a constant one, whose weight is the bias.
    """

    layer: Layer
    original: Float
    pruned: Float
    keep: Mask
    free: int


Solver: TypeAlias = Callable[[Equations, Start], tuple[Float, Mask | None]]
"""From equations and where a layer stands, its new weights (G, O, d) and which of them are free to move on."""


def least_squares(equations: Equations, start: Start) -> tuple[Float, Mask | None]:
    """The weights that fit best: see `leastsquares.solve`."""
    return equations.least(start.pruned, start.keep, start.free), start.keep


def repaired(
    original: Analysis,
    pruned: Analysis,
    batches: Sequence[Feed],
    solver: Solver = least_squares,
    *,
    limit: int = LIMIT,
    within: bool = True,
    seed: int = 0,
    threads: int = 1,
    watch: Callable[[int, int], None] | None = None,
) -> Repaired:
    """Every layer behind what was pruned, refitted in the order of the graph.

    `pruned` is the original with weights set to zero (a mask), of the same shapes, and of the same nodes but for
    residual branches that are gone: what is zero stays zero. `limit` is how many rows of each sample a fit takes, at
    most; `within` leaves out of account what an activation behind a layer cuts off, for a third of the time.
    Errors: `RunFailed`.
    """
    sides = _Side(original), _Side(pruned)
    fits, left = _fits(*sides)
    before = Stepper(original.model, batches, [twin.reads for twin, _ in fits], original.shapes.dtype, threads)
    after = Stepper(pruned.model, batches, [fit.reads for _, fit in fits], pruned.shapes.dtype, threads)
    values: dict[str, Array] = {}
    found: dict[str, Array] = {}
    repairs: list[Repair] = []
    with Threads(threads) as pool:
        for number, (twin, fit) in enumerate(fits):
            if watch is not None:
                watch(number, len(fits))
            wanted, there = before.step(), after.step(values)
            if _reads_the_same(twin, fit, wanted, there) and not _is_changed(*sides, twin.layer, fit.layer):
                continue
            if not fit.why_not:
                rows = unfolding(fit.layer, pruned.model.nodes[fit.layer.node], limit, seed)
                assert rows is not None
                own, first = sides[1].stored(fit), sides[0].stored(twin).matrix()
                evidence = gathered(twin, fit, rows, first, wanted, there, pool)
                new = _repair(
                    twin.layer.name, own, first, fit.behind.bounds if within else None, evidence, solver, pool
                )
            if fit.why_not or isinstance(new, str):
                left[twin.layer.name] = fit.why_not or str(new)
                continue
            stored, repair = new
            repairs.append(repair)
            if repair.kept:
                values.update(stored)
                names = {fit.layer.weight: twin.layer.weight, fit.behind.bias: twin.behind.bias}
                found.update({names[name]: array for name, array in stored.items()})
    return Repaired(found, values, tuple(repairs), left)


class _Side:
    """The original or the pruned model, and what is known around its layers."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis, self.model = analysis, analysis.model
        self.layers = layers_of(analysis)
        self.weights = Weights(self.model)
        self.segments = Segments(self.model)
        self._surroundings = Surroundings(analysis, self.segments)

    def fit(self, layer: Layer) -> Fit | str:
        """The layer as one that can be refitted, or that says itself why not; or why even its inputs are not known."""
        reading = reading_of(layer, self.analysis, self.segments)
        if isinstance(reading, str):
            return reading
        why_not = self._why_not(layer)
        return Fit(layer, reading, Behind() if why_not else self._surroundings.behind(layer), why_not)

    def _why_not(self, layer: Layer) -> str:
        if unfolding(layer, self.model.nodes[layer.node]) is None:
            return f"which inputs {layer.op_type} reads where is not known"
        if not self._surroundings.alone(layer.weight):
            return "several nodes read its weight"
        return "" if self.weights.is_known(layer.weight) else "what its weight stores is not known"

    def stored(self, fit: Fit) -> Stored:
        """Its numbers."""
        return Stored(self.model, self.weights, fit.layer, fit.behind.bias, fit.behind.factor)


def _fits(original: _Side, pruned: _Side) -> tuple[list[tuple[Fit, Fit]], dict[str, str]]:
    """The layers whose inputs are known, in both models, in the order of the graph; why others that changed are not.

    Whether one of the former is changed is seen when the models run. Twins make the same tensor: a node without a name
    is called by its place, which moves when something is silenced in front of it.
    """
    twins = {(layer.output, layer.operand): layer for layer in original.layers}
    found: list[tuple[Fit, Fit]] = []
    left: dict[str, str] = {}
    for name in left_alone(pruned.analysis, pruned.layers):
        known = name in original.model.weights
        if known and not np.array_equal(original.model.array(name), pruned.model.array(name)):
            left[name] = "no operator is known that multiplies with it"
    for layer in pruned.layers:
        first = twins.get((layer.output, layer.operand))
        if first is None:
            left[layer.name] = "the original has no such layer"
            continue
        twin, fit = original.fit(first), pruned.fit(layer)
        if isinstance(twin, Fit) and isinstance(fit, Fit):
            found.append(alike(twin, fit))
        elif _is_changed(original, pruned, first, layer):
            left[first.name] = fit if isinstance(fit, str) else str(twin)
    return sorted(found, key=lambda pair: pruned.segments.maker[pair[1].layer.output]), left


def _is_changed(original: _Side, pruned: _Side, twin: Layer, layer: Layer) -> bool:
    """Whether pruning has changed the weights of a layer themselves."""
    return not np.array_equal(original.model.array(twin.weight), pruned.model.array(layer.weight))


def _reads_the_same(
    twin: Fit, fit: Fit, wanted: Sequence[Mapping[str, Array]], there: Sequence[Mapping[str, Array]]
) -> bool:
    theirs, ours = twin.reading.tensor, fit.reading.tensor
    return all(np.array_equal(a[theirs], b[ours]) for a, b in zip(wanted, there, strict=True))


def _repair(
    name: str,
    own: Stored,
    first: Float,
    bounds: Bounds | None,
    evidence: tuple[Evidence, Evidence],
    solver: Solver,
    threads: Threads,
) -> tuple[dict[str, Array], Repair] | str:
    """New stored values and what they are worth, or why there are none."""
    now, (fitted, held) = own.matrix(), evidence
    keep = _kept(first, now, own.free)
    if not isinstance(fitted.equations, Normal) and effort(keep, fitted.equations.rows) > WORK:
        return f"its {first.shape[2]:,} inputs are too many for a mask of its own for each output"
    start = Start(own.layer, first, now, keep, own.free)
    solved, inside = _solved(fitted, held, start, solver, bounds, threads)
    stored = own.put(solved)
    before, after = held.error(now, bounds), held.error(own.meant(stored), bounds)
    if after < before and held is not fitted:  # judged, so that what judged may be learnt from, too
        everything = fitted.together(held)
        if bounds is not None and inside is not None:
            assert isinstance(everything.equations, Normal)
            rows = everything.rows
            solved = fitted_within(everything.equations, rows, solved, inside, own.free, bounds, threads, MORE)
        else:
            solved, _ = solver(everything.equations, start)
        stored = own.put(solved)
    return stored, Repair(name, before, after, after < before)


def _kept(first: Float, now: Float, free: int) -> Mask:
    """Which weights (G, O, d) are free to move, of what the original has and what pruning has left.

    An input that no output reads stays so: it may be gone in the pruned model. Where single weights were masked, all
    that is zero stays so, and the form of the mask with it; else the others are free, also those that were zero.
    """
    filled = now != 0
    read = filled.any(axis=1, keepdims=True)
    masked = bool(((first != 0) & ~filled & read)[..., : first.shape[2] - free].any())
    keep: Mask = filled if masked else np.array(np.broadcast_to(read, now.shape))
    keep[..., first.shape[2] - free :] = True
    return keep


def _solved(
    fitted: Evidence, held: Evidence, start: Start, solver: Solver, bounds: Bounds | None, threads: Threads
) -> tuple[Float, Mask | None]:
    """The weights; and which were free, where they were fitted to what an activation lets through: if it is better."""
    solved, keep = solver(fitted.equations, start)
    normal = fitted.equations
    if bounds is None or keep is None or not isinstance(normal, Normal) or not worthwhile(keep, bounds):
        return solved, None
    within = fitted_within(normal, fitted.rows, solved, keep, start.free, bounds, threads)
    return (within, keep) if held.error(within, bounds) < held.error(solved, bounds) else (solved, None)
