"""Batches taken by several threads at once: numpy leaves the interpreter to others in sums, products and copies.

What comes of them comes in their order, whatever thread was first, so results do not depend on the number of threads.
Inside, BLAS has one thread for each of ours, and elsewhere as many as there are of ours: two pools that fight for the
same cores are several times slower than one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from types import TracebackType
from typing import TypeVar

from threadpoolctl import ThreadpoolController

__all__ = ["Threads"]

Item = TypeVar("Item")
Made = TypeVar("Made")


class Threads:
    """So many threads that work on batches, while the context lasts."""

    def __init__(self, count: int = 1) -> None:
        self._count, self._stack = count, ExitStack()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Threads:
        self._blas = ThreadpoolController().select(user_api="blas")
        self._stack.enter_context(self._blas.limit(limits=self._count))
        if self._count > 1:
            self._pool = self._stack.enter_context(ThreadPoolExecutor(self._count, "onnxprune-batch"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._pool = None

    def map(self, function: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
        """What `function` makes of each item, in their order; no more at once than there are threads, for memory."""
        if self._pool is None:
            yield from map(function, items)
            return
        rest = iter(items)
        while some := list(islice(rest, self._count)):
            with self._blas.limit(limits=1):
                made = list(self._pool.map(function, some))
            yield from made
