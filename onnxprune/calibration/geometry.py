"""Which input position a sliding window reads, for every output position and every position of the kernel.

A convolution and its transpose differ in this table alone: -1 stands where nothing is read (padding, or a stride that
does not divide).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Table", "Window"]

Table = npt.NDArray[np.int64]
"""Flat input positions, of shape (output positions, kernel positions), both row by row."""


@dataclass(frozen=True, slots=True)
class Window:
    """One sliding window: sizes of its input, its output and its kernel, along each spatial axis."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: tuple[int, ...]
    attributes: Mapping[str, Any]
    transposed: bool

    def table(self) -> Table:
        """What is read where."""
        flat: Table = np.zeros((1, 1), np.int64)
        for axis, size in enumerate(self.inputs):
            along = self._along(axis)
            both = flat[:, None, :, None] * size + along[None, :, None, :]
            nothing = (flat[:, None, :, None] < 0) | (along[None, :, None, :] < 0)
            flat = np.where(nothing, -1, both).reshape(flat.shape[0] * len(along), -1)
        return flat

    def _along(self, axis: int) -> Table:
        """The table of one axis."""
        size, stride, dilation = self.inputs[axis], self._each("strides", axis), self._each("dilations", axis)
        outputs, kernel = np.arange(self.outputs[axis])[:, None], np.arange(self.kernel[axis])[None, :] * dilation
        before = self._before(axis, stride, dilation)
        if self.transposed:
            scaled = outputs + before - kernel
            read, fits = scaled // stride, scaled % stride == 0
        else:
            read = outputs * stride + kernel - before
            fits = np.ones_like(read, dtype=np.bool_)
        return np.asarray(np.where(fits & (read >= 0) & (read < size), read, -1), np.int64)

    def _each(self, name: str, axis: int, default: int = 1) -> int:
        values: Sequence[int] = self.attributes.get(name) or ()
        return int(values[axis]) if values else default

    def _before(self, axis: int, stride: int, dilation: int) -> int:
        """How much padding stands in front."""
        how = self.attributes.get("auto_pad", b"NOTSET")
        how = how.decode() if isinstance(how, bytes) else str(how)
        span = (self.kernel[axis] - 1) * dilation + 1
        if self.transposed and (self.attributes.get("output_shape") or how.startswith("SAME")):
            extra = self._each("output_padding", axis, 0)
            total = stride * (self.inputs[axis] - 1) + extra + span - self.outputs[axis]
        elif how.startswith("SAME"):
            total = (self.outputs[axis] - 1) * stride + span - self.inputs[axis]
        else:
            return 0 if how == "VALID" else self._each("pads", axis, 0)
        half = max(total, 0) // 2
        smaller_first = how == "SAME_UPPER"
        return half if smaller_first else max(total, 0) - half
