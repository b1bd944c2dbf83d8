"""Repair without training: each layer is refitted, in order, to make the original's outputs of the pruned inputs.

For every layer that reads something pruning has changed, the least squares problem

    min || X^ W^T + b - (X W0^T + b0 + S - S^) ||^2   with W zero where it is masked

is solved for W and b. X is what the layer reads in the original, X^ in the pruned model as repaired so far (He et al.,
Channel Pruning, ICCV 2017, arXiv 1707.06168; ThiNet, arXiv 1707.06342). S and S^ are the other operand of an Add that
reads the layer's output, in both models: the error that a shortcut carries already is absorbed by the branch.
Each repair is kept only if the error falls on samples that it was not fitted to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.dependency import Analysis
from onnxprune.layers import Layer, layers_of
from onnxprune.model import Model, Node
from onnxprune.model.segment import Segments
from onnxprune.recovery.leastsquares import RIDGE, Normal, solve
from onnxprune.recovery.rows import Unfolding, unfolding
from onnxprune.recovery.stepping import Feed, Stepper

__all__ = ["Repair", "reconstruct"]

Array: TypeAlias = npt.NDArray[Any]
HELD_OUT = 5  # one batch in so many judges repairs and takes no part in them


@dataclass(frozen=True, slots=True)
class Repair:
    """One layer: its error on held-out samples as a share of its outputs' energy, before and after; was it kept?"""

    layer: str
    before: float
    after: float
    kept: bool


@dataclass(frozen=True, slots=True)
class _Task:
    """A layer of the pruned model and its twin in the original, which read and make tensors of the same names."""

    layer: Layer
    twin: Layer
    shortcut: str  # the other operand of the Add behind it, where that is known before the layer runs


def reconstruct(
    original: Analysis,
    pruned: Analysis,
    batches: Sequence[Feed],
    *,
    limit: int = 256,
    ridge: float = RIDGE,
    seed: int = 0,
    threads: int = 1,
    watch: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Array], tuple[Repair, ...]]:
    """New values of the pruned model's weights, by name, and what each repair did.

    `pruned` is the original with weights set to zero (a mask), of the same nodes and shapes. A zero weight stays zero
    where the original's is not.
    """
    tasks = _tasks(original, pruned)
    stops = [frozenset({task.layer.data, task.shortcut} - {""}) for task in tasks]
    before = Stepper(original.model, batches, stops, original.shapes.dtype, threads)
    after = Stepper(pruned.model, batches, stops, pruned.shapes.dtype, threads)
    weights: dict[str, Array] = {}
    repairs: list[Repair] = []
    for number, task in enumerate(tasks):
        if watch is not None:
            watch(number, len(tasks))
        wanted, there = before.step(), after.step(weights)
        node = pruned.model.nodes[task.layer.node]
        rows = unfolding(task.layer, node, limit, seed)
        assert rows is not None
        if all(np.array_equal(a[task.layer.data], b[task.layer.data]) for a, b in zip(wanted, there, strict=True)):
            same = np.array_equal(original.model.array(task.twin.weight), pruned.model.array(task.layer.weight))
            if same:
                continue
        found, repair = _repaired(original, pruned, task, rows, wanted, there, ridge)
        repairs.append(repair)
        weights.update(found)
    return weights, tuple(repairs)


def _tasks(original: Analysis, pruned: Analysis) -> list[_Task]:
    """The layers that can be refitted, in the order of the graph: each weight has one reader, and rows that are known."""
    twins = {layer.name: layer for layer in layers_of(original)}
    layers = layers_of(pruned)
    readers: dict[str, int] = {}
    for node in pruned.model.nodes:
        for name in node.inputs:
            readers[name] = readers.get(name, 0) + 1
    segments = Segments(pruned.model)
    found = []
    for layer in layers:
        node = pruned.model.nodes[layer.node]
        twin = twins.get(layer.name)
        if twin is None or readers[layer.weight] > 1 or layer.data not in segments.live or node.within is not None:
            continue
        if unfolding(layer, node) is None or pruned.model.weights[layer.weight].dtype.kind != "f":
            continue
        found.append(_Task(layer, twin, _shortcut(pruned, segments, layer)))
    order = {name: k for k, name in enumerate(n for names in segments.makes for n in names)}
    return sorted(found, key=lambda task: order[task.layer.output])


def _shortcut(pruned: Analysis, segments: Segments, layer: Layer) -> str:
    """The other operand of the one Add that reads a layer's output, if it does not depend on that output."""
    readers: list[Node] = [node for node in pruned.model.nodes if layer.output in node.inputs]
    if len(readers) != 1 or readers[0].op_type != "Add" or len(set(readers[0].inputs)) != 2:
        return ""
    (other,) = (name for name in readers[0].inputs if name != layer.output)
    shapes = pruned.shapes.shape
    if other not in segments.live or shapes.get(other) != shapes.get(layer.output):
        return ""
    own = segments.maker[layer.output]
    if own in segments.needed([other], frozenset()):
        return ""
    first = min((k for k in (segments.maker.get(other),) if k is not None), default=-1)
    return other if first < own else ""


def _repaired(
    original: Analysis,
    pruned: Analysis,
    task: _Task,
    rows: Unfolding,
    wanted: Sequence[Mapping[str, Array]],
    there: Sequence[Mapping[str, Array]],
    ridge: float,
) -> tuple[dict[str, Array], Repair]:
    layer, model = task.layer, pruned.model
    groups, outputs, inputs, positions = layer.shape
    first = task.twin.matrix(original.model.array(task.twin.weight)).reshape(groups, outputs, -1)
    now = layer.matrix(model.array(layer.weight)).reshape(groups, outputs, -1)
    keep = ~((now == 0) & (first != 0))
    bias = original.model.array(task.twin.bias).reshape(groups, outputs, 1) if task.twin.bias else None
    extra = 0 if bias is None else 1
    size = inputs * positions + extra
    fitted, held = (Normal.empty(groups, size, outputs) for _ in range(2))
    target_weights = first if bias is None else np.concatenate([first, bias], axis=2)
    for number, (old, new) in enumerate(zip(wanted, there, strict=True)):
        x, seen = (_with_one(rows.rows(values[layer.data]), extra) for values in (old, new))
        y = x @ np.swapaxes(target_weights, 1, 2)
        if task.shortcut:
            y = y + rows.made(old[task.shortcut] - new[task.shortcut])
        (held if number % HELD_OUT == HELD_OUT - 1 else fitted).add(seen, y)
    start = now if bias is None else np.concatenate([now, model.array(layer.bias).reshape(groups, outputs, 1)], axis=2)
    mask = keep if bias is None else np.concatenate([keep, np.ones((groups, outputs, 1), np.bool_)], axis=2)
    start = start.astype(np.float64)
    solved = solve(fitted, start, mask, extra, ridge)
    judge = held if held.rows else fitted
    energy = max(float(judge.outer.sum()), 1e-30)
    before, after = judge.error(start) / energy, judge.error(solved) / energy
    repair = Repair(layer.name, before, after, after < before)
    if not repair.kept:
        return {}, repair
    weight = solved[..., : inputs * positions].reshape(layer.shape)
    dtype = model.weights[layer.weight].dtype
    found = {layer.weight: np.ascontiguousarray(layer.stored(weight.astype(dtype)))}
    if bias is not None:
        found[layer.bias] = solved[..., -1].reshape(model.weights[layer.bias].shape).astype(dtype)
    return found, repair


def _with_one(rows: Array, extra: int) -> Array:
    if not extra:
        return rows
    return np.concatenate([rows, np.ones((*rows.shape[:2], 1), rows.dtype)], axis=2)
