"""How much of the way is gone after each step of a pruning in several steps."""

from __future__ import annotations

from onnxprune.errors import UsageError

__all__ = ["SCHEDULES", "share"]

SCHEDULES = ("linear", "cubic")


def share(step: int, steps: int, schedule: str) -> float:
    """The share of the way that is gone after step `step` (1 to `steps`), above 0; 1 after the last.

    `linear` goes equal steps; `cubic` goes far at first, when much is redundant, and carefully at the end:
    1 - (1 - t)^3 (Zhu and Gupta, arXiv 1710.01878). `UsageError` for another schedule.
    """
    if schedule not in SCHEDULES:
        raise UsageError(f"there is no schedule {schedule!r}: choose one of {', '.join(SCHEDULES)}")
    gone = step / steps
    return gone if schedule == "linear" else 1 - (1 - gone) ** 3
