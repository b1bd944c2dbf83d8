"""What is known of a tensor without running the model: which of its numbers are constants, and which are equal.

Every index of a tensor gets a *number* (64 hashed bits) such that equal numbers mean equal values, whatever the model
is fed with. An axis of length 1 in `number` where the tensor has more is *folded*: then a number stands for the whole
function of that coordinate, as one number stands for all pixels of a channel. Unfolding gives every coordinate a number
of its own, except where the value is a known constant, which is the same at every coordinate.

A tensor of which nothing is known has one number, folded along every axis.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.dimensions import Mask
from onnxprune.model import Array

__all__ = ["Hashes", "Unknowable", "Values", "aligned", "constant", "hash_rows", "hashed", "mixed", "resized",
           "settled", "unknown"]  # fmt: skip

Hashes: TypeAlias = npt.NDArray[np.uint64]

LIMIT = 1 << 22  # numbers that one tensor may have; beyond, nothing is claimed of it


class Unknowable(Exception):
    """Nothing can be said of a tensor: too many numbers, or one for each index of a dynamic axis."""


def hashed(*texts: object) -> np.uint64:
    """A number for what `texts` say."""
    digest = hashlib.blake2b("\0".join(map(str, texts)).encode(), digest_size=8).digest()
    number: np.uint64 = np.frombuffer(digest, np.uint64)[0]
    return number


def mixed(*numbers: Hashes | np.uint64) -> Hashes:
    """One number for each tuple of numbers, index by index; the order counts."""
    state: Hashes = np.asarray(0x9E3779B97F4A7C15, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for number in numbers:
            state = (state ^ number) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(31))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(29))
    return np.asarray(state, dtype=np.uint64)


def hash_rows(rows: Array) -> Hashes:
    """A number for the content of every `rows[i]`."""
    rows = np.ascontiguousarray(rows.reshape(len(rows), -1))
    digests = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def _value_hashes(value: Array) -> Hashes:
    """Equal values have equal numbers, whatever the sign of a zero."""
    wide = value.astype(np.float64) if value.dtype != object else np.zeros(value.shape)
    bits: Hashes = (wide + 0.0).view(np.uint64)
    return mixed(np.uint64(1), bits)


@dataclass(frozen=True, slots=True)
class Values:
    """What is known of a tensor of this `shape`: `number`, `known` and `value` broadcast to it.

    `value` holds anything where `known` is False. `dynamic` axes can never be unfolded.
    """

    shape: tuple[int, ...]
    dynamic: tuple[bool, ...]
    number: Hashes
    known: Mask
    value: Array

    def folded(self, axis: int) -> bool:
        """Whether one number stands for all of an axis of several indices."""
        return bool(self.number.shape[axis] == 1 != self.shape[axis])

    @property
    def is_uniform(self) -> bool:
        """Whether one number stands for the whole tensor."""
        return self.number.size == 1

    def unfolded(self, axes: Sequence[int]) -> Values:
        """The same with a number for every index of `axes`; `Unknowable` where that cannot be."""
        found = self
        for axis in axes:
            if found.folded(axis):
                found = found._unfold(axis)
        return found

    def _unfold(self, axis: int) -> Values:
        size = self.shape[axis]
        if self.dynamic[axis] or self.number.size * size > LIMIT:
            raise Unknowable
        along = [-1 if k == axis else 1 for k in range(len(self.shape))]
        place = mixed(np.uint64(2), np.uint64(len(self.shape) - axis), np.arange(size, dtype=np.uint64))
        full = tuple(size if k == axis else n for k, n in enumerate(self.number.shape))
        known = np.broadcast_to(self.known, full)
        number = np.where(known, self.number, mixed(self.number, place.reshape(along)))
        return replace(self, number=number, known=known, value=np.broadcast_to(self.value, full))

    def along(self, axis: int) -> tuple[Hashes, Mask, Array]:
        """Number, known and value of every index of one axis, the other axes taken together."""
        found = self.unfolded([axis])
        others = tuple(k for k in range(len(self.shape)) if k != axis)
        rows = np.moveaxis(found.number, axis, 0).reshape(self.shape[axis], -1)
        values = np.moveaxis(found.value, axis, 0).reshape(self.shape[axis], -1)
        number = rows[:, 0] if rows.shape[1] == 1 else hash_rows(rows)
        known = found.known.all(axis=others) & (rows == rows[:, :1]).all(axis=1)
        return number, known, values[:, 0]

    def renumbered(self, key: np.uint64) -> Values:
        """What an operator makes of it that leaves constants as they are; `key` says which operator."""
        number = np.where(self.known, self.number, mixed(key, self.number))
        return replace(self, number=number)

    def forgotten(self, key: np.uint64) -> Values:
        """What an operator makes of it that keeps equals equal and leaves no constant."""
        return replace(self, number=mixed(key, self.number), known=np.zeros_like(self.known))

    def ranked(self, rank: int) -> Values:
        """The same with as many axes of one index in front as make `rank`."""
        more = rank - len(self.shape)
        if more <= 0:
            return self
        front = (1,) * more
        return Values(
            front + self.shape,
            (False,) * more + self.dynamic,
            self.number.reshape(front + self.number.shape),
            self.known.reshape(front + self.known.shape),
            self.value.reshape(front + self.value.shape),
        )


def aligned(found: Sequence[Values], shape: Sequence[int]) -> list[Values]:
    """Values that are broadcast to one `shape`: of equal rank, and folded along the same axes."""
    ranked = [v.ranked(len(shape)) for v in found]
    open_axes = [k for k in range(len(shape)) if any(v.number.shape[k] > 1 for v in ranked)]
    return [v.unfolded(open_axes) for v in ranked]


def resized(values: Values, out: Values) -> Values:
    """`values` as those of a tensor that has the shape of `out` and is folded along the same axes."""
    return replace(out, number=values.number, known=values.known, value=values.value)


def unknown(name: str, shape: Sequence[int], dynamic: Sequence[bool], dtype: np.dtype[np.generic]) -> Values:
    """A tensor of which nothing is known but that it is itself."""
    one = (1,) * len(shape)
    return Values(
        tuple(shape),
        tuple(dynamic),
        np.full(one, hashed("tensor", name)),
        np.zeros(one, np.bool_),
        np.zeros(one, dtype),
    )


def constant(array: Array) -> Values:
    """A tensor of which everything is known; `Unknowable` where it is large."""
    if prod(array.shape) > LIMIT:
        raise Unknowable
    known = np.ones(array.shape, np.bool_)
    return Values(array.shape, (False,) * array.ndim, _value_hashes(array), known, array)


def settled(values: Values) -> Values:
    """The same, with the number of its value wherever the value is known."""
    if not values.known.any():
        return values
    return replace(values, number=np.where(values.known, _value_hashes(values.value), values.number))
