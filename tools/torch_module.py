"""A convolutional ONNX model as a torch module that computes the same, and its weights back into the model.

For other tools, which want a live module: `torch` is imported here and nowhere in onnxprune. Known operators are those
of residual networks (`STEPS`); shapes and pads that constants make are computed. Whoever uses it compares the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

__all__ = ["Twin", "twin"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Twin:
    """The module, and the names that the weight and the bias of each of its layers have in the model."""

    module: Any
    names: Mapping[str, tuple[str, str | None]]

    def layer(self, weight: str) -> Any:
        """The layer whose weight has that name in the model."""
        return self.module.get_submodule(next(name for name, (found, _) in self.names.items() if found == weight))

    def written(self, model: onnx.ModelProto, module: Any) -> onnx.ModelProto:
        """The model with the weights that `module`, a pruned copy of ours, has now; shapes in between are left out."""
        values: dict[str, Array] = {}
        for name, (weight, bias) in self.names.items():
            layer = module.get_submodule(name)
            values[weight] = layer.weight.detach().numpy()
            if bias is not None:
                values[bias] = layer.bias.detach().numpy()
        made = onnx.ModelProto()
        made.CopyFrom(model)
        for tensor in made.graph.initializer:
            if tensor.name in values:
                tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values[tensor.name]), tensor.name))
        del made.graph.value_info[:]
        return made


def twin(model: onnx.ModelProto) -> Twin:
    """The model as a module; `ValueError` for an operator that is not in `STEPS`."""
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    (entry,) = (value for value in model.graph.input if value.name not in known)
    graph = torch.fx.Graph()
    values: dict[str, Any] = {entry.name: graph.placeholder("x")}
    layers: dict[str, Any] = {}
    names: dict[str, tuple[str, str | None]] = {}
    shapes: set[str] = set()  # made of the sizes of an activation: the target of the one Reshape
    for node in model.graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if all(name in known for name in node.input):
            evaluated: Any = ReferenceEvaluator(node, opsets=opsets).run(
                None, {name: known[name] for name in node.input}
            )
            known.update(zip(node.output, evaluated, strict=True))
        elif node.op_type == "Shape" or node.input[0] in shapes:
            shapes.update(node.output)
        elif node.op_type in ("Conv", "Gemm"):
            weight, bias = node.input[1], node.input[2] if len(node.input) > 2 else None
            name = f"layer{len(layers)}"
            layers[name] = _layer(node.op_type, attributes, known[weight], None if bias is None else known[bias])
            names[name] = weight, bias
            values[node.output[0]] = graph.call_module(name, (values[node.input[0]],))
        elif node.op_type in STEPS:
            tensors = [values[name] for name in node.input if name in values]
            constants = [known[name] for name in node.input if name in known]
            function, arguments = STEPS[node.op_type](attributes, constants)
            values[node.output[0]] = graph.call_function(function, (*tensors, *arguments))
        else:
            raise ValueError(f"{node.name}: {node.op_type} is not known; expected Conv, Gemm or one of {sorted(STEPS)}")
    graph.output(values[model.graph.output[0].name])
    return Twin(torch.fx.GraphModule(layers, graph), names)


def _layer(kind: str, attributes: Mapping[str, Any], weight: Array, bias: Array | None) -> Any:
    if kind == "Gemm":
        if not attributes.get("transB") or attributes.get("alpha", 1.0) != 1 or attributes.get("beta", 1.0) != 1:
            raise ValueError("a Gemm that is no linear layer: expected transB=1, alpha=1 and beta=1")
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    else:
        before, after = np.split(np.array(attributes.get("pads", [0, 0, 0, 0])), 2)
        if attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or (before != after).any():
            raise ValueError("a convolution with uneven pads: expected the same on both sides")
        groups = attributes.get("group", 1)
        layer = torch.nn.Conv2d(
            weight.shape[1] * groups, weight.shape[0], weight.shape[2:], stride=attributes.get("strides", 1),
            padding=tuple(before.tolist()), dilation=attributes.get("dilations", 1), groups=groups,
            bias=bias is not None,
        )  # fmt: skip
    layer.weight.data = torch.from_numpy(weight.copy())
    if bias is not None:
        layer.bias.data = torch.from_numpy(bias.copy())
    return layer


Step = tuple[Callable[..., Any], tuple[Any, ...]]


def _slice(attributes: Mapping[str, Any], constants: list[Array]) -> Step:
    starts, ends, axes, steps = (c.tolist() for c in constants)
    index = [slice(None)] * 4
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        index[axis] = slice(start, min(end, 2**31), step)
    return _picked, (tuple(index),)


def _picked(x: Any, index: tuple[slice, ...]) -> Any:
    return x[index]


def _pad(attributes: Mapping[str, Any], constants: list[Array]) -> Step:
    before, after = np.split(constants[0], 2)
    return torch.nn.functional.pad, ([int(n) for pair in zip(before[::-1], after[::-1], strict=True) for n in pair],)


STEPS: Mapping[str, Callable[[Mapping[str, Any], list[Array]], Step]] = {
    "Relu": lambda attributes, constants: (torch.relu, ()),
    "Add": lambda attributes, constants: (torch.add, ()),
    "Slice": _slice,
    "Pad": _pad,
    "AveragePool": lambda attributes, constants: (
        torch.nn.functional.avg_pool2d,
        (attributes["kernel_shape"], attributes.get("strides", 1), attributes.get("pads", [0, 0])[:2]),
    ),
    "Reshape": lambda attributes, constants: (torch.flatten, (1,)),  # in front of a linear layer, as was checked
}
"""What an operator is in torch: a function, and what it is given behind the tensors."""
