"""Parts of a model's main graph as models of their own: from tensors that are known to tensors that are wanted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxprune.model.model import Model
from onnxprune.model.nesting import bodies

__all__ = ["Segments", "stored"]

Array: TypeAlias = npt.NDArray[Any]


class Segments:
    """The nodes of the main graph by number, what each reads (bodies included), and models made of some of them."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._frame = model.flat.frame
        self._nodes: Sequence[NodeProto] = list(self._frame.graph.node)
        self.reads: tuple[frozenset[str], ...] = tuple(frozenset(_reads(node)) for node in self._nodes)
        self.makes: tuple[tuple[str, ...], ...] = tuple(tuple(n for n in node.output if n) for node in self._nodes)
        self.maker: Mapping[str, int] = {name: k for k, names in enumerate(self.makes) for name in names}
        inputs = {value.name for value in self._frame.graph.input} - set(model.tensors)
        self.inputs = frozenset(inputs)
        live: set[str] = set(inputs)
        self._live: set[int] = set()
        for k, read in enumerate(self.reads):
            if not live.isdisjoint(read) or not read:  # what reads nothing at all may be random: made once, and kept
                if not read and self._nodes[k].op_type == "Constant":
                    continue
                self._live.add(k)
                live.update(self.makes[k])
        self.live = frozenset(live)

    def needed(self, wanted: Iterable[str], known: Collection[str]) -> list[int]:
        """The nodes that make `wanted` from `known` tensors and constants, in order."""
        work, found = [name for name in wanted if name not in known], set[int]()
        while work:
            k = self.maker.get(work.pop())
            if k is not None and k not in found:
                found.add(k)
                work.extend(name for name in self.reads[k] if name not in known)
        return sorted(found)

    def same_as(self, other: Segments) -> set[str]:
        """The tensors that both models make in the same way: of the same constants, by equal nodes."""
        if list(self._frame.functions) != list(other._frame.functions):
            return set()
        theirs = other.model.tensors
        alike = {name for name, tensor in self.model.tensors.items() if tensor is theirs.get(name)}
        alike |= self.inputs & other.inputs
        for k, node in enumerate(self._nodes):
            twin = other.maker.get(self.makes[k][0], -1) if self.makes[k] else -1
            if twin >= 0 and self.reads[k] <= alike and node == other._nodes[twin]:
                alike.update(self.makes[k])
        return alike

    def stands_alone(self, nodes: Iterable[int]) -> bool:
        """Whether all that these nodes read is made by nodes, fed, or an initializer that a model of them can have."""
        there = self.maker.keys() | self.inputs | self.model.tensors.keys()
        return all(self.reads[k] <= there for k in nodes)

    def depends_on_inputs(self, node: int) -> bool:
        """Whether what a node makes changes with the model's inputs."""
        return node in self._live

    def model_of(
        self,
        nodes: Sequence[int],
        inputs: Mapping[str, np.dtype[Any]],
        outputs: Mapping[str, np.dtype[Any]],
        weights: Mapping[str, Array] | None = None,
    ) -> bytes:
        """A model of these nodes; `weights` replaces the values of constant tensors."""
        graph = GraphProto(name="segment", node=[self._nodes[k] for k in nodes])
        own = {name for k in nodes for name in self.makes[k]}
        read = {name for k in nodes for name in self.reads[k]} | (outputs.keys() - own)
        for name in sorted(read - own - inputs.keys()):
            if weights is not None and name in weights:
                graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(weights[name]), name))
            elif name in self.model.tensors:
                graph.initializer.append(stored(self.model, name))
        for into, tensors in ((graph.input, inputs), (graph.output, outputs)):
            into.extend(
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), None)
                for name, dtype in tensors.items()
            )
        made = ModelProto(ir_version=self._frame.ir_version, graph=graph)
        made.opset_import.extend(self._frame.opset_import)
        made.functions.extend(self._frame.functions)
        return bytes(made.SerializeToString())


def stored(model: Model, name: str) -> TensorProto:
    """An initializer of a model as one that needs no file beside it."""
    tensor = model.tensors[name]
    if isinstance(tensor, TensorProto) and tensor.data_location != TensorProto.EXTERNAL:
        return tensor
    return numpy_helper.from_array(np.ascontiguousarray(model.array(name)), name)


def _reads(node: NodeProto) -> Iterable[str]:
    yield from (name for name in node.input if name)
    for _, body in bodies(node):
        made = {value.name for value in body.input} | {t.name for t in body.initializer}
        for inner in body.node:
            yield from (name for name in _reads(inner) if name not in made)
            made.update(inner.output)
        yield from (value.name for value in body.output if value.name not in made)
