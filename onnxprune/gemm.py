"""A MatMul with a constant matrix is a Gemm: rows of the activation times the weight, plus a bias where one is added.

TensorRT takes Gemm for its sparse kernels in every version; of MatMul, users of version 8 report that it does not
(NVIDIA/TensorRT issue 2271), and one measurement on TensorRT 10.3 that it does, and that Gemm is then no faster
(onnxsim pull request 1764). So this is done on request alone.

1. Gemm has no batch: an activation of more than two axes is made a matrix by a Reshape and put back by another. What
   is dynamic stays so: one dynamic axis is the -1 of a constant target, of several the target is computed.
2. An Add of a constant row behind the product, its only reader, becomes Gemm's bias.
3. Weights and biases keep their names, their values and their order of axes, so a file can be compared with its origin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from onnxprune.analysis import Analysis
from onnxprune.layers import Layer, layers_of
from onnxprune.model import Edit, Model, Node

__all__ = ["Gemms", "with_gemms"]

OPSET = 11  # the first whose Gemm needs no bias


@dataclass(frozen=True)
class Gemms:
    """The model, the names of the nodes that became Gemm, and of those that did not, with the reason."""

    model: Model
    made: tuple[str, ...]
    left: Mapping[str, str]


def with_gemms(analysis: Analysis) -> Gemms:
    """The analysed model with a Gemm in place of every MatMul that has a constant matrix on its right."""
    model = analysis.model
    edit, made, left = Edit(model), [], {}
    readers = Counter(name for node in model.nodes for name in node.inputs)
    readers.update(value.name for value in model.outputs)
    readers.update(name for node in model.nodes for body in node.bodies.values() for name in body.outputs)
    for layer in layers_of(analysis):
        node = model.nodes[layer.node]
        if (node.op_type, node.domain) != ("MatMul", ""):
            continue
        reason = _why_not(analysis, layer)
        if reason:
            left[node.name] = reason
            continue
        _rewrite(analysis, edit, node, _added(analysis, node, readers))
        made.append(node.name)
    return Gemms(edit.done() if made else model, tuple(made), left)


def _why_not(analysis: Analysis, layer: Layer) -> str:
    opset = analysis.model.opsets.get("", 1)
    if opset < OPSET:
        return f"Gemm needs a bias before opset {OPSET}, and this is {opset}"
    if layer.operand != 1 or len(layer.operand_shape) != 2:
        return "its weight is no matrix on the right"
    shape = analysis.shapes.shape.get(layer.data)
    if shape is None or len(shape) < 2:
        return "its activation is no matrix" if shape is not None else "the shape of its activation is not known"
    dtype = analysis.shapes.dtype.get(layer.data)
    return "" if dtype is not None and dtype.kind == "f" else f"Gemm of {dtype} is not for every runtime"


def _added(analysis: Analysis, node: Node, readers: Mapping[str, int]) -> tuple[Node, str] | None:
    """The Add of a constant row behind a product, and that row (case 2)."""
    model, (made,) = analysis.model, node.outputs
    width = (analysis.shapes.shape.get(made) or (0,))[-1]
    for add in model.nodes if readers[made] == 1 else ():
        if add.op_type == "Add" and add.domain == "" and made in add.inputs and add.within == node.within:
            (other,) = [name for name in add.inputs if name != made]
            info = model.weights.get(other)
            if info is not None and len(info.shape) <= 2 and info.shape[-1:] == (width,) and prod(info.shape) == width:
                return add, other
    return None


def _rewrite(analysis: Analysis, edit: Edit, node: Node, added: tuple[Node, str] | None) -> None:
    shape, dynamic = analysis.shapes.shape[node.inputs[0]], analysis.shapes.dynamic[node.inputs[0]]
    assert shape is not None
    last, bias = (node, ()) if added is None else (added[0], (added[1],))
    data, weight = (edit.input_of(node.index, k) for k in (0, 1))
    if len(shape) == 2:
        edit.become(last.index, "Gemm", [data, weight, *bias])
        return
    columns, width = shape[-1], analysis.shapes.shape[node.outputs[0]][-1]  # type: ignore[index]
    name, at = node.name, last.index
    rows = edit.insert(at, "Reshape", [data, _sizes(edit, name, (-1, columns))], f"{name}/rows")
    product = edit.insert(at, "Gemm", [rows, weight, *bias], f"{name}/gemm")
    if sum(dynamic[:-1]) <= 1:  # case 1
        leading = tuple(-1 if moves else size for size, moves in zip(shape[:-1], dynamic[:-1], strict=True))
        target = _sizes(edit, name, (*leading, width))
    else:
        whole = edit.insert(at, "Shape", [data], f"{name}/shape")
        ends = [_sizes(edit, name, (k,)) for k in (0, len(shape) - 1)]
        first = edit.insert(at, "Slice", [whole, *ends], f"{name}/leading")
        target = edit.insert(at, "Concat", [first, _sizes(edit, name, (width,))], f"{name}/target", axis=0)
    edit.become(last.index, "Reshape", [product, target])


def _sizes(edit: Edit, name: str, sizes: tuple[int, ...]) -> str:
    return edit.add(f"{name}/sizes", np.array(sizes, np.int64))
