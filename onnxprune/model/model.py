"""A model is a frame (the ONNX graph without its initializers' bytes) and its tensors, read when somebody asks.

Analysis works on the frame alone, which is small whatever the weights weigh; an edit copies the frame and shares
every tensor that it does not replace. What no edit touches is written back exactly as it was read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, SparseTensorProto, TensorProto

from onnxprune.errors import ModelReadError
from onnxprune.model import external, folding, sparse
from onnxprune.model.messages import attribute_value, bodies_of, plain_constant, scope, tensor_info, weight_info
from onnxprune.model.nesting import Flat, domain_of, flatten, graphs, walk
from onnxprune.model.node import Array, Node, TensorInfo, WeightInfo
from onnxprune.model.soundness import check

__all__ = ["Model"]


class Model:
    """An ONNX model that is never changed in place; `edit` makes changed ones.

    Errors: `ModelReadError` when the file is no model that can be pruned, with what was found and what to do.
    """

    def __init__(
        self,
        frame: ModelProto,
        tensors: Mapping[str, TensorProto],
        folder: Path | None,
        source: str,
        outside: frozenset[str] = frozenset(),
        folded: Mapping[str, WeightInfo] | None = None,
    ) -> None:
        self.frame = frame
        self.tensors = MappingProxyType(dict(tensors))
        self.folder = folder
        self.source = source
        self.outside = outside  # the initializers that a file beside the model held when it was read
        self.folded = folded or {}  # tensors that are computed from constants, and are taken for weights

    # -- reading ----------------------------------------------------------------------------------------------

    @staticmethod
    def load(path: str | Path) -> Model:
        """Read a model from a file; tensors stored outside it are mapped, not loaded."""
        path = Path(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelReadError(f"cannot read the model {str(path)!r}: {error.strerror or error}") from error
        return Model.from_bytes(data, folder=path.parent, source=str(path))

    @staticmethod
    def from_bytes(data: bytes, folder: Path | None = None, source: str = "<bytes>") -> Model:
        """Read a serialized ModelProto; `folder` is where its external data lies."""
        proto = ModelProto()
        try:
            proto.ParseFromString(data)
        except Exception as error:  # protobuf backends raise different classes for one and the same thing
            raise ModelReadError(
                f"{source!r} is not an ONNX model, or is cut short ({len(data):,} bytes): {error}"
            ) from error
        return Model.from_proto(proto, folder=folder, source=source)

    @staticmethod
    def from_proto(proto: ModelProto, folder: Path | None = None, source: str = "<proto>") -> Model:
        """Take over a ModelProto (it must not be used afterwards)."""
        check(proto, source)
        tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
        if len(tensors) != len(proto.graph.initializer):
            raise ModelReadError(f"{source!r} has two initializers of one name")
        for tensor in (*tensors.values(), *external.attribute_tensors(proto.graph)):
            if tensor.data_location == TensorProto.EXTERNAL:
                external.check(tensor, folder, source)
        del proto.graph.initializer[:]
        outside = frozenset(name for name, t in tensors.items() if t.data_location == TensorProto.EXTERNAL)
        return Model(proto, tensors, folder, source, outside)

    # -- the graph --------------------------------------------------------------------------------------------

    @cached_property
    def flat(self) -> Flat:
        """The frame with a name of its own for every tensor of every graph, and functions written out."""
        return flatten(self.frame)

    @cached_property
    def protos(self) -> tuple[NodeProto, ...]:
        """The nodes of all graphs as onnx knows them, by index, with the names of `flat`."""
        return tuple(node for _, _, _, node in walk(self.flat.frame.graph))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes of all graphs, each before those of its bodies, in the order of the file, which is topological."""
        taken = {node.name for node in self.protos if node.name}
        seen: set[str] = set()
        nodes = []
        for index, place, _, node in walk(self.flat.frame.graph):
            name = node.name if node.name and node.name not in seen else ""
            if not name:
                name = f"{node.op_type}_{index}"
                while name in taken or name in seen:
                    name += "_"
            seen.add(name)
            nodes.append(
                Node(index, name, node.op_type, domain_of(node.domain), tuple(node.input), tuple(node.output),
                     MappingProxyType({a.name: attribute_value(a) for a in node.attribute}), bodies_of(node), place,
                     scope(node))
            )  # fmt: skip
        return tuple(nodes)

    @cached_property
    def overridable(self) -> frozenset[str]:
        """Weights that are graph inputs as well: default values, in whose place a caller may feed others."""
        listed = {value.name for value in self.frame.graph.input} if self.frame.ir_version >= 4 else set()
        return frozenset(listed & self.tensors.keys())

    @cached_property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """What a run must be fed with: the graph inputs that are not initializers."""
        return tuple(tensor_info(v) for v in self.frame.graph.input if v.name not in self.tensors)

    @cached_property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The graph outputs."""
        return tuple(tensor_info(v) for v in self.frame.graph.output)

    @cached_property
    def opsets(self) -> Mapping[str, int]:
        """Opset version by domain ('' is the ONNX standard)."""
        return {domain_of(o.domain): o.version for o in self.frame.opset_import}

    @cached_property
    def metadata(self) -> Mapping[str, str]:
        """The model's `metadata_props`."""
        return {p.key: p.value for p in self.frame.metadata_props}

    @cached_property
    def kept(self) -> frozenset[str]:
        """The names of what graphs give back: the model's outputs and those of every body."""
        return frozenset(value.name for graph in graphs(self.flat.frame.graph) for value in graph.output)

    # -- the tensors ------------------------------------------------------------------------------------------

    @cached_property
    def weights(self) -> Mapping[str, WeightInfo]:
        """Every constant tensor: initializers in order, then those of bodies, Constant nodes and folded constants."""
        found = {name: weight_info(name, tensor, None) for name, tensor in self.tensors.items()}
        for name, stored in self._inside.items():
            found[name] = weight_info(name, stored, self._constants.get(name))
        for name, index in self._constants.items():
            array = None if name in self._inside else plain_constant(self.nodes[index])
            if array is not None:
                found[name] = WeightInfo(name, array.shape, array.dtype, array.nbytes, index)
        if self.folded:
            used = {name for node in self.nodes if node.index not in self.spent for name in node.inputs} | self.kept
            gone = {name for index in self.spent for name in self.nodes[index].inputs} - used
            found = {name: info for name, info in found.items() if name not in gone}
            found.update(self.folded)
        return found

    @cached_property
    def _constants(self) -> dict[str, int]:
        """Index of the Constant node that makes a tensor."""
        return {n.outputs[0]: n.index for n in self.nodes if n.op_type == "Constant" and n.domain == "" and n.outputs}

    @cached_property
    def _inside(self) -> dict[str, TensorProto | SparseTensorProto]:
        """The tensors that the frame holds itself: sparse initializers, those of bodies, values of Constant nodes."""
        found: dict[str, TensorProto | SparseTensorProto] = {}
        for depth, graph in enumerate(graphs(self.flat.frame.graph)):
            found.update((stored.values.name, stored) for stored in graph.sparse_initializer)
            if depth:
                found.update((tensor.name, tensor) for tensor in graph.initializer)
        for name, index in self._constants.items():
            value = next(iter(self.nodes[index].attributes.values()), None)
            if isinstance(value, (TensorProto, SparseTensorProto)):
                found[name] = value
        return found

    @cached_property
    def _makers(self) -> dict[str, NodeProto]:
        return {name: self.protos[n.index] for n in self.nodes for name in n.outputs if name not in self._constants}

    def array(self, name: str) -> Array:
        """The values of a constant tensor, read now and not kept; external data is a read-only map of the file."""
        if name in self.folded:
            return folding.value(name, self._makers.get, self._stored, self.opsets[""])
        return self._stored(name)

    def _stored(self, name: str) -> Array:
        tensor = self.tensors.get(name) or self._inside.get(name)
        if tensor is None:
            array = plain_constant(self.nodes[self._constants[name]])
            assert array is not None
            return array
        return sparse.dense(tensor) if isinstance(tensor, SparseTensorProto) else external.values(tensor, self.folder)

    # -- constants that the model computes --------------------------------------------------------------------

    def computed(self, roots: Iterable[str]) -> frozenset[int]:
        """Indices of the nodes that compute from the constants `roots` alone."""
        tables = {name for name, info in self.weights.items() if info.shape}
        return folding.computed(self.nodes, roots, self.opsets.get("", 1), tables)

    def fold(self, tensors: Mapping[str, WeightInfo]) -> Model:
        """The model with some tensors that are computed from constants taken for weights.

        Nothing of the file changes yet: an edit has to store them and to let their readers read what is stored.
        """
        return Model(self.frame, self.tensors, self.folder, self.source, self.outside, MappingProxyType(dict(tensors)))

    @cached_property
    def spent(self) -> frozenset[int]:
        """Indices of the nodes that serve folded constants alone."""
        return folding.spent(self.nodes, self.folded, self.kept)

    @cached_property
    def apart(self) -> frozenset[str]:
        """The folded constants whose making serves nothing else."""
        return folding.apart(self.nodes, self.folded, self.spent)

    # -- writing ----------------------------------------------------------------------------------------------

    def to_proto(self, inline: bool = True) -> ModelProto:
        """The whole ModelProto; with `inline`, external data is read into it (then below 2 GB)."""
        proto = ModelProto()
        proto.CopyFrom(self.frame)
        for tensor in self.tensors.values():
            added = proto.graph.initializer.add()
            added.CopyFrom(tensor)
        for tensor in (*proto.graph.initializer, *external.attribute_tensors(proto.graph)) if inline else ():
            if tensor.data_location == TensorProto.EXTERNAL:
                external.inline(tensor, external.read(tensor, self.folder))
        return proto

    def to_graph(self) -> Any:
        """The model as an `onnx_graphsurgeon.Graph`, to go on editing it there."""
        import onnx_graphsurgeon as gs

        return gs.import_onnx(self.to_proto())

    def to_bytes(self) -> bytes:
        """The serialized model with all its tensors inside, as ONNX Runtime loads it."""
        return bytes(self.to_proto().SerializeToString())

    def save(self, path: str | Path) -> None:
        """Write the model, all or nothing: to a temporary file beside `path`, then renamed.

        Tensors that were stored outside the file stay outside it, in `<name>.data` beside `path`.
        Errors: `OutputNotWritten`.
        """
        external.save(self.frame, self.tensors, self.outside, self.folder, Path(path))

    @cached_property
    def size_bytes(self) -> int:
        """Bytes on disk, external data included."""
        rest = int(self.frame.graph.ByteSize())
        graph = rest + sum(_field(int(tensor.ByteSize())) for tensor in self.tensors.values())
        outside = sum(map(external.length, self.tensors.values()))
        return int(self.frame.ByteSize()) - _field(rest) + _field(graph) + outside

    def with_outputs(self, dtypes: Mapping[str, np.dtype[Any]]) -> Model:
        """The model with other outputs: tensors of its main graph, by name and element type."""
        frame = ModelProto()
        frame.CopyFrom(self.frame)
        del frame.graph.output[:]
        for name, dtype in dtypes.items():
            frame.graph.output.append(
                onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(dtype), None)
            )
        return Model(frame, self.tensors, self.folder, self.source, self.outside)

    def with_inputs(self, sizes: Mapping[str, Sequence[int]]) -> Model:
        """The model with further float inputs of these shapes; their names are no tensors of any of its graphs."""
        frame = ModelProto()
        frame.CopyFrom(self.frame)
        for name, shape in sizes.items():
            frame.graph.input.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))
        return Model(frame, self.tensors, self.folder, self.source, self.outside)

    def with_node_names(self) -> Model:
        """The model with the name of `Node.name` written into every node, so that a profile can be attributed."""
        frame = ModelProto()
        frame.CopyFrom(self.flat.frame)
        for (_, _, _, proto), node in zip(walk(frame.graph), self.nodes, strict=True):
            proto.name = node.name
        return Model(frame, self.tensors, self.folder, self.source)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the model was read from: its own, and those that tensors are stored in."""
        if self.folder is None:
            return ()
        folder = self.folder
        outside = (external.location(t) for t in self.tensors.values() if t.data_location == TensorProto.EXTERNAL)
        return (Path(self.source), *(folder / location for location in dict.fromkeys(outside)))

    @cached_property
    def digest(self) -> str:
        """The SHA-256, in hex, of the graph and every tensor: equal for equal models, whatever file they lie in."""
        state = hashlib.sha256(self.frame.SerializeToString(deterministic=True))
        for name, tensor in self.tensors.items():
            if tensor.data_location == TensorProto.EXTERNAL:
                state.update(f"{name} {tensor.data_type} {list(tensor.dims)}".encode())
                state.update(np.asarray(self.array(name), order="C").view(np.uint8).data)
            else:
                state.update(tensor.SerializeToString(deterministic=True))
        return state.hexdigest()

    def with_metadata(self, values: Mapping[str, str]) -> Model:
        """The model with entries of `metadata_props` set; others keep their place and value."""
        frame = ModelProto()
        frame.CopyFrom(self.frame)
        present = {p.key: p for p in frame.metadata_props}
        for key, value in values.items():
            entry = present.get(key) or frame.metadata_props.add()
            entry.key, entry.value = key, value
        return Model(frame, self.tensors, self.folder, self.source, self.outside)


def _field(size: int) -> int:
    """The bytes of a message of `size` bytes within another: its tag, its length (7 bits a byte), itself."""
    return 1 + max(1, -(-size.bit_length() // 7)) + size
