"""How those who wait are told how far something is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Watch", "nobody"]

Watch: TypeAlias = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all; 0 where nobody knows)."""


def nobody(what: str, done: int, total: int) -> None:
    """The watch of those who do not watch."""
