"""What is added to the graph for one request, and how its answer is put together from the outputs of all runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

import numpy as np

from onnxprune.calibration.graph import Graph, Source, Unanswerable
from onnxprune.calibration.rows import Bounds, rows_of
from onnxprune.calibration.views import View, batch_of, view_of
from onnxprune.dependency import Analysis
from onnxprune.model import Array
from onnxprune.statistics import Gram, GramMatrix, IndexMoments, Maps, Moments, Pooled, Request

__all__ = ["Answer", "Merge", "Tap", "tap_of"]

Answer: TypeAlias = IndexMoments | GramMatrix | Array
LARGEST = 1 << 30  # bytes of one Gram matrix, as float64


class Merge(Enum):
    """How what several runs give becomes one: sums are of samples, so those of repeated ones can be taken off."""

    SUM = "sum"
    LARGEST = "largest"
    ROWS = "rows"


@dataclass(frozen=True)
class Tap:
    """`add` gives the outputs that are to be merged, `answer` makes of them what was asked for.

    Taps of one `key` are the same. `held` is the bytes of its outputs, `passing` those of what it makes for one sample.
    `samples` is how many samples it wants, None for all.
    """

    key: object
    add: Callable[[Graph], Mapping[str, tuple[str, Merge]]]
    answer: Callable[[Mapping[str, Array]], Answer]
    held: int
    passing: int
    samples: int | None = None
    finish: Callable[[Answer], Answer] = field(default=lambda answer: answer)


def tap_of(request: Request, analysis: Analysis, graph: Graph, bounds: Bounds) -> Tap:
    """What answers a request; `Unanswerable` says why nothing does."""
    if isinstance(request, Gram):
        return _gram(request, analysis, graph, bounds)
    source = graph.source(request.tensor)
    shape = graph.shapes.shape.get(source.tensor)
    if shape is None or 0 in shape:
        raise Unanswerable(f"the shape of {request.tensor!r} is not known")
    if not -len(shape) <= request.axis < len(shape):
        raise Unanswerable(f"{request.tensor!r} has no axis {request.axis}")
    axis = request.axis % len(shape)
    numbers = int(np.prod(shape)) // bounds.batch + 1
    if isinstance(request, Moments):
        return _moments(source, axis, len(shape), shape[axis], numbers)
    batch = batch_of(analysis, source.tensor, shape, bounds.batch, bounds.alone)
    if batch is None:
        raise Unanswerable(f"it is not known along which axis of {request.tensor!r} the samples lie")
    if batch.axis == axis:
        raise Unanswerable(f"axis {axis} of {request.tensor!r} is that of the samples")
    view = view_of(shape, batch, ((axis,),))
    if isinstance(request, Pooled):
        return _pooled(source, view, numbers)
    rest = tuple(size for k, size in enumerate(shape) if k not in (axis, batch.axis))
    return _maps(source, view, rest if batch.before == batch.after == 1 else (view.rest,), request, numbers)


def _moments(source: Source, axis: int, rank: int, indices: int, numbers: int) -> Tap:
    def add(graph: Graph) -> Mapping[str, tuple[str, Merge]]:
        name = graph.at(source)
        axes = [k for k in range(rank) if k != axis]
        magnitude, double = graph.add("Abs", name), graph.double(name)
        largest = graph.reduce("ReduceMax", magnitude, axes)
        found = {
            "count": (graph.give(graph.add("Size", name), np.int64), Merge.SUM),
            "maximum": (graph.give(largest, np.float32), Merge.LARGEST),
        }
        made = {
            "total": double,
            "absolute": graph.double(magnitude),
            "squares": graph.add("Mul", double, double),
            "others": graph.truth(name),
        }
        for what, terms in made.items():
            found[what] = (graph.give(graph.reduce("ReduceSum", terms, axes), np.float64), Merge.SUM)
        return found

    def answer(merged: Mapping[str, Array]) -> IndexMoments:
        count = round(float(merged["count"])) // indices
        zeros = np.rint(count - merged["others"])
        return IndexMoments(
            count, merged["total"], merged["absolute"], merged["squares"], zeros, merged["maximum"].astype(np.float64)
        )

    return Tap(("moments", source, axis), add, answer, 40 * indices, 40 * numbers)


def _pooled(source: Source, view: View, numbers: int) -> Tap:
    def add(graph: Graph) -> Mapping[str, tuple[str, Merge]]:
        name = graph.double(graph.turned(graph.at(source), view))
        return {"means": (graph.give(graph.reduce("ReduceMean", name, [1]), np.float64), Merge.ROWS)}

    return Tap(("pooled", source, view), add, lambda merged: merged["means"], 0, 16 * numbers)


def _maps(source: Source, view: View, rest: tuple[int, ...], request: Maps, numbers: int) -> Tap:
    def add(graph: Graph) -> Mapping[str, tuple[str, Merge]]:
        name = graph.transpose(graph.turned(graph.at(source), view), (0, 2, 1))
        return {"maps": (graph.give(graph.reshape(name, (-1, view.sizes[2], *rest)), np.float32), Merge.ROWS)}

    key = ("maps", source, view, request.samples)
    return Tap(key, add, lambda merged: merged["maps"], 0, 12 * numbers, request.samples)


def _gram(request: Gram, analysis: Analysis, graph: Graph, bounds: Bounds) -> Tap:
    rows, shared = rows_of(analysis, graph, request.layer, bounds)
    size = 8 * rows.groups * rows.columns**2
    if size > LARGEST:
        raise Unanswerable(
            f"its matrix of {rows.columns} x {rows.columns} numbers takes {size >> 20} MiB, more than {LARGEST >> 20}"
        )

    def add(graph: Graph) -> Mapping[str, tuple[str, Merge]]:
        name = rows.add(graph)
        product = graph.add("MatMul", graph.transpose(name, (0, 2, 1)), name)
        return {
            "matrix": (graph.give(product, np.float32), Merge.SUM),
            "total": (graph.give(graph.reduce("ReduceSum", name, [1]), np.float32), Merge.SUM),
            "numbers": (graph.give(graph.add("Size", name), np.int64), Merge.SUM),
        }

    def answer(merged: Mapping[str, Array]) -> GramMatrix:
        count = round(float(merged["numbers"])) // (rows.groups * rows.columns)
        return GramMatrix(merged["matrix"], merged["total"], count)

    def finish(found: Answer) -> Answer:
        assert isinstance(found, GramMatrix)
        if rows.groups == request.layer.shape[0]:
            return found
        groups = request.layer.operand_shape[:-2] if len(shared) > 1 else request.layer.shape[:1]
        matrix, total = (
            np.broadcast_to(a.reshape(*shared, *a.shape[1:]), (*groups, *a.shape[1:])).reshape(-1, *a.shape[1:])
            for a in (found.matrix, found.total)
        )
        return GramMatrix(matrix, total, found.rows)

    passing = 8 * rows.positions * rows.groups * rows.columns
    return Tap(("gram", rows), add, answer, size // 2, passing, finish=finish)
