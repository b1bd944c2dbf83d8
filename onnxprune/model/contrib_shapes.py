"""The output types of a node that onnx has no schema for: its standard equivalent's, or by one line of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import onnx
from onnx import NodeProto, TensorProto, TypeProto, helper, shape_inference

from onnxprune.model.contrib import Equivalent, equivalent

__all__ = ["infer_contrib"]

Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = Sequence[Shape | None]
Attributes: TypeAlias = Mapping[str, Any]

_REALS: Mapping[int, int] = dict.fromkeys(  # what quantized integers stand for: the standard operator takes no others
    (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16, TensorProto.INT32), TensorProto.FLOAT
)


def infer_contrib(node: NodeProto, types: Mapping[str, TypeProto]) -> dict[str, TypeProto]:
    """The types of the outputs whose shape can be told; empty where an input's shape is not known."""
    kinds = [types.get(name) if name else None for name in node.input]
    if any(kind is None and name for name, kind in zip(node.input, kinds, strict=True)):
        return {}
    shapes = [None if kind is None else _shape(kind) for kind in kinds]
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    found = equivalent(node.op_type, attributes, [None if s is None else len(s) for s in shapes])
    if found is not None:
        return _as_standard(node, found, kinds, shapes, attributes)
    function = _OWN.get(node.op_type)
    if function is None or shapes[0] is None:
        return {}
    like = kinds[_LIKE.get(node.op_type, 0)]
    assert like is not None
    made = function(shapes, attributes)
    return {
        name: helper.make_tensor_type_proto(like.tensor_type.elem_type, shape)
        for name, shape in zip(node.output, made, strict=False)
        if name and shape is not None
    }


def _as_standard(
    node: NodeProto, found: Equivalent, kinds: Sequence[TypeProto | None], shapes: Shapes, attributes: Attributes
) -> dict[str, TypeProto]:
    """Ask onnx for the standard operator on the inputs that it would have, in the order of axes that it wants."""
    schema = onnx.defs.get_schema(found.op_type, found.opset)
    types: dict[str, TypeProto] = {}
    names: list[str] = []
    for k in found.inputs:
        kind, shape = (kinds[k], shapes[k]) if k < len(kinds) else (None, None)
        names.append("" if kind is None else f"x{k}")
        if kind is not None and shape is None:
            return {}
        if kind is not None and shape is not None:
            ordered = [shape[axis] for axis in found.perms[k]] if k in found.perms else shape
            element = kind.tensor_type.elem_type
            types[names[-1]] = helper.make_tensor_type_proto(_REALS.get(element, element), ordered)
    while names and not names[-1]:
        names.pop()
    known = {key: value for key, value in attributes.items() if key in schema.attributes}
    standard = helper.make_node(found.op_type, names, ["y"], **known)
    try:
        made = shape_inference.infer_node_outputs(schema, standard, types)
    except (shape_inference.InferenceError, RuntimeError):  # what onnx cannot infer stays unknown: a fact, no failure
        return {}
    shape = _shape(made["y"]) if "y" in made else None
    if shape is None:
        return {}
    like = found.like
    if found.unquantized is not None and not (
        len(node.input) > found.unquantized[0] and node.input[found.unquantized[0]]
    ):
        like = found.unquantized[1]
    kind = kinds[like] if like < len(kinds) else None
    element = (kind or made["y"]).tensor_type.elem_type
    ordered = [shape[axis] for axis in found.output_perm] if found.output_perm else shape
    outputs = (0, *(k for k in found.copies if k < len(node.output)))
    return {node.output[k]: helper.make_tensor_type_proto(element, ordered) for k in outputs if node.output[k]}


def _shape(kind: TypeProto) -> Shape | None:
    if kind.WhichOneof("value") != "tensor_type" or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    return tuple(d.dim_value for d in dims) if all(d.HasField("dim_value") for d in dims) else None


def _at(shapes: Shapes, index: int) -> Shape | None:
    return shapes[index] if index < len(shapes) else None


def _first(shapes: Shapes) -> Shape:
    assert shapes[0] is not None
    return shapes[0]


def _attention(shapes: Shapes, a: Attributes, past_at: int = 4) -> Shapes:
    (batch, length, _), weight, past = _first(shapes), _at(shapes, 1), _at(shapes, past_at)
    if weight is None:
        return []
    sizes = a.get("qkv_hidden_sizes")
    wide = sizes[2] if sizes else weight[1] // 3
    total = length + (past[3] if past else 0)
    return [(batch, length, wide), (2, batch, a["num_heads"], total, wide // a["num_heads"])]


def _multi_head(shapes: Shapes, a: Attributes) -> Shapes:
    q, k, v, past, heads = _first(shapes), _at(shapes, 1), _at(shapes, 2), _at(shapes, 6), a["num_heads"]
    if len(q) != 3 or k is None or v is None:
        return []
    length = (k[1] if len(k) == 3 else k[2]) + (past[2] if past else 0)
    wide = v[2] if len(v) == 3 else heads * v[3]
    return [(*q[:2], wide), (q[0], heads, length, q[2] // heads), (q[0], heads, length, wide // heads)]


def _grouped(shapes: Shapes, a: Attributes) -> Shapes:
    q, k, past, heads, shared = _first(shapes), _at(shapes, 1), _at(shapes, 3), a["num_heads"], a["kv_num_heads"]
    width = q[2] // (heads if k else heads + 2 * shared)
    cache = (q[0], shared, q[1] + (past[2] if past else 0), width)
    return [(*q[:2], heads * width), cache, cache]


def _embed(shapes: Shapes, a: Attributes) -> Shapes:
    words = _at(shapes, 2)
    made = None if words is None else (*_first(shapes), words[1])
    return [made, _first(shapes)[:1], made]


def _crop(shapes: Shapes, a: Attributes) -> Shapes:
    (n, c, high, wide), border, scale = _first(shapes), a["border"], a.get("scale")
    return [(n, c, *scale) if scale else (n, c, high - border[1] - border[3], wide - border[0] - border[2])]


def _lstm(shapes: Shapes, a: Attributes) -> Shapes:
    (time, batch, _), recurrent = _first(shapes), _at(shapes, 2)
    if recurrent is None:
        return []
    state = (recurrent[0], batch, recurrent[1])
    return [(time, *state), state, state]


_OWN: Mapping[str, Callable[[Shapes, Attributes], Shapes]] = {
    "Attention": _attention,
    "Crop": _crop,
    "DynamicQuantizeLSTM": _lstm,
    "EmbedLayerNormalization": _embed,
    "GroupQueryAttention": _grouped,
    "ImageScaler": lambda shapes, a: [shapes[0]],
    "Inverse": lambda shapes, a: [shapes[0]],
    "MatMulNBits": lambda shapes, a: [(*_first(shapes)[:-1], a["N"])],
    "MultiHeadAttention": _multi_head,
    "QAttention": lambda shapes, a: _attention(shapes, a, 8),
    "RotaryEmbedding": lambda shapes, a: [shapes[0]],
}
_LIKE: Mapping[str, int] = {"EmbedLayerNormalization": 2, "QAttention": 3}  # whose elements the outputs have
