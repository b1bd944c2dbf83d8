"""How a target is hit that can only be measured: aim, measure, correct.

An allocation can be asked for any share of a *predicted* cost; what comes of it is *measured*. `next_aim` says what to
ask for next, from what was asked and measured so far, until a measurement lies in the window below the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["MOST", "Shot", "best", "next_aim"]

MOST = 8  # shots at one target
NARROW = 0.004  # as a share of the target: aims closer to each other than this make the same model, as a rule
FAR = 0.9  # how much of the way to an end of the bracket a corrected aim may go


@dataclass(frozen=True, slots=True)
class Shot:
    """What was aimed for and what was measured, both as shares of the original's cost; `last` where less is not to be
    had, because every group is at its minimum."""

    aim: float
    measured: float
    last: bool = False


def next_aim(asked: float, tolerance: float, shots: Sequence[Shot]) -> float | None:
    """The next share to ask for; None where the last shot hit, or where nothing better is to be expected.

    A hit is a measurement of at most `asked` and at least `asked * (1 - tolerance)`. Misses on one side scale the aim;
    misses on both sides are a bracket, in which the aim is the straight line between its ends.
    """
    if not shots:
        return asked
    middle = asked * (1 - 0.4 * tolerance)
    under = max((s for s in shots if s.measured <= asked), key=lambda s: s.aim, default=None)
    over = min((s for s in shots if s.measured > asked), key=lambda s: s.aim, default=None)
    if any(asked * (1 - tolerance) <= s.measured <= asked for s in shots) or len(shots) >= MOST:
        return None
    if under is None:
        assert over is not None
        lowest = min(shots, key=lambda s: s.aim)
        return None if lowest.last else lowest.aim * min(middle / lowest.measured, 0.98)
    if over is None:
        return None if under.aim >= 1 else min(under.aim * max(middle / under.measured, 1.02), 1.0)
    width = over.aim - under.aim
    if width <= NARROW * asked:
        return None
    part = (middle - under.measured) / (over.measured - under.measured)
    return under.aim + width * min(max(part, 1 - FAR), FAR)


def best(asked: float, shots: Sequence[Shot]) -> int:
    """Which shot to take: the one that keeps most of those at or below `asked`; the lowest where there is none."""
    met = [k for k, shot in enumerate(shots) if shot.measured <= asked]
    if met:
        return max(met, key=lambda k: shots[k].measured)
    return min(range(len(shots)), key=lambda k: shots[k].measured)
