"""Nodes put behind those of a model's main graph, and a model of both with inputs and outputs of one's choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxprune.model.model import Model
from onnxprune.model.segment import stored

__all__ = ["Assembly"]

Array: TypeAlias = npt.NDArray[Any]
_AXES_AS_INPUT = 13  # the opset since which ReduceSum reads its axes
_BOUNDS_AS_INPUTS = 10  # the opset since which Slice reads its bounds


class Assembly:
    """The nodes that are added to one model; its own stay as they are."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._names = set(model.tensors) | {name for node in model.nodes for name in (*node.inputs, *node.outputs)}
        self._numbers: Counter[str] = Counter()

    def name(self, wanted: str) -> str:
        """A name that nothing has yet."""
        candidate = wanted
        while candidate in self._names:
            self._numbers[wanted] += 1
            candidate = f"{wanted}_{self._numbers[wanted] + 1}"
        self._names.add(candidate)
        return candidate

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output; its name is returned."""
        output = self.name(f"slope_{op_type.lower()}")
        self._nodes.append(helper.make_node(op_type, list(inputs), [output], **attributes))
        return output

    def constant(self, values: Array) -> str:
        """The name of a new initializer."""
        name = self.name("slope_constant")
        self._constants[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def sum(self, name: str, axes: list[int], keep: bool = False) -> str:
        """Add a sum over axes."""
        if self.model.opsets.get("", 1) < _AXES_AS_INPUT:
            return self.add("ReduceSum", name, axes=axes, keepdims=int(keep))
        return self.add("ReduceSum", name, self.constant(np.array(axes, np.int64)), keepdims=int(keep))

    def slice(self, name: str, axes: list[int], starts: list[int], ends: list[int], steps: list[int]) -> str:
        """Add a Slice; before opset 10 its steps have to be 1."""
        if self.model.opsets.get("", 1) < _BOUNDS_AS_INPUTS:
            assert all(step == 1 for step in steps)
            return self.add("Slice", name, axes=axes, starts=starts, ends=ends)
        parts = [self.constant(np.array(values, np.int64)) for values in (starts, ends, axes, steps)]
        return self.add("Slice", name, *parts)

    def done(self, inputs: Mapping[str, np.dtype[Any]], outputs: Mapping[str, np.dtype[Any]]) -> bytes:
        """The model. What is an input is read from there, also where the model has stored it."""
        frame = self.model.flat.frame
        made = {name for node in frame.graph.node for name in node.output}
        graph = GraphProto(name="assembly", node=[*frame.graph.node, *self._nodes])
        for name in self.model.tensors:
            if name not in inputs and name not in made:
                graph.initializer.append(stored(self.model, name))
        graph.initializer.extend(self._constants.values())
        for into, tensors in ((graph.input, inputs), (graph.output, outputs)):
            into.extend(
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), None)
                for name, dtype in tensors.items()
            )
        proto = ModelProto(ir_version=frame.ir_version, graph=graph)
        proto.opset_import.extend(frame.opset_import)
        proto.functions.extend(frame.functions)
        return bytes(proto.SerializeToString())
