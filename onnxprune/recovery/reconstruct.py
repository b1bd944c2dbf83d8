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
from onnxprune.recovery.clipping import Bounds, fitted_within, worthwhile
from onnxprune.recovery.evidence import Equations, Evidence, Fit, gathered
from onnxprune.recovery.leastsquares import Normal
from onnxprune.recovery.reading import Reading, reading_of
from onnxprune.recovery.rows import unfolding
from onnxprune.recovery.stepping import Feed, Stepper
from onnxprune.recovery.stored import Stored
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
    seed: int = 0,
    threads: int = 1,
    watch: Callable[[int, int], None] | None = None,
) -> Repaired:
    """Every layer behind what was pruned, refitted in the order of the graph.

    `pruned` is the original with weights set to zero (a mask), of the same nodes and shapes: a weight that is zero
    there and not in the original stays zero. `limit` is how many rows of each sample a fit takes at most.
    Errors: `RunFailed`.
    """
    both = _Both(original, pruned)
    fits, left = both.fits()
    stops = [frozenset({fit.reading.tensor, fit.behind.shortcut} - {""}) for fit in fits]
    before = Stepper(original.model, batches, stops, original.shapes.dtype, threads)
    after = Stepper(pruned.model, batches, stops, pruned.shapes.dtype, threads)
    values: dict[str, Array] = {}
    found: dict[str, Array] = {}
    repairs: list[Repair] = []
    for number, fit in enumerate(fits):
        if watch is not None:
            watch(number, len(fits))
        wanted, there = before.step(), after.step(values)
        if not both.is_changed(fit.layer.weight, fit.twin.weight) and _reads_the_same(fit, wanted, there):
            continue
        if fit.why_not:
            left[fit.layer.name] = fit.why_not
            continue
        new = both.repair(fit, wanted, there, solver, limit, seed)
        if isinstance(new, str):
            left[fit.layer.name] = new
            continue
        stored, repair = new
        repairs.append(repair)
        if repair.kept:
            values.update(stored)
            found.update({fit.twin.weight if name == fit.layer.weight else name: a for name, a in stored.items()})
    return Repaired(found, values, tuple(repairs), left)


def _reads_the_same(fit: Fit, wanted: Sequence[Mapping[str, Array]], there: Sequence[Mapping[str, Array]]) -> bool:
    data = fit.reading.tensor
    return all(np.array_equal(a[data], b[data]) for a, b in zip(wanted, there, strict=True))


class _Both:
    """The original and the pruned model, side by side."""

    def __init__(self, original: Analysis, pruned: Analysis) -> None:
        self._original, self._pruned = original, pruned
        self._weights = Weights(original.model), Weights(pruned.model)

    def is_changed(self, weight: str, twin: str) -> bool:
        """Whether pruning has changed a weight itself."""
        return not np.array_equal(self._original.model.array(twin), self._pruned.model.array(weight))

    def fits(self) -> tuple[list[Fit], dict[str, str]]:
        """The layers that read a known tensor, in the order of the graph; why others that were changed do not.

        Of the former, those that cannot be refitted all the same say why: whether they were changed is seen later.
        """
        original, pruned = self._original, self._pruned
        layers = layers_of(pruned)
        twins = {layer.name: layer for layer in layers_of(original)}
        segments = Segments(pruned.model)
        surroundings = Surroundings(pruned, segments)
        found, left = [], {}
        for name in left_alone(pruned, layers):
            if name in original.model.weights and self.is_changed(name, name):
                left[name] = "no operator that multiplies with it is known"
        for layer in layers:
            reading, twin = reading_of(layer, pruned, segments), twins.get(layer.name)
            if twin is None:
                left[layer.name] = "the original has no such layer"
            elif isinstance(reading, Reading):
                why_not = self._why_not(layer, surroundings)
                found.append(Fit(layer, twin, Behind() if why_not else surroundings.behind(layer), reading, why_not))
            elif self.is_changed(layer.weight, twin.weight):
                left[layer.name] = reading
        return sorted(found, key=lambda fit: segments.maker[fit.layer.output]), left

    def _why_not(self, layer: Layer, surroundings: Surroundings) -> str:
        model = self._pruned.model
        if unfolding(layer, model.nodes[layer.node]) is None:
            return f"the rows of {layer.op_type} are not known"
        if not surroundings.alone(layer.weight):
            return "several nodes read its weight"
        return "" if self._weights[1].is_known(layer.weight) else "its weight is stored in a way that is not known"

    def repair(
        self,
        fit: Fit,
        wanted: Sequence[Mapping[str, Array]],
        there: Sequence[Mapping[str, Array]],
        solver: Solver,
        limit: int,
        seed: int,
    ) -> tuple[dict[str, Array], Repair] | str:
        """New stored values and what they are worth, or why there are none."""
        layer, behind, model = fit.layer, fit.behind, self._pruned.model
        first = Stored(self._original.model, self._weights[0], fit.twin, behind.bias, behind.factor).matrix()
        own = Stored(model, self._weights[1], layer, behind.bias, behind.factor)
        now = own.matrix()
        keep = (now != 0) | (first == 0)
        if own.free:
            keep[..., -1] = True
        rows = unfolding(layer, model.nodes[layer.node], limit, seed)
        assert rows is not None
        fitted, held = gathered(fit, rows, first, wanted, there, limit)
        if not isinstance(fitted.equations, Normal) and effort(keep) > WORK:
            return f"its {first.shape[2]:,} inputs are too many for masks that differ from output to output"
        start = Start(layer, first, now, keep, own.free)
        solved, inside = _solved(fitted, held, start, solver, behind.bounds)
        stored = own.put(solved)
        before, after = held.error(start.pruned, behind.bounds), held.error(own.meant(stored), behind.bounds)
        if after < before and held is not fitted:  # judged, so that what judged may be learnt from, too
            solved, _ = _solved(fitted.together(held), None, start, solver, behind.bounds if inside else None)
            stored = own.put(solved)
        return stored, Repair(layer.name, before, after, after < before)


def _solved(
    fitted: Evidence, held: Evidence | None, start: Start, solver: Solver, bounds: Bounds | None
) -> tuple[Float, bool]:
    """The weights, and whether they were fitted to what an activation lets through: if it is better where it counts."""
    solved, keep = solver(fitted.equations, start)
    normal = fitted.equations
    if bounds is None or keep is None or not isinstance(normal, Normal) or not worthwhile(keep, bounds):
        return solved, False
    within = fitted_within(normal, fitted.rows, solved, keep, start.free, bounds)
    better = held is None or held.error(within, bounds) < held.error(solved, bounds)
    return (within, True) if better else (solved, False)
