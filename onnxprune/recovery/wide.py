"""Least squares of layers of many inputs, from rows: no X^T X is made, and blocks of inputs are read one after another.

The second moments of 12,000 inputs take more than 1 GiB, and their Cholesky minutes. Of fewer rows than inputs the same
ridge regression can be solved in the rows: with D = Y - X W0^T, what the weights leave over, the least of error and
pull is at W0 + ((X X^T + l I)^-1 D)^T X, and X X^T is a sum over blocks of inputs (Saunders et al., Ridge regression
learning algorithm in dual variables, ICML 1998). A bias that is not pulled is a mean that is taken off both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxprune.recovery.clipping import Rows
from onnxprune.recovery.leastsquares import RIDGE, Float, Lines, positive

__all__ = ["Wide", "effort"]

BLOCK = 1024  # inputs
ROWS = 4096  # that take part, at most


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
        """The weights (G, O, d), zero where `keep` is False, of least error of some rows: see `leastsquares.solve`."""
        found: Float = np.where(keep, weights, 0.0)
        some = Wide([part.thinned(min(1.0, ROWS / max(self.rows, 1))) for part in self.parts])
        left = np.concatenate(list(some._left(found)), axis=1)
        for group, masks in enumerate(keep):
            patterns, which = np.unique(masks, axis=0, return_inverse=True)
            for number, pattern in enumerate(patterns):
                at = np.flatnonzero(pattern[: len(pattern) - free])
                outputs = np.flatnonzero(which.reshape(-1) == number)
                moved, offset = some._moved(group, at, left[group][:, outputs].astype(np.float64), free)
                found[group][np.ix_(outputs, at)] += moved.T
                if free and pattern[-1]:
                    found[group, outputs, -1] += offset
        return found

    def _moved(self, group: int, at: npt.NDArray[np.intp], left: Float, free: int) -> tuple[Float, Float]:
        """By how much the weights of inputs `at` (d, O) move for what is left over (R, O), and the bias (O,)."""
        inner, mean, squares = np.zeros((len(left), len(left))), np.zeros(len(at)), float(free * len(left))
        lost = left.mean(axis=0) if free else np.zeros(left.shape[1])
        for start in range(0, len(at), BLOCK):
            block = self._seen(group, at[start : start + BLOCK])
            squares += _squares(block)
            if free:
                mean[start : start + BLOCK] = block.mean(axis=0, dtype=np.float64)
                block = block - mean[start : start + BLOCK].astype(block.dtype)
            inner += block @ block.T
        inner[np.diag_indices_from(inner)] += RIDGE * squares / max(len(at) + free, 1) + 1e-12
        pulls = positive(inner, left - lost)
        moved = np.empty((len(at), left.shape[1]))
        for start in range(0, len(at), BLOCK):
            block = self._seen(group, at[start : start + BLOCK])
            moved[start : start + BLOCK] = (block - mean[start : start + BLOCK]).T @ pulls
        return moved, lost - mean @ moved

    def _seen(self, group: int, at: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        return np.concatenate([part.seen[group][:, at] for part in self.parts])

    def _left(self, weights: Float) -> Iterator[npt.NDArray[np.float32]]:
        """What X W^T leaves of Y, (G, R, O) of each part."""
        turned = np.swapaxes(weights, 1, 2)
        for part in self.parts:
            yield np.asarray(part.wanted - part.seen @ turned.astype(part.seen.dtype))


def _squares(array: npt.NDArray[Any]) -> float:
    return float(np.square(array, dtype=np.float64).sum())


def effort(keep: npt.NDArray[np.bool_], rows: int) -> float:
    """How many multiplications solving with this mask (G, O, d) takes: each mask of its own is a problem of its own."""
    patterns, count = sum(len(np.unique(group, axis=0)) for group in keep), min(rows, ROWS)
    return float(patterns * (count**2 * keep.shape[2] + count**3 / 3))
