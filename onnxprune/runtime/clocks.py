"""The clocks that a measurement reads, as one value, so that a test can put its own in their place."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["SYSTEM", "Clock", "thread_time_is_fine"]

_FINE = 1e-5


@dataclass(frozen=True, slots=True)
class Clock:
    """Two clocks in seconds: the processor time of this thread, and the wall."""

    cpu: Callable[[], float] = time.thread_time
    wall: Callable[[], float] = time.perf_counter


SYSTEM = Clock()


def thread_time_is_fine() -> bool:
    """Whether this system counts a thread's processor time in steps small enough to time one call by (not Windows)."""
    try:
        return time.get_clock_info("thread_time").resolution <= _FINE
    except ValueError:
        return False
