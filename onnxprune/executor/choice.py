"""Which executor a request gets: a cluster where one is named, this process for one worker, else processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from onnxprune.errors import UsageError
from onnxprune.executor.cluster import Dask
from onnxprune.executor.here import Here
from onnxprune.executor.processes import Processes
from onnxprune.executor.seam import Executor

__all__ = ["cores", "executor_of"]


@contextmanager
def executor_of(workers: int | None = None, scheduler: str = "") -> Iterator[Executor]:
    """An executor, and its end: `workers` processes (default: one for each core), or the cluster at `scheduler`."""
    if scheduler and workers is not None:
        raise UsageError("--workers counts processes of this machine; a cluster (--scheduler) has its own")
    count = cores() if workers is None else workers
    found: Executor = Dask(scheduler) if scheduler else Here() if count == 1 else Processes(count)
    try:
        yield found
    finally:
        found.close()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
