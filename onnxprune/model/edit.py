"""Changes to a model, collected and then made all at once in a copy that shares every tensor it does not replace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxprune.model.model import Array, Model, _free_names, _subgraphs

__all__ = ["Edit"]


class Edit:
    """The changes to one model; `done` makes the changed model. Everything not named keeps its bytes."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._weights: dict[str, Array] = {}
        self._added: dict[str, Array] = {}
        self._inputs: dict[tuple[int, int], str] = {}
        self._attributes: dict[tuple[int, str], Any] = {}
        self._before: dict[int, list[NodeProto]] = {}
        self._after: dict[int, list[NodeProto]] = {}
        self._outputs: dict[tuple[int, int], str] = {}
        self._sizes: dict[str, Sequence[int | None]] = {}
        self._names = set(model.tensors) | {name for node in model.nodes for name in (*node.inputs, *node.outputs)}

    def replace(self, name: str, array: Array) -> None:
        """Give a constant tensor new values, and with them a new shape."""
        self._weights[name] = array

    def add(self, name: str, array: Array) -> str:
        """Add an initializer; the name is made unique and returned."""
        name = self._unique(name)
        self._added[name] = array
        return name

    def connect(self, node: int, position: int, name: str) -> None:
        """Let input `position` of a node read `name`."""
        self._inputs[node, position] = name

    def set_attribute(self, node: int, name: str, value: Any) -> None:
        """Set an attribute (a number or a list of ints), or remove it with None."""
        self._attributes[node, name] = value

    def insert(self, before: int, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node in front of node `before`; its output's name is made unique and returned."""
        output = self._unique(output)
        self._before.setdefault(before, []).append(
            helper.make_node(op_type, list(inputs), [output], name=output, **attributes)
        )
        return output

    def follow(self, node: int, position: int, op_type: str, other: str) -> None:
        """Put an operator of two operands behind output `position` of a node: every reader gets what it makes."""
        name = self.model.nodes[node].outputs[position]
        made = self._unique(f"{name}__before")
        self._outputs[node, position] = made
        self._after.setdefault(node, []).append(helper.make_node(op_type, [made, other], [name], name=f"{name}__after"))

    def array(self, name: str) -> Array:
        """The values of a constant tensor, with the changes so far."""
        return self._weights[name] if name in self._weights else self.model.array(name)

    @staticmethod
    def type_number(dtype: np.dtype[Any]) -> int:
        """The number by which Cast's attribute `to` calls an element type."""
        return int(helper.np_dtype_to_tensor_dtype(dtype))

    def resize(self, name: str, sizes: Sequence[int | None]) -> None:
        """Correct what the graph states of a tensor's shape; None where an axis keeps what is stated."""
        self._sizes[name] = sizes

    def input_of(self, node: int, position: int) -> str:
        """What input `position` of a node reads, with the changes so far."""
        return self._inputs.get((node, position), self.model.nodes[node].inputs[position])

    def _unique(self, name: str) -> str:
        candidate, number = name, 1
        while candidate in self._names:
            number += 1
            candidate = f"{name}_{number}"
        self._names.add(candidate)
        return candidate

    def done(self) -> Model:
        """The changed model. Nodes and initializers that only the changes left without a reader are gone."""
        frame = ModelProto()
        frame.CopyFrom(self.model.frame)
        graph = frame.graph
        tensors = dict(self.model.tensors)
        for name, array in self._weights.items():
            info = self.model.weights[name]
            if info.constant_node is None:
                tensors[name] = _tensor(tensors[name], array)
            else:
                _set_constant(graph.node[info.constant_node], array)
        for (index, name), value in self._attributes.items():
            _set_attribute(graph.node[index], name, value)
        loosened = []
        for (index, position), name in self._inputs.items():
            node = graph.node[index]
            while len(node.input) <= position:
                node.input.append("")
            loosened.append(node.input[position])
            node.input[position] = name
        for (index, position), name in self._outputs.items():
            graph.node[index].output[position] = name
        self._resize(graph)
        if self._before or self._after:
            nodes = [
                n
                for i, node in enumerate(graph.node)
                for n in (*self._before.get(i, ()), node, *self._after.get(i, ()))
            ]
            copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
            del graph.node[:]
            graph.node.extend(copies)
        for name, array in self._added.items():
            tensors[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        _sweep(graph, tensors, [name for name in loosened if name])
        return Model(frame, tensors, self.model.folder, self.model.source, self.model.outside)

    def _resize(self, graph: GraphProto) -> None:
        if not self._sizes:
            return
        for value in (*graph.value_info, *graph.input):
            sizes = self._sizes.get(value.name)
            if sizes is None or value.type.WhichOneof("value") != "tensor_type":
                continue
            for dim, size in zip(value.type.tensor_type.shape.dim, sizes, strict=False):
                if size is not None and dim.HasField("dim_value"):
                    dim.dim_value = size


def _tensor(old: TensorProto, array: Array) -> TensorProto:
    new = numpy_helper.from_array(np.asarray(array, order="C"), old.name)
    new.doc_string = old.doc_string
    new.data_type = old.data_type
    return new


def _set_constant(node: NodeProto, array: Array) -> None:
    attribute = node.attribute[0]
    if attribute.type == AttributeProto.TENSOR:
        attribute.t.CopyFrom(_tensor(attribute.t, array))
        return
    replaced = helper.make_attribute(attribute.name, array.tolist())
    replaced.type = attribute.type
    attribute.CopyFrom(replaced)


def _set_attribute(node: NodeProto, name: str, value: Any) -> None:
    kept = [a for a in node.attribute if a.name != name]
    if value is None:
        copies = [AttributeProto.FromString(a.SerializeToString()) for a in kept]
        del node.attribute[:]
        node.attribute.extend(copies)
        return
    made = helper.make_attribute(name, value)
    for attribute in node.attribute:
        if attribute.name == name:
            made.doc_string = attribute.doc_string
            attribute.CopyFrom(made)
            return
    node.attribute.append(made)


def _sweep(graph: GraphProto, tensors: dict[str, TensorProto], loosened: list[str]) -> None:
    """Remove what lost its last reader, starting from the names that inputs were taken off."""
    if not loosened:
        return
    readers: Counter[str] = Counter(value.name for value in graph.output)
    maker: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        readers.update(node.input)
        for inner in _subgraphs(node):
            readers.update(_free_names(inner))
        maker.update((name, index) for name in node.output)
    listed = {value.name for value in graph.input}
    dead: set[int] = set()
    while loosened:
        name = loosened.pop()
        if readers[name]:
            continue
        if name in tensors and name not in listed:
            del tensors[name]
        made_by = maker.get(name)
        if made_by is None or made_by in dead or any(readers[other] for other in graph.node[made_by].output):
            continue
        dead.add(made_by)
        for other in filter(None, graph.node[made_by].input):
            readers[other] -= 1
            loosened.append(other)
    gone = {name for index in dead for name in graph.node[index].output}
    for index in sorted(dead, reverse=True):
        del graph.node[index]
    for position in reversed(range(len(graph.value_info))):
        if graph.value_info[position].name in gone:
            del graph.value_info[position]
