"""A model is a frame (the ONNX graph without its initializers' bytes) and its tensors, read when somebody asks.

Analysis works on the frame alone, which is small whatever the weights weigh; an edit copies the frame and shares
every tensor that it does not replace. What no edit touches is written back exactly as it was read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from onnxprune.errors import ModelReadError
from onnxprune.model import external

__all__ = ["Array", "Model", "Node", "TensorInfo", "WeightInfo"]

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A graph input or output: `shape` holds sizes, symbolic names, or None where nothing is said."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape | None


@dataclass(frozen=True, slots=True)
class WeightInfo:
    """A constant tensor of the model: an initializer, or the value of a Constant node."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    nbytes: int
    constant_node: int | None  # index of the Constant node, None for an initializer


@dataclass(frozen=True, slots=True)
class Node:
    """One ONNX node; `name` is its own, or made from its operator and place, and is unique in the graph."""

    index: int
    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    scope: str = ""  # the module that the framework made it in, where the exporter wrote that down

    def __str__(self) -> str:
        return f"{self.op_type} {self.name!r}"


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
    ) -> None:
        self.frame = frame
        self.tensors = MappingProxyType(dict(tensors))
        self.folder = folder
        self.source = source
        self.outside = outside  # the initializers that a file beside the model held when it was read

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
        _check(proto, source)
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
    def nodes(self) -> tuple[Node, ...]:
        """The nodes of the main graph in the order of the file, which is topological."""
        taken = {node.name for node in self.frame.graph.node if node.name}
        seen: set[str] = set()
        nodes = []
        for index, node in enumerate(self.frame.graph.node):
            name = node.name if node.name and node.name not in seen else ""
            if not name:
                name = f"{node.op_type}_{index}"
                while name in taken or name in seen:
                    name += "_"
            seen.add(name)
            nodes.append(
                Node(index, name, node.op_type, _domain(node.domain), tuple(node.input), tuple(node.output),
                     MappingProxyType({a.name: _attribute(a) for a in node.attribute}), _scope(node))
            )  # fmt: skip
        return tuple(nodes)

    @cached_property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """What a run must be fed with: the graph inputs that are not initializers."""
        return tuple(_info(v) for v in self.frame.graph.input if v.name not in self.tensors)

    @cached_property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The graph outputs."""
        return tuple(_info(v) for v in self.frame.graph.output)

    @cached_property
    def opsets(self) -> Mapping[str, int]:
        """Opset version by domain ('' is the ONNX standard)."""
        return {_domain(o.domain): o.version for o in self.frame.opset_import}

    @cached_property
    def metadata(self) -> Mapping[str, str]:
        """The model's `metadata_props`."""
        return {p.key: p.value for p in self.frame.metadata_props}

    @cached_property
    def captured(self) -> frozenset[str]:
        """Tensors of the main graph that a subgraph (If, Loop, Scan) reads."""
        names: set[str] = set()
        for node in self.frame.graph.node:
            for graph in _subgraphs(node):
                names |= _free_names(graph)
        return frozenset(names)

    # -- the tensors ------------------------------------------------------------------------------------------

    @cached_property
    def weights(self) -> Mapping[str, WeightInfo]:
        """Every constant tensor: initializers in order, then Constant nodes."""
        found = {name: _weight_info(name, tensor, None) for name, tensor in self.tensors.items()}
        for node in self.nodes:
            if node.op_type == "Constant" and node.domain == "":
                value = next(iter(node.attributes.values()), None)
                if isinstance(value, TensorProto):
                    found[node.outputs[0]] = _weight_info(node.outputs[0], value, node.index)
                elif value is not None and not isinstance(value, (onnx.SparseTensorProto, str, bytes)):
                    array = _plain_constant(node)
                    if array is not None:
                        found[node.outputs[0]] = WeightInfo(
                            node.outputs[0], array.shape, array.dtype, array.nbytes, node.index
                        )
        return found

    def array(self, name: str) -> Array:
        """The values of a constant tensor, read now and not kept; external data is a read-only map of the file."""
        tensor = self.tensors.get(name)
        if tensor is None:
            info = self.weights[name]
            assert info.constant_node is not None
            node = self.nodes[info.constant_node]
            value = next(iter(node.attributes.values()))
            if not isinstance(value, TensorProto):
                array = _plain_constant(node)
                assert array is not None
                return array
            tensor = value
        return external.values(tensor, self.folder)

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

    def with_node_names(self) -> Model:
        """The model with the name of `Node.name` written into every node, so that a profile can be attributed."""
        frame = ModelProto()
        frame.CopyFrom(self.frame)
        for proto, node in zip(frame.graph.node, self.nodes, strict=True):
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


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _scope(node: NodeProto) -> str:
    """The innermost module in which torch's exporter says a node was made: `layers.0.attention.q_proj`."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            scopes = re.findall(r"'([^']*)'", entry.value)
            return scopes[-2] if len(scopes) > 1 else ""
    return ""


def _attribute(attribute: AttributeProto) -> Any:
    if attribute.type == AttributeProto.STRING:
        return attribute.s.decode("utf-8", "replace")
    if attribute.type == AttributeProto.STRINGS:
        return tuple(s.decode("utf-8", "replace") for s in attribute.strings)
    if attribute.type == AttributeProto.UNDEFINED:
        return None
    if attribute.ref_attr_name:
        return None
    value = onnx.helper.get_attribute_value(attribute)
    return tuple(value) if isinstance(value, (list, tuple)) or hasattr(value, "append") else value


def _plain_constant(node: Node) -> Array | None:
    for name, dtype in (("value_int", np.int64), ("value_ints", np.int64), ("value_float", np.float32),
                        ("value_floats", np.float32)):  # fmt: skip
        if name in node.attributes:
            return np.asarray(node.attributes[name], dtype=dtype)
    return None


def dtype_of(element_type: int) -> np.dtype[Any]:
    """The numpy dtype of an ONNX element type; `object` for strings and what numpy cannot hold."""
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element_type))
    except (KeyError, TypeError, ValueError):
        return np.dtype(object)


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    if value.type.WhichOneof("value") != "tensor_type":
        return TensorInfo(value.name, np.dtype(object), None)
    tensor = value.type.tensor_type
    shape: Shape | None = None
    if tensor.HasField("shape"):
        shape = tuple(int(d.dim_value) if d.HasField("dim_value") else (d.dim_param or None) for d in tensor.shape.dim)
    return TensorInfo(value.name, dtype_of(tensor.elem_type), shape)


def _weight_info(name: str, tensor: TensorProto, node: int | None) -> WeightInfo:
    dtype = dtype_of(tensor.data_type)
    shape = tuple(tensor.dims)
    return WeightInfo(name, shape, dtype, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, node)


def _subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def _free_names(graph: GraphProto) -> set[str]:
    """Names that `graph` reads and does not make itself."""
    made = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    free: set[str] = set()
    for node in graph.node:
        free |= {name for name in node.input if name and name not in made}
        for inner in _subgraphs(node):
            free |= _free_names(inner) - made
        made |= set(node.output)
    return free | {v.name for v in graph.output if v.name not in made}


def _check(proto: ModelProto, source: str) -> None:
    """What must hold before anything else can be said about a model."""
    if not proto.ir_version and not proto.graph.node:
        raise ModelReadError(f"{source!r} is not an ONNX model: it has neither an IR version nor nodes")
    if not proto.graph.node:
        raise ModelReadError(f"{source!r} holds no nodes: there is nothing to prune, or the file is cut short")
    if not proto.opset_import:
        raise ModelReadError(f"{source!r} declares no opset: expected at least one opset_import entry")
    newest = onnx.defs.onnx_opset_version()
    for opset in proto.opset_import:
        if _domain(opset.domain) == "" and not 1 <= opset.version <= newest:
            raise ModelReadError(
                f"{source!r} uses opset {opset.version}, the installed onnx {onnx.__version__} knows 1 to {newest}: "
                "upgrade onnx, or export with an older opset"
            )
    known = {v.name for v in proto.graph.input} | {t.name for t in proto.graph.initializer}
    known |= {t.values.name for t in proto.graph.sparse_initializer}
    for index, node in enumerate(proto.graph.node):
        needed = [name for name in node.input if name]
        for graph in _subgraphs(node):
            needed.extend(_free_names(graph))
        for name in needed:
            if name not in known:
                raise ModelReadError(
                    f"{source!r} is broken: node {index} ({node.op_type} {node.name!r}) reads {name!r}, "
                    "which no earlier node, input or initializer provides"
                )
        known |= set(node.output)
    for value in proto.graph.output:
        if value.name not in known:
            raise ModelReadError(f"{source!r} is broken: nothing provides its output {value.name!r}")
