"""One item after the other, in this process: nothing to start, and nothing that survives a crash."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from onnxprune.executor.seam import Item, Result

__all__ = ["Here"]


@dataclass(frozen=True)
class Here:
    """The executor without workers."""

    workers: int = 1
    measures: bool = True
    place: str = ""

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], *, device: bool = False
    ) -> Iterator[tuple[int, Result]]:
        """Place and result of every item, in order."""
        for place, item in enumerate(items):
            yield place, function(item)

    def close(self) -> None:
        """Nothing to end."""
