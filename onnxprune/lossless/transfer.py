"""What an operator makes of what is known of its inputs: constants stay constants, equals stay equal.

A function here takes one output of one node and returns its `Values`, or None where nothing is claimed. It is sound on
its own: what it says holds for every input of the model. Zero times anything is zero, as it is for the mask.

* index by index (whatever the elementwise rules cover): evaluated on the constants;
* contractions with a constant weight: a channel is constant where all that it reads is, and two are equal where they
  read the same with the same weights;
* norms: constant where the scale is zero; pooling, resizing, means: a constant stays one where borders add nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxprune.lossless.contraction import Contraction
from onnxprune.lossless.movement import MOVEMENT
from onnxprune.lossless.seen import Seen, Transfer
from onnxprune.lossless.values import Unknowable, Values, aligned, constant, hash_rows, mixed, resized
from onnxprune.model import Array
from onnxprune.rules import registry
from onnxprune.rules.elementwise import broadcasting, unary

__all__ = ["transfer"]


def transfer(seen: Seen) -> Values | None:
    """What is known of an output; None where nothing is."""
    if seen.node.domain != "":
        return None
    function = TABLE.get(seen.node.op_type)
    if function is not None:
        return function(seen) if seen.position == 0 or seen.node.op_type in ("Split",) else None
    rule = registry.find("", seen.node.op_type, seen.opset)
    if rule is not None and rule.function in (unary, broadcasting) and seen.position == 0:
        return elementwise(seen)
    return None


def elementwise(seen: Seen) -> Values | None:
    """Evaluated where all inputs are constants; equal inputs give equal outputs."""
    if seen.opset < 7 and seen.attribute("axis") is not None:
        return None
    given = [v for v, name in zip(seen.inputs, seen.node.inputs, strict=True) if name]
    if any(v is None for v in given):
        return None
    found = aligned([v for v in given if v is not None], seen.out.shape)
    number = mixed(seen.key, *(v.number for v in found))
    known, value = np.broadcast_to(np.bool_(True), number.shape), np.zeros(number.shape, seen.out.value.dtype)
    for v in found:
        known = known & v.known
    if known.any():
        known, value = _evaluated(seen, found, known, value)
    if seen.node.op_type == "Mul":
        for v in found:
            zero = np.broadcast_to(v.known & (v.value == 0), number.shape)
            known, value = known | zero, np.where(zero, np.zeros((), value.dtype), value)
    return replace(seen.out, number=number, known=known, value=value)


def _evaluated(seen: Seen, found: Sequence[Values], known: Array, value: Array) -> tuple[Array, Array]:
    """Run the operator itself on the values, whatever stands where they are not known."""
    values = iter(found)
    inputs = [_squeezed(next(values), v) if v is not None else None for v in seen.inputs]
    with np.errstate(all="ignore"):
        made = seen.evaluate(inputs)
    if made is None or made[0].dtype.kind not in "biufV" or made[0].size != value.size:
        return np.zeros_like(known), value
    return known, made[0].reshape(value.shape)


def _squeezed(v: Values, original: Values) -> Array:
    """The values in the rank that the operator expects: the axes that broadcasting added are dropped."""
    return np.ascontiguousarray(v.value.reshape(v.value.shape[v.value.ndim - len(original.shape) :]))


def dropout(seen: Seen) -> Values | None:
    """The identity, unless it is told to train."""
    training = seen.constant(2) if len(seen.node.inputs) > 2 and seen.node.inputs[2] else np.False_
    return None if training is None or np.any(training) else seen.x


def quantize(seen: Seen) -> Values | None:
    """Index by index where there is one scale; a stored bias is what it stands for; weights are seen where they are
    read."""
    stored = seen.array(seen.node.outputs[0]) if len(seen.out.shape) < 2 else None
    if stored is not None:
        return constant(stored)
    one = len(seen.inputs) > 1 and np.prod(seen.input(1).shape, dtype=np.int64) == 1
    return elementwise(seen) if one and seen.constant(0) is None else None


def contract(seen: Seen) -> Values | None:
    """Channel o is constant where every channel that it reads is, and borders do not matter."""
    k = seen.contraction
    if k is None:
        return matmul(seen) if seen.node.op_type == "MatMul" else None
    weight = seen.constant(1)
    if weight is None or weight.dtype.kind not in "fV":
        return None
    matrix = k.matrix(weight)
    number, known, value = (a.reshape(k.groups, k.read) for a in seen.x.along(k.x_axis))
    zero = known & (value == 0)
    matrix = np.where(zero[:, None, :, None], np.zeros((), matrix.dtype), matrix)
    blocked = ~known | (k.padded & ~zero)
    reads = (matrix != 0).any(axis=3)
    free = ~(reads & blocked[:, None, :]).any(axis=2)
    bias_number, bias_known, bias = (a.reshape(k.groups, k.made) for a in _bias(seen, k))
    rows = hash_rows(matrix.reshape(k.groups * k.made, -1) + np.zeros((), matrix.dtype)).reshape(k.groups, k.made)
    made = mixed(seen.key, hash_rows(np.where(zero, np.uint64(0), number))[:, None], rows, bias_number)
    free = free & bias_known
    sums = np.zeros(free.shape)
    if free.any():
        taps = matrix.sum(axis=3, dtype=np.float64)
        sums = np.einsum("goi,gi->go", taps, np.where(blocked | zero, 0, value.astype(np.float64)))
    return _channels(seen, k.out_axis, made, free, k.alpha * sums + bias)


def _bias(seen: Seen, k: Contraction) -> tuple[Array, Array, Array]:
    """Number, known and value of what is added to every channel that is made."""
    channels = k.groups * k.made
    position = k.bias
    if position is None or position >= len(seen.node.inputs) or not seen.node.inputs[position]:
        return np.zeros(channels, np.uint64), np.ones(channels, np.bool_), np.zeros(channels)
    added = aligned([seen.input(position)], (*(1,) * (len(seen.input(position).shape) - 1), channels))[0]
    if added.number.shape[-1] != added.number.size or added.folded(len(added.shape) - 1):
        raise Unknowable
    number, known, value = (np.broadcast_to(a.ravel(), channels) for a in (added.number, added.known, added.value))
    return number, known, k.beta * value.astype(np.float64)


def _channels(seen: Seen, axis: int, number: Array, known: Array, value: Array) -> Values:
    """An output with one number for each index of `axis`."""
    shape = [1] * len(seen.out.shape)
    shape[axis] = -1
    values = value.astype(seen.out.value.dtype)
    return replace(seen.out, number=number.reshape(shape), known=known.reshape(shape), value=values.reshape(shape))


def matmul(seen: Seen) -> Values | None:
    """A product of two tensors: zero where a row of the one or a column of the other is."""
    a, b = seen.x, seen.input(1)
    if len(a.shape) < 2 or len(b.shape) < 2:
        return None
    rows, columns = _gathered(a, -1), _gathered(b, -2)
    left, right = aligned([rows, columns], seen.out.shape)
    zero = (left.known & (left.value == 0)) | (right.known & (right.value == 0))
    made = np.broadcast_to(mixed(seen.key, left.number, right.number), zero.shape)
    return replace(seen.out, number=made, known=zero, value=np.zeros(zero.shape, seen.out.value.dtype))


def _gathered(v: Values, axis: int) -> Values:
    """A tensor whose axis `axis` is one index, with a number for all of it; known where all of it is zero."""
    axis %= len(v.shape)
    shape = tuple(1 if k == axis else n for k, n in enumerate(v.shape))
    zero = (v.known & (v.value == 0)).all(axis=axis, keepdims=True)
    if v.number.shape[axis] == 1:
        number = v.number
    else:
        moved = np.moveaxis(v.number, axis, -1)
        number = np.expand_dims(hash_rows(moved.reshape(-1, moved.shape[-1])).reshape(moved.shape[:-1]), axis)
    return Values(shape, v.dynamic, number, zero, np.zeros(number.shape, v.value.dtype))


def softmax(seen: Seen) -> Values | None:
    """Equal rows have equal results; nothing is a constant any more."""
    axis = int(seen.attribute("axis", -1 if seen.opset >= 13 else 1)) % len(seen.out.shape)
    if seen.opset < 13 and axis != len(seen.out.shape) - 1:
        return None
    rows = _gathered(seen.x, axis)
    return resized(rows, seen.out).forgotten(seen.key)


def batch_norm(seen: Seen) -> Values | None:
    """An affine function for each channel; constant where its scale is zero."""
    parameters = [seen.constant(k) for k in (1, 2, 3, 4)]
    if any(p is None for p in parameters) or seen.attribute("training_mode", 0) or len(seen.node.outputs) > 1:
        return None
    x = seen.x.unfolded([1])
    scale, shift, mean, variance = (p.astype(np.float64) for p in parameters if p is not None)
    factor = scale / np.sqrt(variance + float(seen.attribute("epsilon", 1e-5)))
    along = [-1 if k == 1 else 1 for k in range(len(x.shape))]
    rows = hash_rows(np.stack([scale, shift, mean, variance], axis=1)).reshape(along)
    zero = (scale == 0).reshape(along)
    value = np.where(zero, 0, x.value.astype(np.float64)) * factor.reshape(along) + (shift - mean * factor).reshape(
        along
    )
    value = np.where(zero, shift.reshape(along), value)
    return replace(x, number=mixed(seen.key, x.number, rows), known=x.known | zero, value=value.astype(x.value.dtype))


def instance_norm(seen: Seen) -> Values | None:
    """Constant, namely its bias, where the scale of a channel is zero."""
    scale, shift = seen.constant(1), seen.constant(2)
    x = seen.x.unfolded([1])
    if scale is None or shift is None or not all(x.number.shape[k] == 1 for k in range(2, len(x.shape))):
        return None
    along = [-1 if k == 1 else 1 for k in range(len(x.shape))]
    rows = hash_rows(np.stack([scale, shift], axis=1)).reshape(along)
    value = np.broadcast_to(shift.reshape(along), x.number.shape).astype(x.value.dtype)
    zero = np.broadcast_to((scale == 0).reshape(along), x.number.shape)
    return replace(x, number=mixed(seen.key, x.number, rows), known=zero, value=value)


def pool(seen: Seen) -> Values | None:
    """A constant channel stays one where no border counts; zeros stay zeros."""
    op = seen.node.op_type
    x = seen.x
    if any(x.number.shape[k] != 1 for k in range(2, len(x.shape))):
        return None
    bordered = any(seen.attribute("pads", ())) or str(seen.attribute("auto_pad", "NOTSET")).startswith("SAME")
    exact = op in ("MaxPool", "GlobalMaxPool", "GlobalAveragePool") or (
        op == "AveragePool" and not (bordered and seen.attribute("count_include_pad", 0))
    )
    return resized(_keeping(x, exact), seen.out).renumbered(seen.key)


def resize(seen: Seen) -> Values | None:
    """Interpolation between equal values gives that value."""
    x, mode = seen.x, seen.attribute("mode", "nearest")
    if any(x.number.shape[k] != 1 and x.shape[k] != seen.out.shape[k] for k in range(len(x.shape))):
        return None
    beyond = seen.attribute("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    return resized(_keeping(x, mode in ("nearest", "linear") and not beyond), seen.out).renumbered(seen.key)


def reduce(seen: Seen) -> Values | None:
    """The mean and the extremes of equal values are that value; a sum of zeros is zero."""
    op, x = seen.node.op_type, seen.x
    rank = len(x.shape)
    axes = seen.constant(1) if len(seen.node.inputs) > 1 and seen.node.inputs[1] else seen.attribute("axes")
    if axes is None and len(seen.node.inputs) > 1 and seen.node.inputs[1]:
        return None
    if axes is None and seen.attribute("noop_with_empty_axes", 0):
        return None
    reduced = tuple(range(rank)) if axes is None else tuple(sorted({int(a) % rank for a in np.ravel(axes)}))
    if any(x.number.shape[k] != 1 for k in reduced):
        return None
    x = _keeping(x, op in ("ReduceMean", "ReduceMax", "ReduceMin")).renumbered(seen.key)
    gone = () if seen.attribute("keepdims", 1) else reduced
    number, known, value = (np.squeeze(a, axis=gone) for a in (x.number, x.known, x.value))
    return replace(seen.out, number=number, known=known, value=value.astype(seen.out.value.dtype))


def _keeping(x: Values, exact: bool) -> Values:
    """The same, of whose constants only zeros stay unless the operator is `exact` on every constant."""
    return x if exact else replace(x, known=x.known & (x.value == 0))


TABLE: dict[str, Transfer] = {
    "BatchNormalization": batch_norm,
    "CastLike": lambda seen: None,
    "Dropout": dropout,
    "InstanceNormalization": instance_norm,
    "LogSoftmax": softmax,
    "Resize": resize,
    "Softmax": softmax,
    "Upsample": resize,
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul"), contract),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), quantize),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool"), pool),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2"), reduce),
    **MOVEMENT,
}
