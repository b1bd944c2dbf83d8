"""Least squares of layers of many inputs: by blocks of them, from rows, so that no X^T X is larger than a block's.

The second moments of 12,000 inputs take more than 1 GiB, and their Cholesky minutes. Here some rows are held instead,
and block after block is solved for what the others leave over (block coordinate descent), with the pull of the ridge
towards where the whole began. A bias takes part in every block: what inputs have in common goes there at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxprune.recovery.clipping import Rows
from onnxprune.recovery.leastsquares import Float, Lines, Normal, solve

__all__ = ["Wide", "effort"]

BLOCK = 1024  # inputs
SWEEPS = 6  # over all blocks, at most
ENOUGH = 1e-3  # of the error: a sweep that lowers it by less is the last


@dataclass(frozen=True)
class Wide:
    """Some rows of a layer, batch by batch; the same questions as to `Normal`."""

    parts: list[Rows]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(part.seen.shape[1] for part in self.parts)

    def together(self, other: Wide) -> Wide:
        """The rows of both."""
        return Wide(self.parts + other.parts)

    def energy(self) -> float:
        """The sum of squares of what is wanted."""
        return sum(_squares(part.wanted) for part in self.parts)

    def error(self, weights: Float) -> float:
        """The sum of squares of X W^T - Y, for weights (G, O, d)."""
        return sum(_squares(left) for left in self._left(weights))

    def lines(self, weights: Float, free: int) -> Lines:
        """See `Normal.lines`."""
        count = weights.shape[2] - free
        turned = np.swapaxes(weights[..., :count], 1, 2)
        squares, products, sums, wanted = (np.zeros(weights.shape[:2]) for _ in range(4))
        for part in self.parts:
            made, y = part.seen[..., :count].astype(np.float64) @ turned, part.wanted.astype(np.float64)
            squares += np.square(made).sum(axis=1)
            products += (made * y).sum(axis=1)
            sums += made.sum(axis=1)
            wanted += y.sum(axis=1)
        return Lines(squares, products, sums, wanted if free else np.zeros_like(wanted), self.rows)

    def least(self, weights: Float, keep: npt.NDArray[np.bool_], free: int) -> Float:
        """The weights (G, O, d), zero where `keep` is False, of about the least error: see `leastsquares.solve`."""
        begin: Float = np.where(keep, weights, 0.0)
        found: Float = begin.copy()
        left = list(self._left(begin))
        energy = sum(map(_squares, left))
        for _ in range(SWEEPS):
            for at in _blocks(weights.shape[2], free):
                self._move(found, begin, keep, left, at, free)
            now = sum(map(_squares, left))
            if now > (1 - ENOUGH) * energy:
                break
            energy = now
        return found

    def _left(self, weights: Float) -> Iterator[npt.NDArray[np.float32]]:
        """What X W^T leaves of Y, (G, R, O) of each part."""
        turned = np.swapaxes(weights, 1, 2)
        for part in self.parts:
            yield np.asarray(part.wanted - part.seen @ turned.astype(part.seen.dtype))

    def _move(
        self,
        found: Float,
        begin: Float,
        keep: npt.NDArray[np.bool_],
        left: list[npt.NDArray[np.float32]],
        at: npt.NDArray[np.intp],
        free: int,
    ) -> None:
        """Solve for the inputs `at`, the others being as found; `left` is what all leave over, before and after."""
        now = found[..., at]
        normal = Normal.empty(len(now), len(at), now.shape[1])
        for part, rest in zip(self.parts, left, strict=True):
            normal.add(part.seen[..., at], rest)
        normal.cross += normal.inner @ np.swapaxes(now, 1, 2)
        pull = begin[..., at]
        if free:
            pull[..., -free:] = now[..., -free:]
        moved = solve(normal, pull, keep[..., at], free)
        found[..., at] = moved
        by = np.swapaxes(moved - now, 1, 2)
        for k, part in enumerate(self.parts):
            left[k] = left[k] - part.seen[..., at] @ by.astype(part.seen.dtype)


def _squares(array: npt.NDArray[Any]) -> float:
    return float(np.square(array, dtype=np.float64).sum())


def _blocks(inputs: int, free: int) -> Iterator[npt.NDArray[np.intp]]:
    """The inputs, block by block, and the `free` ones with each."""
    own = inputs - free
    for start in range(0, own, BLOCK):
        yield np.r_[start : min(start + BLOCK, own), own:inputs]


def effort(keep: npt.NDArray[np.bool_]) -> float:
    """How many multiplications solving with this mask (G, O, d) takes: each mask of its own is a problem of its own."""
    patterns = sum(len(np.unique(group, axis=0)) for group in keep)
    return float(SWEEPS * patterns * ceil(keep.shape[2] / BLOCK) * BLOCK**3 / 3)
