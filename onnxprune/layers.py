"""Every product of an activation with a weight, in one form: groups x outputs x inputs x positions.

A convolution, a matrix product, a recurrence and an embedding store their weights in orders of their own. Here a
*layer* is one node that contracts one stored weight, and `Layer.matrix` shows that weight as an array of shape
(G, O, I, K): G independent groups, O outputs and I inputs of each, K positions (of a kernel; 1 elsewhere).
`Layer.stored` is the way back. What is between the weight and the node and only moves numbers (Transpose, Cast,
Identity) or dequantizes them is looked through, so a weight is found where it is stored.

Whoever masks, scores or repairs single weights works on layers; whoever cuts channels works on dimension types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

import numpy as np

from onnxprune.dependency import Analysis
from onnxprune.model import Array, Node
from onnxprune.weights import is_parameter

__all__ = ["LOOKED_THROUGH", "Layer", "layers_of", "left_alone"]

LOOKED_THROUGH = frozenset({"Cast", "DequantizeLinear", "Identity", "Transpose"})


@dataclass(frozen=True, slots=True)
class Layer:
    """Node `node` multiplies input `operand`, which is weight `weight`, with activation `data` along its `data_axis`.

    `data` is empty where no single tensor is multiplied (the state of a recurrence, the indices of an embedding).
    `bias` is a stored constant with one number for each of the G x O outputs, "" where there is none; they leave along
    `output_axis` of `output`. `name` is unique in the model.
    """

    name: str
    node: int
    op_type: str
    operand: int
    weight: str
    data: str
    data_axis: int
    output: str
    output_axis: int
    bias: str
    shape: tuple[int, int, int, int]
    operand_shape: tuple[int, ...]
    moved: tuple[int, ...]  # axis k of the operand is axis moved[k] of the stored weight
    split: tuple[int, ...]  # the operand, its axes split or merged ...
    order: tuple[int, ...]  # ... and then put in the order groups, outputs, inputs, positions

    @property
    def numbers(self) -> int:
        """How many weights the layer has."""
        return prod(self.shape)

    def matrix(self, stored: Array) -> Array:
        """An array that has the shape of the stored weight, as (G, O, I, K)."""
        return np.asarray(stored.transpose(self.moved).reshape(self.split).transpose(self.order).reshape(self.shape))

    def stored(self, matrix: Array) -> Array:
        """An array of shape (G, O, I, K) in the order of the stored weight, with its shape."""
        ordered = matrix.reshape([self.split[k] for k in self.order]).transpose(np.argsort(self.order))
        return np.asarray(ordered.reshape(self.operand_shape).transpose(np.argsort(self.moved)))


@dataclass(frozen=True, slots=True)
class _Form:
    """How an operator stores a weight: its shape split up, the order of (G, O, I, K), the axes that meet and leave."""

    split: tuple[int, ...]
    order: tuple[int, ...]
    shape: tuple[int, int, int, int]
    data: int | None
    data_axis: int
    output_axis: int
    bias: int | None = None


Shape: TypeAlias = tuple[int, ...]
_Former: TypeAlias = Callable[[Node, Shape], _Form | None]
_AS_IT_IS = (0, 1, 2, 3)
_INPUTS_FIRST = (0, 2, 1, 3)


def _conv(data: int, bias: int | None) -> _Former:
    def form(node: Node, shape: Shape) -> _Form:
        groups = int(node.attributes.get("group", 1))
        own = (groups, shape[0] // groups, shape[1], prod(shape[2:]))
        return _Form(own, _AS_IT_IS, own, data, 1, 1, bias)

    return form


def _conv_transpose(node: Node, shape: Shape) -> _Form:
    groups = int(node.attributes.get("group", 1))
    split = (groups, shape[0] // groups, shape[1], prod(shape[2:]))
    return _Form(split, _INPUTS_FIRST, (groups, shape[1], shape[0] // groups, split[3]), 0, 1, 1, 2)


def _gemm(data: int, bias: int) -> _Former:
    def form(node: Node, shape: Shape) -> _Form:
        axis = 0 if node.attributes.get("transA") else 1
        if node.attributes.get("transB"):
            own = (1, *shape, 1)
            return _Form(own, _AS_IT_IS, (1, shape[0], shape[1], 1), data, axis, 1, bias)
        return _Form((1, *shape, 1), _INPUTS_FIRST, (1, shape[1], shape[0], 1), data, axis, 1, bias)

    return form


def _matmul(data: int, bias: int | None = None) -> _Former:
    def form(node: Node, shape: Shape) -> _Form | None:
        if node.attributes.get("transBatchA") or node.attributes.get("transBatchB"):
            return None
        axis = -2 if node.attributes.get("transA") else -1
        groups = prod(shape[:-2])
        split = (groups, *shape[-2:], 1)
        if node.attributes.get("transB"):
            return _Form(split, _AS_IT_IS, (groups, shape[-2], shape[-1], 1), data, axis, -1, bias)
        return _Form(split, _INPUTS_FIRST, (groups, shape[-1], shape[-2], 1), data, axis, -1, bias)

    return form


def _recurrent(data: int | None) -> _Former:
    def form(node: Node, shape: Shape) -> _Form:
        own = (shape[0], shape[1], shape[2], 1)
        return _Form(own, _AS_IT_IS, own, data, -1, -1)

    return form


def _embedding(node: Node, shape: Shape) -> _Form | None:
    if node.attributes.get("axis", 0) != 0:
        return None
    own = (1, shape[0], prod(shape[1:]), 1)
    return _Form(own, _AS_IT_IS, own, None, 0, -1)


def _einsum(operand: int) -> _Former:
    def form(node: Node, shape: Shape) -> _Form | None:
        """A letter of the weight is a group (in data and output), an output (there alone) or an input (in data)."""
        terms, arrow, made = str(node.attributes.get("equation")).replace(" ", "").partition("->")
        both = terms.split(",")
        if not arrow or len(both) != 2 or "." in terms or any(len(set(t)) != len(t) for t in (*both, made)):
            return None
        own, other = both[operand], both[1 - operand]
        groups = [k for k, letter in enumerate(own) if letter in other and letter in made]
        outputs = [k for k, letter in enumerate(own) if letter not in other]
        inputs = [k for k, letter in enumerate(own) if letter in other and letter not in made]
        if not inputs or any(own[k] not in made for k in outputs):
            return None
        sizes = [prod(shape[k] for k in part) for part in (groups, outputs, inputs)]
        one = len(inputs) == 1 and len(outputs) == 1 and not groups
        return _Form(
            (*shape, 1), (*groups, *outputs, *inputs, len(shape)), (sizes[0], sizes[1], sizes[2], 1),
            1 - operand if one else None, other.index(own[inputs[0]]), made.index(own[outputs[0]]) if outputs else -1,
        )  # fmt: skip

    return form


_PRODUCTS = ("MatMul", "FusedMatMul", "TransposeMatMul", "MatMulInteger")
_FORMS: Mapping[str, Mapping[int, _Former]] = {
    **{name: {1: _conv(0, 2)} for name in ("Conv", "FusedConv")},
    "ConvInteger": {1: _conv(0, None)},
    "DeformConv": {1: _conv(0, 3)},
    "QLinearConv": {3: _conv(0, 8)},
    "ConvTranspose": {1: _conv_transpose},
    **{name: {1: _gemm(0, 2)} for name in ("Gemm", "FusedGemm")},
    "QGemm": {3: _gemm(0, 6)},
    **{name: {1: _matmul(0)} for name in _PRODUCTS},
    "QLinearMatMul": {3: _matmul(0)},
    "MatMulIntegerToFloat": {1: _matmul(0, 6)},
    "DynamicQuantizeMatMul": {1: _matmul(0, 4)},
    **{name: {1: _recurrent(0), 2: _recurrent(None)} for name in ("LSTM", "GRU", "RNN")},
    **{name: {1: _matmul(0, 2)} for name in ("Attention", "QAttention")},
    "Einsum": {0: _einsum(0), 1: _einsum(1)},
    "Gather": {0: _embedding},
}


def layers_of(analysis: Analysis, embeddings: bool = False) -> tuple[Layer, ...]:
    """Every layer of the model, in the order of the graph; embeddings (Gather from a weight) only on request.

    A weight that several nodes read is in as many layers.
    """
    makers = {name: node for node in analysis.model.nodes for name in node.outputs}
    found: list[Layer] = []
    names: set[str] = set()
    for node in analysis.model.nodes:
        if node.index in analysis.model.spent or (node.op_type == "Attention" and node.domain == ""):
            continue
        if node.op_type == "Gather" and not embeddings:
            continue
        for layer in _of_node(analysis, node, makers):
            name = layer.name if layer.name not in names else f"{layer.name}.{layer.operand}"
            names.add(name)
            found.append(layer if name == layer.name else replace(layer, name=name))
    return tuple(found)


def left_alone(analysis: Analysis, layers: tuple[Layer, ...]) -> tuple[str, ...]:
    """The parameters of rank two or more that no layer holds, in the order of the model."""
    held = {layer.weight for layer in layers}
    return tuple(
        name
        for name, info in analysis.model.weights.items()
        if is_parameter(info) and len(info.shape) > 1 and name not in held and prod(info.shape) > max(info.shape)
    )


def _of_node(analysis: Analysis, node: Node, makers: Mapping[str, Node]) -> Iterator[Layer]:
    for operand, former in _FORMS.get(node.op_type, {}).items():
        if operand >= len(node.inputs):
            continue
        found = _stored(analysis, node.inputs[operand], makers)
        if found is None:
            continue
        weight, moved = found
        stored = analysis.model.weights[weight].shape
        shape = tuple(stored[axis] for axis in moved)
        form = former(node, shape) if len(shape) > 1 else None
        if form is None:
            continue
        bias = "" if form.bias is None or form.bias >= len(node.inputs) else node.inputs[form.bias]
        stored_bias = _stored(analysis, bias, makers, rank=1) if bias else None
        yield Layer(
            node.name, node.index, node.op_type, operand, weight,
            "" if form.data is None else node.inputs[form.data], form.data_axis,
            node.outputs[0], form.output_axis, "" if stored_bias is None else stored_bias[0],
            form.shape, shape, moved, form.split, form.order,
        )  # fmt: skip


def _stored(
    analysis: Analysis, name: str, makers: Mapping[str, Node], rank: int = 2
) -> tuple[str, tuple[int, ...]] | None:
    """The constant that `name` is, moved or dequantized, and the order of its axes; None where it is no parameter."""
    model = analysis.model
    orders: list[tuple[int, ...]] = []
    while name not in model.weights or name in model.folded:
        node = makers.get(name)
        if node is None or name in model.folded or node.op_type not in LOOKED_THROUGH:
            return None
        if node.op_type == "Transpose":
            perm = node.attributes.get("perm")
            shape = analysis.shapes.shape.get(name)
            orders.append(tuple(perm) if perm is not None else tuple(range(len(shape or ())))[::-1])
        name = node.inputs[0]
    info = model.weights[name]
    if len(info.shape) < rank or not (is_parameter(info) or rank == 1):
        return None
    moved = tuple(range(len(info.shape)))
    for order in reversed(orders):
        moved = tuple(moved[axis] for axis in order)
    return name, moved
