"""Repair without training: each layer is refitted, in order, to make the original's outputs of the pruned inputs.

For every layer that reads something pruning has changed, the least squares problem

    min || X^ W^T + b - (X W0^T + b0 + S - S^) ||^2   with W zero where it is masked

is solved for W and b. X is what the layer reads in the original, X^ in the pruned model as repaired so far (He et al.,
Channel Pruning, ICCV 2017, arXiv 1707.06168; ThiNet, arXiv 1707.06342). S and S^ are the other operand of an Add that
reads the layer's output, in both models: the error that a shortcut carries already is absorbed by the branch. Where a
ReLU or a Clip follows, what it cuts off is no error (`clipping`).
Each repair is kept only if the error falls on samples that it was not fitted to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.dependency import Analysis
from onnxprune.layers import Layer, layers_of
from onnxprune.model import Node
from onnxprune.model.segment import Segments
from onnxprune.recovery.behind import Behind, Surroundings
from onnxprune.recovery.clipping import Bounds, Rows, error, fitted_within, worthwhile
from onnxprune.recovery.leastsquares import Normal, solve
from onnxprune.recovery.rows import unfolding
from onnxprune.recovery.stepping import Feed, Stepper

__all__ = ["Fit", "Repair", "Repaired", "Solver", "Start", "is_held_out", "least_squares", "repaired"]

Array: TypeAlias = npt.NDArray[Any]
Float: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
LIMIT = 256  # rows of each sample
ROWS_HELD = 256 << 20  # bytes of rows of one layer that are held at once, where an activation follows
HELD_OUT = 5  # one batch in so many judges repairs and takes no part in them


@dataclass(frozen=True, slots=True)
class Repair:
    """One layer: its error on held-out samples as a share of its outputs' energy, before and after; was it kept?"""

    layer: str
    before: float
    after: float
    kept: bool


@dataclass(frozen=True, slots=True)
class Fit:
    """A layer of the pruned model, its twin in the original, and what lies behind it; `shortcut` in the original.

    The graphs may differ: where a residual branch is gone, what was read behind it is what went into it.
    """

    layer: Layer
    twin: Layer
    behind: Behind
    shortcut: str


@dataclass(frozen=True, slots=True)
class Repaired:
    """New values of weights by their names in the original, and in the pruned model, and what each repair did."""

    values: Mapping[str, Array]
    pruned_values: Mapping[str, Array]
    repairs: tuple[Repair, ...]


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


Solver: TypeAlias = Callable[[Normal, Start], tuple[Float, Mask | None]]
"""From normal equations and where a layer stands, its new weights (G, O, d) and which of them are free to move on."""


def least_squares(normal: Normal, start: Start) -> tuple[Float, Mask | None]:
    """The weights that fit best: see `leastsquares.solve`."""
    return solve(normal, start.pruned, start.keep, start.free), start.keep


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

    `pruned` is the original with weights set to zero (a mask), of the same shapes, and of the same nodes but for
    residual branches that are gone: a weight that is zero there and not in the original stays zero. `limit` is how
    many rows of each sample a fit takes at most.
    Errors: `RunFailed`.
    """
    fits = _fits(original, pruned)
    first = [frozenset({fit.twin.data, fit.shortcut} - {""}) for fit in fits]
    before = Stepper(original.model, batches, first, original.shapes.dtype, threads)
    stops = [frozenset({fit.layer.data, fit.behind.shortcut} - {""}) for fit in fits]
    after = Stepper(pruned.model, batches, stops, pruned.shapes.dtype, threads)
    values: dict[str, Array] = {}
    found: dict[str, Array] = {}
    repairs: list[Repair] = []
    for number, fit in enumerate(fits):
        if watch is not None:
            watch(number, len(fits))
        wanted, there = before.step(), after.step(values)
        if _is_untouched(original, pruned, fit, wanted, there):
            continue
        new, repair = _repair(original, pruned, fit, wanted, there, solver, limit, seed)
        repairs.append(repair)
        if new is not None:
            weight, bias = new
            values[fit.layer.weight] = found[fit.twin.weight] = weight
            if bias is not None:
                values[fit.behind.bias] = found[fit.behind.bias] = bias
    return Repaired(found, values, tuple(repairs))


def _is_untouched(
    original: Analysis,
    pruned: Analysis,
    fit: Fit,
    wanted: Sequence[Mapping[str, Array]],
    there: Sequence[Mapping[str, Array]],
) -> bool:
    """Whether pruning has changed neither what a layer reads nor its weights."""
    pairs = zip(wanted, there, strict=True)
    return all(np.array_equal(a[fit.twin.data], b[fit.layer.data]) for a, b in pairs) and np.array_equal(
        original.model.array(fit.twin.weight), pruned.model.array(fit.layer.weight)
    )


def _fits(original: Analysis, pruned: Analysis) -> list[Fit]:
    """The layers that can be refitted, in the order of the graph: floats of one reader, in the main graph."""
    twins = {layer.name: layer for layer in layers_of(original)}
    segments = Segments(pruned.model)
    surroundings = Surroundings(pruned, segments)
    first = surroundings if pruned.model.nodes == original.model.nodes else None
    first = first or Surroundings(original, Segments(original.model))
    found = []
    for layer in layers_of(pruned):
        node, twin = pruned.model.nodes[layer.node], twins.get(layer.name)
        if twin is None or surroundings.readers(layer.weight) > 1 or layer.data not in segments.live:
            continue
        if unfolding(layer, node) is None or pruned.model.weights[layer.weight].dtype.kind != "f":
            continue
        behind, shortcut = surroundings.behind(layer), first.behind(twin).shortcut
        if bool(behind.shortcut) != bool(shortcut):  # in one of them the branch is gone that the layer was beside
            behind, shortcut = replace(behind, shortcut="", scale=None, bounds=None), ""
        found.append(Fit(layer, twin, behind, shortcut))
    return sorted(found, key=lambda fit: segments.maker[fit.layer.output])


def _repair(
    original: Analysis,
    pruned: Analysis,
    fit: Fit,
    wanted: Sequence[Mapping[str, Array]],
    there: Sequence[Mapping[str, Array]],
    solver: Solver,
    limit: int,
    seed: int,
) -> tuple[tuple[Array, Array | None] | None, Repair]:
    layer, behind, model = fit.layer, fit.behind, pruned.model
    first = fit.twin.matrix(original.model.array(fit.twin.weight)).reshape(*layer.shape[:2], -1)
    now = layer.matrix(model.array(layer.weight)).reshape(first.shape)
    keep = (now != 0) | (first == 0)
    free = 1 if behind.bias else 0
    if free:
        biases = [behind.sign * m.array(behind.bias).reshape(*layer.shape[:2], 1) for m in (original.model, model)]
        first, now = (np.concatenate(pair, axis=2) for pair in zip((first, now), biases, strict=True))
        keep = np.concatenate([keep, np.ones_like(biases[0], np.bool_)], axis=2)
    fitted, held = _evidence(fit, model.nodes[layer.node], first, wanted, there, free, limit, seed)
    start = Start(layer, first.astype(np.float64), now.astype(np.float64), keep, free)
    solved, inside = _solved(fitted, held, start, solver, behind.bounds)
    before, after = held.error(start.pruned, behind.bounds), held.error(solved, behind.bounds)
    repair = Repair(layer.name, before, after, after < before)
    if not repair.kept:
        return None, repair
    if held is not fitted:  # judged, so that what judged may be learnt from, too
        solved, _ = _solved(fitted.together(held), None, start, solver, behind.bounds if inside else None)
    stored = model.weights[layer.weight]
    weight = np.ascontiguousarray(layer.stored(solved[..., : first.shape[2] - free].reshape(layer.shape)))
    if not free:
        return (weight.astype(stored.dtype), None), repair
    info = model.weights[behind.bias]
    bias = (behind.sign * solved[..., -1]).reshape(info.shape).astype(info.dtype)
    return (weight.astype(stored.dtype), bias), repair


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Samples of a layer: their normal equations, and some of their rows where an activation follows."""

    normal: Normal
    rows: list[Rows]

    def together(self, other: _Evidence) -> _Evidence:
        return _Evidence(self.normal.together(other.normal), self.rows + other.rows)

    def error(self, weights: Float, bounds: Bounds | None) -> float:
        """As a share of the energy: of what comes through the activation, where one follows."""
        if bounds is None:
            return self.normal.error(weights) / max(float(self.normal.outer.sum()), 1e-30)
        lost, energy = error(self.rows, weights, bounds)
        return lost / max(energy, 1e-30)


