"""What a worker process answers to a function and its item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Done", "Raised"]


@dataclass(frozen=True)
class Done:
    """What the function made of the item."""

    result: Any


@dataclass(frozen=True)
class Raised:
    """What the function raised, and the lines of code that led there."""

    error: Exception
    trace: str
