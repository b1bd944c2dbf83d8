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


def _multi_head(shapes: Shapes, a: Attributes, past_at: int = 6) -> Shapes:
    q, k, v, past, heads = _first(shapes), _at(shapes, 1), _at(shapes, 2), _at(shapes, past_at), a["num_heads"]
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


def _causal_conv(shapes: Shapes, a: Attributes) -> Shapes:
    x, weight, past = _first(shapes), _at(shapes, 1), _at(shapes, 3)
    if past is not None:
        return [x, past]
    length = None if weight is None or len(x) != 3 else (weight[-1] - 1) * a.get("dilation", 1)
    return [x, None if length is None else (*x[:2], length)]


def _linear_attention(shapes: Shapes, a: Attributes) -> Shapes:
    (batch, length, wide), value, past = _first(shapes), _at(shapes, 2), _at(shapes, 3)
    if value is None:
        return []
    heads, shared = a["q_num_heads"], a["kv_num_heads"]
    state = (batch, shared, wide // heads, value[2] // shared)
    return [(batch, length, max(heads, shared) * state[3]), past or state]


def _packed_heads(shapes: Shapes, a: Attributes) -> Shapes:
    q, value = _first(shapes), _at(shapes, 2)
    return [(q[0], value[1] if value else q[1] * q[3])]


def _packed_attention(shapes: Shapes, a: Attributes) -> Shapes:
    weight, sizes = _at(shapes, 1), a.get("qkv_hidden_sizes")
    return [None if weight is None else (_first(shapes)[0], sizes[2] if sizes else weight[1] // 3)]


def _without_padding(shapes: Shapes, a: Attributes) -> Shapes:
    """The number of rows depends on values; a batch without padding is an example."""
    batch, length, wide = _first(shapes)
    return [(batch * length, wide), (batch, length), (batch + 1,), (1,)]


def _with_padding(shapes: Shapes, a: Attributes) -> Shapes:
    place = _at(shapes, 1)
    return [None if place is None else (*place, _first(shapes)[1])]


def _distances(shapes: Shapes, a: Attributes) -> Shapes:
    other = _at(shapes, 1)
    return [None if other is None else (_first(shapes)[0], other[0])]


def _unfolded(shapes: Shapes, a: Attributes) -> Shapes:
    x, size = list(_first(shapes)), a["size"]
    x[a.get("dim", -1)] = (x[a.get("dim", -1)] - size) // a.get("step", 1) + 1
    return [(*x, size)]


def _mask_pool(shapes: Shapes, a: Attributes) -> Shapes:
    """A MaxPool whose padding is said in numbers."""
    x, kernel = _first(shapes), a["kernel_shape"]
    if a.get("auto_pad", b"NOTSET") not in (b"NOTSET", "NOTSET"):
        return []
    rank = len(kernel)
    pads, strides = a.get("pads") or [0] * 2 * rank, a.get("strides") or [1] * rank
    sizes = ((x[k + 2] + pads[k] + pads[k + rank] - kernel[k]) // strides[k] + 1 for k in range(rank))
    return [(*x[:2], *sizes)]


def _gathered_blocks(shapes: Shapes, a: Attributes) -> Shapes:
    """Where several numbers share a byte of the data, the last axis of the output is longer than that of the data."""
    data, indices, scales = list(_first(shapes)), _at(shapes, 1), _at(shapes, 2)
    if indices is None or scales is None:
        return []
    along, picked = a.get("quantize_axis", 1) % len(data), a.get("gather_axis", 0) % len(data)
    blocks = -(-data[-1] // a.get("block_size", 128)) if along == len(data) - 1 else data[-1]
    data[-1] *= 1 if scales[-1] in (1, blocks) else 8 // a.get("bits", 4)
    return [(*data[:picked], *indices, *data[picked + 1 :])]


_OWN: Mapping[str, Callable[[Shapes, Attributes], Shapes]] = {
    "Attention": _attention,
    "BiasSplitGelu": lambda shapes, a: [(*_first(shapes)[:-1], _first(shapes)[-1] // 2)],
    "CDist": _distances,
    "CausalConvWithState": _causal_conv,
    "Crop": _crop,
    "DecoderMaskedMultiHeadAttention": lambda shapes, a: _multi_head(shapes, a, 5),
    "DynamicQuantizeLSTM": _lstm,
    "EmbedLayerNormalization": _embed,
    "GatherBlockQuantized": _gathered_blocks,
    "GroupNorm": lambda shapes, a: [shapes[0]],
    "GroupQueryAttention": _grouped,
    "ImageScaler": lambda shapes, a: [shapes[0]],
    "Inverse": lambda shapes, a: [shapes[0]],
    "LinearAttention": _linear_attention,
    "LinearAttentionGate": lambda shapes, a: [shapes[0], shapes[0]],
    "MRotaryEmbedding": lambda shapes, a: [shapes[0]],
    "MatMulBnb4": lambda shapes, a: [(*_first(shapes)[:-1], a["N" if a.get("transB", 1) else "K"])],
    "MatMulNBits": lambda shapes, a: [(*_first(shapes)[:-1], a["N"])],
    "MaxpoolWithMask": _mask_pool,
    "MoE": lambda shapes, a: [shapes[0]],
    "MultiHeadAttention": _multi_head,
    "PackedAttention": _packed_attention,
    "PackedMultiHeadAttention": _packed_heads,
    "QAttention": lambda shapes, a: _attention(shapes, a, 8),
    "QEmbedLayerNormalization": _embed,
    "RemovePadding": _without_padding,
    "RestorePadding": _with_padding,
    "RotaryEmbedding": lambda shapes, a: [shapes[0]],
    "SkipGroupNorm": lambda shapes, a: [shapes[0], shapes[0]],
    "SparseAttention": _grouped,
    "UnfoldTensor": _unfolded,
}
_LIKE: Mapping[str, int] = {
    "EmbedLayerNormalization": 2,
    "GatherBlockQuantized": 2,
    "QAttention": 3,
    "QEmbedLayerNormalization": 8,
}  # whose elements the outputs have
