"""Which constant tensors are parameters, and the real numbers that they stand for.

A quantized weight stores small integers; what it multiplies with is `(stored - zero point) * scale`, as the node that
reads it says. Whoever judges a weight by its size, or asks whether it is zero, wants that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from onnxprune.model import Array, Model, WeightInfo
from onnxprune.quantization import along, quantized_operands, unpacked

__all__ = ["Weights", "bits_of", "is_parameter", "nonzeros", "parameters"]


def is_parameter(info: WeightInfo) -> bool:
    """Floats and the small integers of quantized weights; 64-bit and 32-bit integers, truth values, scalars are not."""
    return len(info.shape) > 0 and (info.dtype.kind in "fV" or info.dtype.itemsize <= 2) and info.dtype != bool


def parameters(model: Model) -> int:
    """How many numbers the parameters of `model` hold."""
    return sum(prod(info.shape) for info in model.weights.values() if is_parameter(info))


def nonzeros(model: Model) -> int:
    """How many numbers of the parameters of `model` are not zero; reads each tensor once."""
    weights = Weights(model)
    return sum(weights.nonzeros(name) for name, info in model.weights.items() if is_parameter(info))


def bits_of(dtype: np.dtype[Any]) -> int:
    """How many bits a number of this element type takes in a file: fewer than a byte for the packed types."""
    narrow = _NARROW.fullmatch(dtype.name)
    return int(narrow[1]) if narrow else 8 * dtype.itemsize


def _is_float(dtype: np.dtype[Any]) -> bool:
    """Whether numbers of this element type stand for themselves; the narrow types of ml_dtypes have no kind."""
    return dtype.kind == "f" or "float" in dtype.name


_NARROW = re.compile(r"(?:u?int|float)([24])(?:_.*)?")
_INTEGER = re.compile(r"(u?)int(\d+)")


def _rounded(wide: Array, dtype: np.dtype[Any]) -> Array:
    """Numbers as an element type has them: the nearest whole number in its range, for integers of any width."""
    integer = _INTEGER.fullmatch(dtype.name)
    if integer is None:
        return wide.astype(dtype)
    bits = int(integer[2])
    low, high = (0, 2**bits - 1) if integer[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return np.clip(np.rint(wide), low, high).astype(dtype)


@dataclass(frozen=True, slots=True)
class _Reading:
    """How a tensor was quantized: names of its scale and zero point, the axis that they run along, bits in a byte."""

    scale: str
    zero_point: str
    axis: int
    bits: int


class Weights:
    """The real values of a model's constant tensors."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._quantized: dict[str, _Reading] = {}
        for node in model.nodes:
            for how in quantized_operands(node.op_type, node.attributes):
                scale, zero_point = (
                    "" if k is None or k >= len(node.inputs) else node.inputs[k] for k in (how.scale, how.point)
                )
                name = node.inputs[how.operand] if how.operand < len(node.inputs) else ""
                if name and all(other in model.weights for other in (name, scale, zero_point) if other):
                    bits = how.bits if model.weights[name].dtype == np.uint8 else 0
                    self._quantized.setdefault(name, _Reading(scale, zero_point, how.axis, bits))

    def is_quantized(self, name: str) -> bool:
        """Whether the model says, in constants, what the stored numbers of a tensor stand for."""
        return name in self._quantized

    def is_known(self, name: str) -> bool:
        """Whether the model says what the stored numbers of a tensor stand for: they are floats, or quantized ones."""
        return self.is_quantized(name) or _is_float(self._model.weights[name].dtype)

    def real(self, name: str) -> Array:
        """The real values of a tensor, float32 or wider; read now and not kept.

        It has the tensor's axes, and one more, at the end, where several numbers share a byte.
        """
        return self.meant(name, self._model.array(name))

    def meant(self, name: str, stored: Array) -> Array:
        """What other stored numbers would stand for, in place of those of a tensor: see `real`."""
        how = self._quantized.get(name)
        if how is None:
            return stored if stored.dtype in (np.float32, np.float64) else stored.astype(np.float32)
        numbers = unpacked(stored, how.bits) if how.bits else stored
        reals = numbers.astype(np.float32) - self._zero_point(how, stored, numbers.shape)
        if how.scale:
            scale = self._model.array(how.scale).astype(np.float32)
            reals *= along(_rows(scale, stored) if how.bits else scale, numbers.shape, how.axis)
        return np.asarray(_by_bytes(reals, stored) if how.bits else reals)

    def stored(self, name: str, reals: Array) -> Array:
        """How a tensor stores new real values; numbers that do not change keep their bits, and zero is exactly zero."""
        old, how = self._model.array(name), self._quantized.get(name)
        if how is None:
            return np.where(reals == self.real(name), old, _rounded(reals, old.dtype))
        assert not how.bits, f"{name} has several numbers in a byte"
        scale = along(self._model.array(how.scale).astype(np.float32), old.shape, how.axis) if how.scale else 1.0
        wide = reals / scale + self._zero_point(how, old, old.shape)
        return np.where(reals == self.real(name), old, _rounded(wide, old.dtype))

    def nonzeros(self, name: str) -> int:
        """How many values of a tensor are not zero; where several share a byte, how many bytes hold one that is not."""
        stored = self._model.array(name)
        how = self._quantized.get(name)
        if how is None:
            return int(np.count_nonzero(stored))
        numbers = unpacked(stored, how.bits) if how.bits else stored
        filled = numbers.astype(np.float32) != self._zero_point(how, stored, numbers.shape)
        if how.bits:
            filled = _by_bytes(filled, stored).any(axis=-1)
        return int(np.count_nonzero(filled)) * int(stored.size // max(filled.size, 1))

    def _zero_point(self, how: _Reading, stored: Array, shape: tuple[int, ...]) -> Array:
        """What stands for 0, in a form that broadcasts to the unpacked numbers of `stored`."""
        if not how.zero_point:
            return np.asarray(2 ** (how.bits - 1) if how.bits else 0, dtype=np.float32)
        point = self._model.array(how.zero_point)
        if how.bits:
            scale = _rows(self._model.array(how.scale), stored)
            if point.dtype == np.uint8:
                rows = point.reshape(*(scale.shape[:-2] if scale.shape[-1] == 1 else scale.shape[:-1]), -1)
                count = scale.shape[-2] if scale.shape[-1] == 1 else scale.shape[-1]
                point = unpacked(rows, how.bits)[..., :count]
            point = point.reshape(scale.shape)
        return along(point.astype(np.float32), shape, how.axis)


def _rows(parameter: Array, stored: Array) -> Array:
    """One number for each row of a packed tensor along its last axis, or as it is where it has as many axes."""
    return parameter if parameter.ndim == stored.ndim else parameter.reshape(*stored.shape[:-1], 1)


def _by_bytes(numbers: Array, stored: Array) -> Array:
    """The numbers of each byte on an axis of their own; those that are no part of one byte all on that axis."""
    bytes_of = stored.shape[-1] if stored.shape[-1] and numbers.shape[-1] % stored.shape[-1] == 0 else 1
    return numbers.reshape(*stored.shape[:-1], bytes_of, -1)
