"""What an activation cuts off need not be fitted: least squares of what a ReLU or a Clip lets through.

Where the original is below the floor of the activation, the repaired layer may be anywhere below it, too. So the error
is that of act(X^ W^T + R), R being a shortcut, and not of X^ W^T: about half of what a layer in front of a ReLU is
asked for otherwise is of no use to anybody. Zhang et al. (Accelerating Very Deep Convolutional Networks, TPAMI 2016,
arXiv 1505.06798, section 3.2) fit the same error. Here least squares are solved again and again, with the same X^T X:
where both are cut off, what the layer makes now is what it should make; where the original alone is, the bound is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.recovery.leastsquares import Normal, solve

__all__ = ["Bounds", "Rows", "error", "fitted_within", "worthwhile"]

Array: TypeAlias = npt.NDArray[Any]
Float: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]

ROUNDS = 3  # three win most of it: on ResNet-20 at half its MACs 2.6 points of top-1, eight rounds as much
WORK = 1e11  # multiplications that one layer's rounds may take; a mask with a pattern for each row is dear


@dataclass(frozen=True, slots=True)
class Bounds:
    """`floor` and `ceiling` (G, 1, O): what a layer makes, with a shortcut, matters only between them."""

    floor: Array
    ceiling: Array

    def within(self, made: Array) -> Array:
        """What the activation lets through."""
        return np.clip(made, self.floor, self.ceiling)

    def target(self, wanted: Array, made: Array) -> Array:
        """What should be made (G, R, O) where `made` is: the bound where what is wanted is beyond it, or nothing else
        than is made where that is beyond it, too."""
        low, high = wanted <= self.floor, wanted >= self.ceiling
        found = np.where(low, np.minimum(made, self.floor), wanted)
        return np.where(high, np.maximum(made, self.ceiling), found)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one batch: what a layer reads `seen` (G, R, d), should make `wanted` (G, R, O), and what a shortcut adds
    to it, `beside`, of the same shape."""

    seen: Array
    wanted: Array
    beside: Array

    def thinned(self, share: float) -> Rows:
        """About that share of the rows, evenly."""
        count = self.seen.shape[1]
        at = np.unique(np.linspace(0, count - 1, max(1, round(share * count))).astype(np.intp))
        return self if len(at) == count else Rows(*(np.ascontiguousarray(x[:, at]) for x in self._all))

    @property
    def _all(self) -> tuple[Array, Array, Array]:
        return self.seen, self.wanted, self.beside

    def made(self, weights: Float) -> Array:
        """What the layer makes of the rows, the shortcut included."""
        return np.asarray(self.seen @ np.swapaxes(weights, 1, 2).astype(self.seen.dtype) + self.beside)


def error(rows: Iterable[Rows], weights: Float, bounds: Bounds) -> tuple[float, float]:
    """The sum of squares of what comes through the activation too much or too little, and of what should."""
    lost = energy = 0.0
    for one in rows:
        wanted = bounds.within(one.wanted + one.beside)
        lost += float(np.square(bounds.within(one.made(weights)) - wanted).sum(dtype=np.float64))
        energy += float(np.square(wanted - wanted.mean(axis=1, keepdims=True)).sum(dtype=np.float64))
    return lost, energy


def worthwhile(keep: Mask, bounds: Bounds | None) -> bool:
    """Whether there is an activation, and a round of solving with this mask (G, O, d) is no long work."""
    if bounds is None:
        return False
    patterns = (np.unique(group, axis=0) for group in keep)
    return ROUNDS * sum(float((found.sum(axis=1) ** 3.0).sum()) / 3 for found in patterns) <= WORK


def fitted_within(normal: Normal, rows: Sequence[Rows], weights: Float, keep: Mask, free: int, bounds: Bounds) -> Float:
    """The weights (G, O, d) from which least squares within the bounds go on; `rows` are some of those of `normal`."""
    share = sum(one.seen.shape[1] for one in rows) / max(normal.rows, 1)
    for _ in range(ROUNDS):
        moved = normal.cross.copy()
        for group, change in _changes(rows, weights, bounds):
            moved[group] += change / share
        weights = solve(Normal(normal.inner, moved, normal.outer, normal.rows), weights, keep, free)
    return weights


def _changes(rows: Iterable[Rows], weights: Float, bounds: Bounds) -> Iterator[tuple[int, Array]]:
    """By group, X^T times how the targets move (d, O)."""
    for one in rows:
        whole = one.wanted + one.beside
        moved = bounds.target(whole, one.made(weights)) - whole
        for group, seen in enumerate(one.seen):
            yield group, seen.T @ moved[group]
