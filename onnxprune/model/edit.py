"""Changes to a model, collected and then made all at once in a copy that shares every tensor it does not replace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxprune.model.model import Model
from onnxprune.model.nesting import graphs, rebuild, restored, walk
from onnxprune.model.node import Array
from onnxprune.model.sparse import sparse

__all__ = ["Edit"]


class Edit:
    """The changes to one model; `done` makes the changed model. Everything not named keeps its bytes.

    Nodes are named by their index in `Model.nodes`, whatever graph they are in. A call of a function whose nodes no
    change touches stays a call; any other becomes the nodes that it stands for.
    """

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
        self._becomes: dict[int, tuple[str, Sequence[str]]] = {}
        self._names = set(model.tensors) | {name for node in model.nodes for name in (*node.inputs, *node.outputs)}

    def replace(self, name: str, array: Array) -> None:
        """Give a constant tensor new values, and with them a new shape."""
        self._weights[name] = array

    def add(self, name: str, array: Array) -> str:
        """Add an initializer, which every graph can read; the name is made unique and returned."""
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

    def append(self, after: int, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node behind node `after`, in its graph; its output's name is made unique and returned."""
        output = self._unique(output)
        self._after.setdefault(after, []).append(
            helper.make_node(op_type, list(inputs), [output], name=output, **attributes)
        )
        return output

    def follow(self, node: int, position: int, op_type: str, other: str) -> None:
        """Put an operator of two operands behind output `position` of a node: every reader gets what it makes."""
        name = self.model.nodes[node].outputs[position]
        made = self._unique(f"{name}__before")
        self._outputs[node, position] = made
        self._after.setdefault(node, []).append(helper.make_node(op_type, [made, other], [name], name=f"{name}__after"))

    def become(self, node: int, op_type: str, inputs: Sequence[str]) -> None:
        """Make a node another standard operator without attributes, of these inputs; its name and outputs stay."""
        self._becomes[node] = op_type, inputs

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
        model, frame = self.model, ModelProto()
        asked = (self._weights, self._added, self._inputs, self._attributes, self._before, self._after, self._sizes,
                 self._becomes)  # fmt: skip
        if not any(asked):
            frame.CopyFrom(model.frame)
            return Model(frame, model.tensors, model.folder, model.source, model.outside)
        frame.CopyFrom(model.flat.frame)
        nodes = [node for _, _, _, node in walk(frame.graph)]
        tensors = dict(model.tensors)
        self._replace(frame, nodes, tensors)
        for (index, name), value in self._attributes.items():
            _set_attribute(nodes[index], name, value)
        loosened = []
        for (index, position), name in self._inputs.items():
            node = nodes[index]
            while len(node.input) <= position:
                node.input.append("")
            loosened.append(node.input[position])
            node.input[position] = name
        for index, (op_type, inputs) in self._becomes.items():
            node = nodes[index]
            loosened.extend(node.input)
            node.op_type, node.domain = op_type, ""
            del node.attribute[:], node.input[:]
            node.input.extend(inputs)
        for (index, position), name in self._outputs.items():
            nodes[index].output[position] = name
        restated = self._resize(frame.graph)
        for name, array in self._added.items():
            tensors[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        dead = self._sweep(frame.graph, nodes, tensors, [name for name in loosened if name])
        self._rebuild(frame.graph, dead, restated)
        restored(frame, model.flat, model.frame)
        return Model(frame, tensors, model.folder, model.source, model.outside)

    def _replace(self, frame: ModelProto, nodes: Sequence[NodeProto], tensors: dict[str, TensorProto]) -> None:
        """Write new values where the old ones were, in the form that they had."""
        inside = set()
        for name, array in self._weights.items():
            index = self.model.weights[name].constant_node
            if index is not None:
                _set_constant(nodes[index], array)
            elif name in tensors:
                tensors[name] = _tensor(tensors[name], array)
            else:
                inside.add(name)
        for graph in graphs(frame.graph) if inside else ():
            for tensor in graph.initializer:
                if tensor.name in inside:
                    tensor.CopyFrom(_tensor(tensor, self._weights[tensor.name]))
            for stored in graph.sparse_initializer:
                if stored.values.name in inside:
                    stored.CopyFrom(sparse(self._weights[stored.values.name], stored))

    def _resize(self, graph: GraphProto) -> set[str]:
        """Restate shapes; the tensors of bodies whose shapes were stated otherwise."""
        found: set[str] = set()
        if not self._sizes:
            return found
        for depth, inner in enumerate(graphs(graph)):
            for value in (*inner.value_info, *inner.input, *(inner.output if depth else ())):
                sizes = self._sizes.get(value.name)
                if sizes is None or value.type.WhichOneof("value") != "tensor_type":
                    continue
                for dim, size in zip(value.type.tensor_type.shape.dim, sizes, strict=False):
                    if size is not None and dim.HasField("dim_value"):
                        dim.dim_value = size
                        found.update([value.name] if depth else [])
        return found

    def _sweep(
        self, graph: GraphProto, nodes: Sequence[NodeProto], tensors: dict[str, TensorProto], loosened: list[str]
    ) -> set[int]:
        """The nodes that lost their last reader, from the names that inputs were taken off; tensors go at once."""
        dead: set[int] = set()
        if not loosened:
            return dead
        readers: Counter[str] = Counter(value.name for inner in graphs(graph) for value in inner.output)
        maker: dict[str, int] = {}
        for index, node in enumerate(nodes):
            readers.update(node.input)
            maker.update((name, index) for name in node.output)
        for inserted in (*self._before.values(), *self._after.values()):
            readers.update(name for node in inserted for name in node.input)
        listed = {value.name for value in graph.input}
        unread: set[str] = set()
        while loosened:
            name = loosened.pop()
            if readers[name]:
                continue
            unread.add(name)
            if name in tensors and name not in listed:
                del tensors[name]
            index = maker.get(name, -1)
            if index < 0 or index in dead or any(readers[other] for other in nodes[index].output):
                continue
            if self.model.nodes[index].bodies:
                continue  # what its bodies read would have to be loosened, too
            dead.add(index)
            unread.update(nodes[index].output)
            for other in filter(None, nodes[index].input):
                readers[other] -= 1
                loosened.append(other)
        for inner in graphs(graph):
            for values in (inner.value_info, inner.initializer):
                for position in reversed(range(len(values))):
                    if values[position].name in unread:
                        del values[position]
        return dead

    def _touched(self, restated: set[str]) -> set[int]:
        """The nodes that a change names, or in whose bodies it restates shapes."""
        touched = {index for index, _ in (*self._inputs, *self._attributes)} | set(self._before) | set(self._after)
        touched |= set(self._becomes)
        constants = (self.model.weights[name].constant_node for name in self._weights)
        touched.update(index for index in constants if index is not None)
        for node in self.model.nodes:
            if node.within is not None and not restated.isdisjoint(node.outputs):
                touched.add(node.within[0])
            if any(not restated.isdisjoint((*body.inputs, *body.outputs)) for body in node.bodies.values()):
                touched.add(node.index)
        return touched

    def _rebuild(self, graph: GraphProto, dead: set[int], restated: set[str]) -> None:
        """Every graph without what is dead, with what is new, and with the calls whose nodes nobody touched."""
        again: dict[int, NodeProto] = {}  # by its first node, a call that stays
        folded: set[int] = set()
        if self.model.flat.calls:
            touched = dead | self._touched(restated)
            sized = {n.index for n in self.model.nodes if not self._sizes.keys().isdisjoint((*n.inputs, *n.outputs))}
            for call in self.model.flat.calls:
                if call.nodes and not call.nodes & touched and not (call.stated and call.nodes & sized):
                    again[min(call.nodes)] = call.node
                    folded |= call.nodes
        if not (dead or self._before or self._after or again):
            return
        rows: dict[tuple[int, str], tuple[GraphProto, list[NodeProto]]] = {}
        changed: set[tuple[int, str]] = set()
        for index, place, holder, node in walk(graph):
            key = place or (-1, "")
            row = rows.setdefault(key, (holder, []))[1]
            row.extend(self._before.get(index, ()))
            if index in again:
                row.append(again[index])
            elif index not in dead and index not in folded:
                row.append(node)
            row.extend(self._after.get(index, ()))
            if index in self._before or index in self._after or index in dead or index in folded:
                changed.add(key)
        for key in sorted(changed, reverse=True):  # from the inside out: a graph is copied into the one around it
            rebuild(*rows[key])


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
    if attribute.type == AttributeProto.SPARSE_TENSOR:
        attribute.sparse_tensor.CopyFrom(sparse(array, attribute.sparse_tensor))
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
