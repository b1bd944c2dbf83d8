"""What an activation cuts off need not be fitted: least squares of what a ReLU or a Clip lets through.

Where the original is below the floor of the activation, the repaired layer may be anywhere below it, too. So the error
is that of act(X^ W^T + R), R being a shortcut, and not of X^ W^T: about half of what a layer in front of a ReLU is
asked for otherwise is of no use to anybody. Zhang et al. (Accelerating Very Deep Convolutional Networks, TPAMI 2016,
arXiv 1505.06798, section 3.2) fit the same error. Here least squares are solved again and again, with the same X^T X:
where both are cut off, what the layer makes now is what it should make; where the original alone is, the bound is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.recovery.leastsquares import Normal, solve, systems
from onnxprune.recovery.threads import Threads

__all__ = ["MORE", "Bounds", "Rows", "error", "fitted_within", "worthwhile"]

Array: TypeAlias = npt.NDArray[Any]
Float: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]

ROUNDS = 3  # three win most of it: on ResNet-20 at half its MACs 2.6 points of top-1, eight rounds as much
MORE = 2  # rounds that go on with the samples that have judged, too
WORK = 1e11  # multiplications that one layer's rounds may take; a mask with a pattern for each row is dear


@dataclass(frozen=True, slots=True)
class Bounds:
    """`floor` and `ceiling` (G, 1, O): what a layer makes, with a shortcut, matters only between them."""

    floor: Array
    ceiling: Array

    def within(self, made: Array) -> Array:
        """What the activation lets through."""
        return np.clip(made, self.floor, self.ceiling)

    def moved(self, wanted: Array, made: Array) -> Array:
        """By how much what should be made moves (G, R, O): to what is `made` where both are beyond a bound, to the
        bound where what is wanted alone is; `made` is written over."""
        free = wanted > self.floor
        if np.isfinite(self.ceiling).any():
            high = np.maximum(made, self.ceiling) - wanted
            high[wanted < self.ceiling] = 0
        else:
            high = None
        found = np.minimum(made, self.floor, out=made)
        found -= wanted
        found[free] = 0
        return found if high is None else np.where(free, high, found)


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
    work = sum(len(inputs) * float(inputs.shape[1]) ** 3 / 3 for _, inputs, _ in systems(keep))
    return ROUNDS * work <= WORK


def fitted_within(
    normal: Normal,
    rows: Sequence[Rows],
    weights: Float,
    keep: Mask,
    free: int,
    bounds: Bounds,
    threads: Threads,
    rounds: int = ROUNDS,
) -> Float:
    """The weights (G, O, d) from which least squares within the bounds go on; `rows` are some of those of `normal`."""
    share = sum(one.seen.shape[1] for one in rows) / max(normal.rows, 1)
    for _ in range(rounds):
        moved, now = normal.cross.copy(), weights

        def change(one: Rows, now: Float = now) -> Array:
            """X^T times how the targets move (G, d, O)."""
            return np.swapaxes(one.seen, 1, 2) @ bounds.moved(one.wanted + one.beside, one.made(now))

        for turned in threads.map(change, rows):
            moved += turned / share
        weights = solve(Normal(normal.inner, moved, normal.outer, normal.rows), weights, keep, free)
    return weights
