"""What a model loses when one group alone keeps fewer of its indices."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from onnxprune.dimensions import Vector

__all__ = ["Curve"]


@dataclass(frozen=True, slots=True)
class Curve:
    """The loss at some counts: `kept` ascends and ends with the group's size, where nothing is lost; `loss` descends.

    Made by `Curve.of`, which makes measurements monotone: what keeps more is said to lose no more.
    """

    kept: tuple[int, ...]
    loss: tuple[float, ...]

    @staticmethod
    def of(size: int, measured: Iterable[tuple[int, float]]) -> Curve:
        """The curve through measured (kept, loss), in any order: each loss is at least that of every larger count."""
        worst, kept, loss = 0.0, [size], [0.0]
        for count, found in sorted(measured, reverse=True):
            worst = max(worst, found)
            if count < kept[-1]:
                kept.append(count)
                loss.append(worst)
        return Curve(tuple(reversed(kept)), tuple(reversed(loss)))

    def along(self, scores: Vector) -> Curve:
        """The curve at every count, between measured ones in the shape of `scores`, ascending, of shape (size,).

        The next index to go has a score no lower than the last one's, so losses grow ever faster between two measured
        counts, too. On a straight line between them every count would be worth as much as another, and an optimum
        would lie on nothing but measured counts.
        """
        gone = np.concatenate([[0.0], np.cumsum(np.maximum(scores, 0.0))])[::-1]  # by how many stay
        found = [(self.kept[0], self.loss[0])]
        for low, high in zip(range(len(self.kept) - 1), range(1, len(self.kept)), strict=True):
            counts = np.arange(self.kept[low] + 1, self.kept[high] + 1)
            whole = gone[self.kept[low]] - gone[self.kept[high]]
            if whole > 0:
                share = (gone[counts] - gone[self.kept[high]]) / whole
            else:
                share = (self.kept[high] - counts) / (self.kept[high] - self.kept[low])
            losses = self.loss[high] + (self.loss[low] - self.loss[high]) * share
            found.extend(zip(counts.tolist(), losses.tolist(), strict=True))
        return Curve(*zip(*found, strict=True))

    def at(self, kept: int) -> float:
        """The loss when `kept` indices stay: on the line between the nearest counts, and its continuation below."""
        if len(self.kept) == 1:
            return 0.0
        above = min(max(bisect_left(self.kept, kept), 1), len(self.kept) - 1)
        (low, high), (worse, better) = self.kept[above - 1 : above + 1], self.loss[above - 1 : above + 1]
        return worse + (better - worse) * (kept - low) / (high - low)
