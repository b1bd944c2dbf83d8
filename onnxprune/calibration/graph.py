"""Nodes that are added to a copy of the model: each reads one tensor, and stands right behind what makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from onnxprune.calibration.views import View
from onnxprune.model import Array, Edit, Model, Node, Shapes
from onnxprune.quantization import Quantized, along, quantized

__all__ = ["Graph", "Source", "Unanswerable"]

_FLOAT, _DOUBLE, _BOOL = (Edit.type_number(np.dtype(t)) for t in (np.float32, np.float64, np.bool_))
_AXES_AS_INPUT = {"ReduceSum": 13}  # the opset from which an operator takes its axes as an input; others from 18


class Unanswerable(Exception):
    """A request cannot be answered, for the reason given."""


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor of the main graph with its real values: `(tensor - point) * scale` where they are names of constants."""

    tensor: str
    scale: str = ""
    point: str = ""
    axis: int = 0


class Graph:
    """One model to which nodes are added; `done` is the model whose outputs are those that were asked for."""

    def __init__(self, model: Model, shapes: Shapes) -> None:
        self.model, self.shapes = model, shapes
        self._edit = Edit(model)
        self._after: int | None = None
        self._reals: dict[Source, str] = {}
        self._outputs: dict[str, np.dtype[Any]] = {}

    @cached_property
    def makers(self) -> Mapping[str, Node]:
        """The node that makes a tensor."""
        return {name: node for node in self.model.nodes for name in node.outputs}

    def source(self, tensor: str, reader: Node | None = None, operand: int = 0) -> Source:
        """Where the real values of `tensor` are, as `reader` reads it; `Unanswerable` where that cannot be told."""
        maker = self.makers.get(tensor)
        if tensor in self.model.weights:
            raise Unanswerable(f"{tensor!r} is a constant")
        if maker is None and all(info.name != tensor for info in self.model.inputs):
            raise Unanswerable(f"{tensor!r} is no tensor of the model")
        if maker is not None and maker.within is not None:
            raise Unanswerable(f"{tensor!r} is made inside a body of {self.model.nodes[maker.within[0]]}")
        if maker is not None and maker.op_type == "DynamicQuantizeLinear" and tensor == maker.outputs[0]:
            return self.source(maker.inputs[0])
        dtype = self.shapes.dtype.get(tensor)
        how = self._stored(tensor, maker) if reader is None else quantized(reader.op_type, reader.attributes, operand)
        if how is not None:
            return self._dequantized(tensor, *((reader, how) if isinstance(how, Quantized) else how))
        if dtype is None or (dtype.kind not in "fiub" and dtype.name != "bfloat16"):
            raise Unanswerable(f"{tensor!r} holds no numbers that the runtime computes with")
        if dtype.kind in "iu" and dtype.itemsize < 4:
            raise Unanswerable(f"nobody says what the integers of {tensor!r} stand for")
        return Source(tensor)

    def _stored(self, tensor: str, maker: Node | None) -> tuple[Node, Quantized] | None:
        """Who says what the integers of a tensor stand for."""
        if maker is not None and maker.op_type == "QuantizeLinear":
            return maker, Quantized(0, 1, 2, int(maker.attributes.get("axis", 1)))
        for node in self.model.nodes:
            for operand, name in enumerate(node.inputs):
                how = quantized(node.op_type, node.attributes, operand) if name == tensor else None
                if how is not None and how.scale is not None:
                    return node, how
        return None

    def _dequantized(self, tensor: str, node: Node | None, how: Quantized) -> Source:
        assert node is not None
        named = [node.inputs[k] if k is not None and k < len(node.inputs) else "" for k in (how.scale, how.point)]
        if not named[0]:
            raise Unanswerable(f"{node} reads the integers {tensor!r} without a scale")
        for name in filter(None, named):
            if name not in self.model.weights:
                raise Unanswerable(f"{tensor!r} is quantized with {name!r}, which is computed")
        return Source(tensor, named[0], named[1], how.axis)

    # -- adding nodes -----------------------------------------------------------------------------------------

    def at(self, source: Source) -> str:
        """Add the nodes that follow right behind `source`; the name of its real values as float32."""
        maker = self.makers.get(source.tensor)
        self._after = None if maker is None else maker.index
        if source not in self._reals:
            name = source.tensor
            if self.shapes.dtype[name] != np.float32:
                name = self.add("Cast", name, to=_FLOAT)
            for operator, other in (("Sub", source.point), ("Mul", source.scale)):
                if other:
                    shape = self.shapes.shape[source.tensor]
                    values = along(self.model.array(other).astype(np.float32), shape or (), source.axis)
                    name = self.add(operator, name, self.constant(values))
            self._reals[source] = name
        return self._reals[source]

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; the name of what it makes."""
        output = f"{inputs[0]}__{op_type.lower()}"
        if self._after is None:
            return self._edit.insert(0, op_type, inputs, output, **attributes)
        return self._edit.append(self._after, op_type, inputs, output, **attributes)

    def constant(self, values: Array) -> str:
        """The name of a new initializer."""
        return self._edit.add("calibration", values)

    def reduce(self, op_type: str, name: str, axes: Sequence[int]) -> str:
        """Add a reduction over `axes` that does not keep them."""
        if not axes:
            return self.add("Identity", name)
        if self.model.opsets.get("", 1) < _AXES_AS_INPUT.get(op_type, 18):
            return self.add(op_type, name, axes=list(axes), keepdims=0)
        return self.add(op_type, name, self.constant(np.asarray(axes, np.int64)), keepdims=0)

    def reshape(self, name: str, sizes: Sequence[int]) -> str:
        """Add a Reshape."""
        return self.add("Reshape", name, self.constant(np.asarray(sizes, np.int64)))

    def transpose(self, name: str, order: Sequence[int]) -> str:
        """Add a Transpose, where it changes anything."""
        return name if list(order) == sorted(order) else self.add("Transpose", name, perm=list(order))

    def turned(self, name: str, view: View) -> str:
        """Add the nodes that a view stands for."""
        if view.split is not None:
            name = self.reshape(name, view.split)
        return self.reshape(self.transpose(name, view.order), view.sizes)

    def double(self, name: str) -> str:
        """Add a Cast to float64."""
        return self.add("Cast", name, to=_DOUBLE)

    def truth(self, name: str) -> str:
        """Add the float64 numbers that are 1 where a tensor is not 0."""
        return self.double(self.add("Cast", name, to=_BOOL))

    # -- the model --------------------------------------------------------------------------------------------

    def give(self, name: str, dtype: type[np.generic]) -> str:
        """Make a tensor an output."""
        self._outputs[name] = np.dtype(dtype)
        return name

    def done(self) -> Model:
        """The model with the outputs that were asked for, and no others."""
        return self._edit.done().with_outputs(self._outputs)