def _solved(
    fitted: _Evidence, held: _Evidence | None, start: Start, solver: Solver, bounds: Bounds | None
) -> tuple[Float, bool]:
    """The weights, and whether they were fitted to what an activation lets through: if it is better where it counts."""
    solved, keep = solver(fitted.normal, start)
    if bounds is None or keep is None or not worthwhile(keep, bounds):
        return solved, False
    within = fitted_within(fitted.normal, fitted.rows, solved, keep, start.free, bounds)
    better = held is None or held.error(within, bounds) < held.error(solved, bounds)
    return (within, True) if better else (solved, False)


def _evidence(
    fit: Fit,
    node: Node,
    first: Array,
    wanted: Sequence[Mapping[str, Array]],
    there: Sequence[Mapping[str, Array]],
    free: int,
    limit: int,
    seed: int,
) -> tuple[_Evidence, _Evidence]:
    """What there is of the samples that are fitted, and of those that judge."""
    layer, behind = fit.layer, fit.behind
    rows = unfolding(layer, node, limit, seed)
    assert rows is not None
    turned = np.swapaxes(first, 1, 2)
    fitted, held = (_Evidence(Normal.empty(len(first), first.shape[2], first.shape[1]), []) for _ in range(2))
    for number, (old, new) in enumerate(zip(wanted, there, strict=True)):
        x, seen = (_with_one(rows.rows(x), free) for x in (old[fit.twin.data], new[layer.data]))
        y = x @ turned
        beside = np.zeros((1, 1, 1), y.dtype)
        if behind.shortcut:
            both = old[fit.shortcut], new[behind.shortcut]
            whole, beside = (behind.share(rows.made(values), len(first)) for values in both)
            y = y + whole - beside
        evidence = held if is_held_out(number, len(wanted)) else fitted
        evidence.normal.add(seen, y)
        if behind.bounds is not None:
            share = ROWS_HELD / (seen.nbytes + 2 * y.nbytes) / len(wanted)
            evidence.rows.append(Rows(seen, y, np.broadcast_to(beside, y.shape)).thinned(share))
    return fitted, held if held.normal.rows else fitted


def is_held_out(number: int, batches: int) -> bool:
    """Whether batch `number` judges repairs and takes no part in them: one in five, the last of fewer, none of one."""
    return number % HELD_OUT == HELD_OUT - 1 or (1 < batches < HELD_OUT and number == batches - 1)


def _with_one(rows: Array, free: int) -> Array:
    """A column of ones, whose weight is the bias, behind the others."""
    return np.concatenate([rows, np.ones((*rows.shape[:2], 1), rows.dtype)], axis=2) if free else rows
