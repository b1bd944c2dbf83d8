"""Which constant tensors are parameters, and the real numbers that they stand for.

A quantized weight stores small integers; what it multiplies with is `(stored - zero point) * scale`, as the
DequantizeLinear that reads it says. Whoever judges a weight by its size, or asks whether it is zero, wants that.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from onnxprune.model import Array, Model, WeightInfo

__all__ = ["Weights", "is_parameter", "nonzeros", "parameters"]


def is_parameter(info: WeightInfo) -> bool:
    """Floats and the small integers of quantized weights; 64-bit and 32-bit integers, truth values, scalars are not."""
    return len(info.shape) > 0 and (info.dtype.kind in "fV" or info.dtype.itemsize == 1) and info.dtype != bool


def parameters(model: Model) -> int:
    """How many numbers the parameters of `model` hold."""
    return sum(prod(info.shape) for info in model.weights.values() if is_parameter(info))


def nonzeros(model: Model) -> int:
    """How many numbers of the parameters of `model` are not zero; reads each tensor once."""
    weights = Weights(model)
    return sum(weights.nonzeros(name) for name, info in model.weights.items() if is_parameter(info))


@dataclass(frozen=True, slots=True)
class _Quantization:
    """How a tensor was quantized: names of its scale and zero point, and the axis that they run along."""

    scale: str
    zero_point: str | None
    axis: int


class Weights:
    """The real values of a model's constant tensors."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._quantized: dict[str, _Quantization] = {}
        for node in model.nodes:
            if node.op_type == "DequantizeLinear" and all(name in model.weights for name in node.inputs if name):
                zero_point = node.inputs[2] if len(node.inputs) > 2 and node.inputs[2] else None
                axis = node.attributes.get("axis")
                found = _Quantization(node.inputs[1], zero_point, 1 if axis is None else int(axis))
                self._quantized.setdefault(node.inputs[0], found)

    def real(self, name: str) -> Array:
        """The real values of a tensor, float32 or wider; read now and not kept."""
        stored = self._model.array(name)
        how = self._quantized.get(name)
        if how is None:
            return stored if stored.dtype in (np.float32, np.float64) else stored.astype(np.float32)
        scale = _along(self._model.array(how.scale).astype(np.float32), stored.shape, how.axis)
        return (stored.astype(np.float32) - self._zero_point(how, stored.shape)) * scale

    def nonzeros(self, name: str) -> int:
        """How many real values of a tensor are not zero."""
        stored = self._model.array(name)
        how = self._quantized.get(name)
        if how is None:
            return int(np.count_nonzero(stored))
        return int(np.count_nonzero(stored.astype(np.float32) != self._zero_point(how, stored.shape)))

    def _zero_point(self, how: _Quantization, shape: tuple[int, ...]) -> Array:
        if how.zero_point is None:
            return np.zeros((), dtype=np.float32)
        return _along(self._model.array(how.zero_point).astype(np.float32), shape, how.axis)


def _along(values: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Scales or zero points in a form that broadcasts to `shape`: one, one per index of `axis`, or one per block."""
    if values.size == 1:
        return values.reshape(())
    if values.ndim == 1:
        return values.reshape([-1 if k == axis % len(shape) else 1 for k in range(len(shape))])
    block = -(-shape[axis] // values.shape[axis])
    return np.repeat(values, block, axis=axis).take(range(shape[axis]), axis=axis)
