"""What the integers of a quantized tensor stand for: `(stored - zero point) * scale`, as the node that reads them says.

One table says where each operator has the scale and the zero point of an operand, and along which axis of it they
run. Whoever judges a weight by its size, silences an index (a stored zero is the zero point) or cuts an axis (scale
and zero point follow it) asks here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Quantized", "along", "quantized", "quantized_operands", "unpacked"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Quantized:
    """Input `operand` stores integers; its scale and zero point are the inputs of these indices (None: 1 and 0).

    They have no axes, one index for each of `axis` of the operand, or as many axes as it, with blocks along `axis`.
    Where the operand holds bytes, numbers of `bits` bits (0: of a byte) share them along the last axis, and so do
    their zero points; without any, they are around the middle of their range.
    """

    operand: int
    scale: int | None
    point: int | None
    axis: int
    bits: int = 0


_DEQUANTIZE = (Quantized(0, 1, 2, 1),)
_CONV = (Quantized(0, 1, 2, 1), Quantized(3, 4, 5, 0))
_MATMUL = (Quantized(0, 1, 2, -2), Quantized(3, 4, 5, -1))
_TWO = (Quantized(0, 1, 2, 1), Quantized(3, 4, 5, 1))
_OPERANDS: Mapping[str, tuple[Quantized, ...]] = {
    "DequantizeLinear": _DEQUANTIZE,
    "QLinearConv": _CONV,
    "QLinearMatMul": _MATMUL,
    "QGemm": _MATMUL,
    "QLinearAdd": _TWO,
    "QLinearMul": _TWO,
    "QLinearWhere": (Quantized(1, 2, 3, 1), Quantized(4, 5, 6, 1)),
    "ConvInteger": (Quantized(0, None, 2, 1), Quantized(1, None, 3, 0)),
    "MatMulInteger": (Quantized(0, None, 2, -2), Quantized(1, None, 3, -1)),
    "MatMulIntegerToFloat": (Quantized(0, 2, 4, -2), Quantized(1, 3, 5, -1)),
    "DynamicQuantizeMatMul": (Quantized(1, 2, 3, -1),),
    "DynamicQuantizeLSTM": (Quantized(1, 8, 9, -1), Quantized(2, 10, 11, -1)),
    "MatMulNBits": (Quantized(1, 2, 3, -1, 4),),
    "GatherBlockQuantized": (Quantized(0, 2, 3, 1, 4),),
    "QEmbedLayerNormalization": tuple(Quantized(k, k + 6, k + 11, -1) for k in range(2, 7)),
    "QAttention": (Quantized(0, 3, 6, -2), Quantized(1, 4, 7, -1)),
    **{
        f"QLinear{name}": (Quantized(0, 1, 2, 1),)
        for name in ("AveragePool", "GlobalAveragePool", "LeakyRelu", "ReduceMean", "Sigmoid", "Softmax")
    },
}


def quantized_operands(op_type: str, attributes: Mapping[str, Any]) -> Iterator[Quantized]:
    """The operands of an operator that store integers for reals; none for an operator that is not in the table."""
    for found in _OPERANDS.get(op_type, ()):
        if op_type == "DequantizeLinear" and attributes.get("axis") is not None:
            yield Quantized(found.operand, found.scale, found.point, int(attributes["axis"]))
        elif found.bits:
            axis, bits = attributes.get("quantize_axis"), attributes.get("bits")
            yield replace(found, axis=int(found.axis if axis is None else axis), bits=int(bits or found.bits))
        elif op_type == "QGemm" and attributes.get("transB") and found.operand == 3:
            yield Quantized(found.operand, found.scale, found.point, 0)
        else:
            yield found


def quantized(op_type: str, attributes: Mapping[str, Any], operand: int) -> Quantized | None:
    """How one operand is stored, or None where it is not quantized."""
    return next((q for q in quantized_operands(op_type, attributes) if q.operand == operand), None)


def along(values: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Scales or zero points in a form that broadcasts to `shape`: one, one per index of `axis`, or one per block."""
    if values.size == 1:
        return values.reshape(())
    if values.ndim == 1:
        return values.reshape([-1 if k == axis % len(shape) else 1 for k in range(len(shape))])
    if values.shape[axis] in (1, shape[axis]):
        return values
    block = -(-shape[axis] // values.shape[axis])
    return np.repeat(values, block, axis=axis).take(range(shape[axis]), axis=axis)


def unpacked(stored: Array, bits: int) -> Array:
    """The numbers of `bits` bits that lie in bytes along the last axis, the lowest bits first."""
    if 8 % bits == 0:
        numbers = stored[..., None] >> np.arange(0, 8, bits, dtype=np.uint8) & np.uint8(2**bits - 1)
        return np.asarray(numbers.reshape(*stored.shape[:-1], -1))
    stream = np.unpackbits(stored, axis=-1, bitorder="little")
    count = stream.shape[-1] // bits
    numbers = stream[..., : count * bits].reshape(*stored.shape[:-1], count, bits)
    return np.asarray(numbers @ (1 << np.arange(bits, dtype=np.uint8)))
