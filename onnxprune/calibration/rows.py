"""What a layer multiplies its weights with, as rows: a view of a tensor, for convolutions with their patches gathered.

Layers that read the same rows share one matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from onnxprune.calibration.geometry import Window
from onnxprune.calibration.graph import Graph, Source, Unanswerable
from onnxprune.calibration.views import View, batch_of, view_of
from onnxprune.dependency import Analysis
from onnxprune.layers import Layer
from onnxprune.model import Array

__all__ = ["Bounds", "Rows", "rows_of"]

_CONVOLUTIONS = frozenset({"Conv", "FusedConv", "ConvInteger", "QLinearConv", "ConvTranspose"})
_PRODUCTS = frozenset(
    {"MatMul", "FusedMatMul", "TransposeMatMul", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
     "QLinearMatMul"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many samples a run has (`alone`: always one), how many rows of one sample count at most, and their choice."""

    batch: int
    alone: bool
    rows: int
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Rows:
    """`view` of `source` is (samples, input positions, groups x inputs).

    `table` says which input positions each of `positions` x `kernel` reads, as bytes of int64, -1 for none; empty where
    each is read as it is.
    """

    source: Source
    view: View
    positions: int
    kernel: int
    groups: int
    inputs: int
    table: bytes

    @property
    def columns(self) -> int:
        """How many numbers a row has."""
        return self.inputs * self.kernel

    def add(self, graph: Graph) -> str:
        """Add the nodes that make the rows, float32 of shape (groups, rows, columns)."""
        name = graph.turned(graph.at(self.source), self.view)
        if self.table:
            read = np.frombuffer(self.table, np.int64)
            name = graph.add("Gather", name, graph.constant(np.maximum(read, 0)), axis=1)
            if (read < 0).any():
                name = graph.add("Mul", name, graph.constant((read >= 0).astype(np.float32)[:, None]))
        if self.kernel > 1 or self.groups > 1:
            name = graph.reshape(name, (-1, self.kernel, self.groups, self.inputs))
            name = graph.transpose(name, (2, 0, 3, 1))
        return graph.reshape(name, (self.groups, -1, self.columns))


def rows_of(analysis: Analysis, graph: Graph, layer: Layer, bounds: Bounds) -> tuple[Rows, tuple[int, ...]]:
    """The rows of a layer, and the shape of their groups, which broadcasts to that of the layer's own.

    `Unanswerable` says why there are none.
    """
    node = graph.model.nodes[layer.node]
    if not layer.data:
        raise Unanswerable(f"no single tensor of the graph is what {node} multiplies {layer.weight!r} with")
    operand = node.inputs.index(layer.data)
    source = graph.source(layer.data, node, operand)
    shape, output = graph.shapes.shape.get(source.tensor), graph.shapes.shape.get(layer.output)
    if shape is None or output is None:
        raise Unanswerable(f"the shape of {layer.data!r} is not known")
    if node.op_type in _CONVOLUTIONS:
        return _patches(graph, layer, source, shape, output, bounds), (layer.shape[0],)
    if node.op_type == "DeformConv":
        raise Unanswerable(f"where {node} reads is computed from data")
    axis = layer.data_axis % len(shape)
    axes, shared = _group_axes(layer, shape) if node.op_type in _PRODUCTS else ((), (1,))
    batch = batch_of(analysis, source.tensor, shape, bounds.batch, bounds.alone)
    if batch is not None and batch.axis in (axis, *axes):
        raise Unanswerable(f"{node} multiplies along the axis of the samples")
    view = view_of(shape, batch, (axes, (axis,)))
    chosen = _chosen(view.rest, bounds)
    table = b"" if len(chosen) == view.rest else chosen.tobytes()
    groups, inputs = view.sizes[2:]
    merged = View(view.split, view.order, (*view.sizes[:2], groups * inputs))
    return Rows(source, merged, len(chosen), 1, groups, inputs, table), shared


def _patches(
    graph: Graph, layer: Layer, source: Source, shape: tuple[int, ...], output: tuple[int, ...], bounds: Bounds
) -> Rows:
    node = graph.model.nodes[layer.node]
    if node.attributes.get("channels_last"):
        raise Unanswerable(f"{node} has its channels last")
    groups, _, inputs, kernel = layer.shape
    window = Window(
        shape[2:], output[2:], layer.operand_shape[2:], node.attributes, transposed=node.op_type == "ConvTranspose"
    )
    table = window.table()
    table = np.ascontiguousarray(table[_chosen(len(table), bounds)])
    plain = kernel == 1 and np.array_equal(table[:, 0], np.arange(prod(shape[2:])))
    view = View(None, (0, *range(2, len(shape)), 1), (-1, prod(shape[2:]), shape[1]))
    return Rows(source, view, len(table), kernel, groups, inputs, b"" if plain else table.tobytes())


def _group_axes(layer: Layer, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of the data that go with axes of a batch of weights, and the shape of the groups (1: shared data)."""
    axes, sizes = [], []
    for back, size in enumerate(reversed(layer.operand_shape[:-2]), 3):
        own = shape[-back] if back <= len(shape) else 1
        if size > 1 and own == size:
            axes.append(len(shape) - back)
        sizes.append(size if own == size else 1)
    return tuple(reversed(axes)), tuple(reversed(sizes)) or (1,)


def _chosen(count: int, bounds: Bounds) -> Array:
    """The positions that count, in their order: all, or as many as the bounds allow, chosen by their seed."""
    if count <= bounds.rows:
        return np.arange(count)
    return np.sort(np.random.default_rng(bounds.seed).permutation(count)[: bounds.rows])
