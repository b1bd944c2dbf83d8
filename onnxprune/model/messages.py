"""What onnx's messages say, as plain values: attributes, inputs and outputs, stored tensors, bodies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, SparseTensorProto, TensorProto

from onnxprune.model.nesting import bodies
from onnxprune.model.node import Array, Body, Node, Shape, TensorInfo, WeightInfo

__all__ = ["attribute_value", "bodies_of", "dtype_of", "plain_constant", "scope", "tensor_info", "weight_info"]

_NO_BODIES: Mapping[str, Body] = MappingProxyType({})


def bodies_of(node: NodeProto) -> Mapping[str, Body]:
    """What goes into and comes out of the bodies of a node, by the name of the attribute that holds each."""
    found = {
        name: Body(tuple(v.name for v in graph.input), tuple(v.name for v in graph.output))
        for name, graph in bodies(node)
    }
    return MappingProxyType(found) if found else _NO_BODIES


def scope(node: NodeProto) -> str:
    """The innermost module in which torch's exporter says a node was made: `layers.0.attention.q_proj`."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            scopes = re.findall(r"'([^']*)'", entry.value)
            return scopes[-2] if len(scopes) > 1 else ""
    return ""


def attribute_value(attribute: AttributeProto) -> Any:
    """The value of an attribute: lists are tuples, texts are decoded; None for one that a function call fills in."""
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


def plain_constant(node: Node) -> Array | None:
    """The value of a Constant node that is written as numbers; None for any other."""
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


def tensor_info(value: onnx.ValueInfoProto) -> TensorInfo:
    """What the graph declares of an input or output."""
    if value.type.WhichOneof("value") != "tensor_type":
        return TensorInfo(value.name, np.dtype(object), None)
    tensor = value.type.tensor_type
    shape: Shape | None = None
    if tensor.HasField("shape"):
        shape = tuple(int(d.dim_value) if d.HasField("dim_value") else (d.dim_param or None) for d in tensor.shape.dim)
    return TensorInfo(value.name, dtype_of(tensor.elem_type), shape)


def weight_info(name: str, tensor: TensorProto | SparseTensorProto, node: int | None) -> WeightInfo:
    """What a stored tensor is, without its values; `node` is the index of the Constant node that holds it."""
    dtype = dtype_of(tensor.values.data_type if isinstance(tensor, SparseTensorProto) else tensor.data_type)
    shape = tuple(tensor.dims)
    return WeightInfo(name, shape, dtype, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize, node)
