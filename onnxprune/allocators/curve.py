"""What a model loses when one group alone keeps fewer of its indices."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

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

    def at(self, kept: int) -> float:
        """The loss when `kept` indices stay: on the line between the nearest counts, and its continuation below."""
        if len(self.kept) == 1:
            return 0.0
        above = min(max(bisect_left(self.kept, kept), 1), len(self.kept) - 1)
        (low, high), (worse, better) = self.kept[above - 1 : above + 1], self.loss[above - 1 : above + 1]
        return worse + (better - worse) * (kept - low) / (high - low)
