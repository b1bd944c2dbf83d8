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
APART = 0.05  # spread of aims, as a share of one of them, from which a line through their shots says more than one shot
FLAT = 0.25  # the least slope of such a line, as a share of the one through the origin
AWAY = 0.3  # an aim outside of the shots is at least this share of the nearest one


@dataclass(frozen=True, slots=True)
class Shot:
    """What was aimed for and what was measured, both as shares of the original's cost; `last` where less is not to be
    had, because every group is at its minimum."""

    aim: float
    measured: float
    last: bool = False


def next_aim(asked: float, tolerance: float, shots: Sequence[Shot]) -> float | None:
    """The next share to ask for; None where the last shot hit, or where nothing better is to be expected.

    A hit is a measurement of at most `asked` and at least `asked * (1 - tolerance)`. A first miss scales the aim; after
    more on the same side the aim is on the least-squares line through them; misses on both sides are a bracket, in
    which the aim is on the straight line between its ends.
    """
    if not shots:
        return asked
    middle = asked * (1 - 0.4 * tolerance)
    under = max((s for s in shots if s.measured <= asked), key=lambda s: s.aim, default=None)
    over = min((s for s in shots if s.measured > asked), key=lambda s: s.aim, default=None)
    if any(asked * (1 - tolerance) <= s.measured <= asked for s in shots) or len(shots) >= MOST:
        return None
    if under is None or over is None:
        near = over or under
        assert near is not None
        if near.last if under is None else near.aim >= 1:
            return None
        aim = near.aim + (middle - near.measured) / _slope(near, shots)
        low, high = (AWAY, 0.98) if under is None else (1.02, 1 / AWAY)
        return min(max(aim, low * near.aim), high * near.aim, 1.0)
    width = over.aim - under.aim
    if width <= NARROW * asked:
        return None
    part = (middle - under.measured) / (over.measured - under.measured)
    return under.aim + width * min(max(part, 1 - FAR), FAR)


def _slope(near: Shot, shots: Sequence[Shot]) -> float:
    """By how much the measured share grows with the aim around a shot."""
    one = near.measured / near.aim
    mean = sum(s.aim for s in shots) / len(shots)
    spread = sum((s.aim - mean) ** 2 for s in shots)
    if spread < (APART * near.aim) ** 2:
        return one
    return max(sum((s.aim - mean) * s.measured for s in shots) / spread, FLAT * one)


def best(asked: float, shots: Sequence[Shot]) -> int:
    """Which shot to take: the one that keeps most of those at or below `asked`; the lowest where there is none."""
    met = [k for k, shot in enumerate(shots) if shot.measured <= asked]
    if met:
        return max(met, key=lambda k: shots[k].measured)
    return min(range(len(shots)), key=lambda k: shots[k].measured)
