"""What an executor promises to those who have jobs, whoever runs them.

1. `map` gives every item's result once, as it comes in, with the item's place in `items`: the order is any.
2. An item is taken from `items` when a worker is free for it, and not before: `items` may end early, because of a
   deadline, say.
3. A worker that dies costs its item a retry, `RETRIES` at most. What then has no result is told at the end, by
   `WorkerLost`, after the results of all others. Where nobody is left to work, and nobody comes for a while, that is
   an error (`PassFailed`) and no wait without end.
4. What a function raises is raised here.
5. Jobs with `device=True` go where times are measured: one at a time on one machine, on a cluster to the workers that
   advertise a resource `device`.
6. Ending the iteration early ends the jobs that still run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

from onnxprune.errors import PassFailed

__all__ = ["RETRIES", "Executor", "Item", "Result", "WorkerLost", "described"]

RETRIES = 2  # how often an item is tried again after the death of its worker

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkerLost(PassFailed):
    """Items whose worker died each time that it was given them: `items` says of each place how."""

    def __init__(self, message: str, items: Mapping[int, str]) -> None:
        super().__init__(message)
        self.items = dict(items)

    @staticmethod
    def of(items: Mapping[int, str], names: Mapping[int, str]) -> WorkerLost:
        """The error for items, by place, of these descriptions and ends."""
        told = "; ".join(f"{names[place]} (number {place + 1}): {how}" for place, how in sorted(items.items()))
        return WorkerLost(f"a worker died each time that it was given {told}", items)

    def __reduce__(self) -> tuple[object, ...]:
        return WorkerLost, (str(self), self.items)


class Executor(Protocol):
    """Something that runs a function, which can be imported by name, on items, which can be pickled."""

    @property
    def workers(self) -> int:
        """How many items are worked on at a time."""
        ...

    @property
    def measures(self) -> bool:
        """Whether there is somewhere for jobs with `device=True` to go."""
        ...

    @property
    def place(self) -> str:
        """Where jobs run, in words; empty where that is this machine."""
        ...

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], *, device: bool = False
    ) -> Iterator[tuple[int, Result]]:
        """Place and result of every item, as above."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


def described(item: object) -> str:
    """An item in a message: its first words."""
    text = str(item)
    return text if len(text) <= 80 else text[:77] + "..."
