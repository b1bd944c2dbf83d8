"""Dask clusters of real processes, as tests start them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onnxprune.executor import Dask

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of Dask's command line, until the end of the block; it finds our code, and keeps its words."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
                   "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}  # fmt: skip
    command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, cwd=ROOT
    ) as run:
        try:
            yield run
        finally:
            run.kill()


@contextmanager
def worker(address: str, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    with started("dask_worker", address, "--nworkers", "1", "--nthreads", "1", "--no-nanny", "--no-dashboard",
                 "--local-directory", "/tmp", *more) as run:  # fmt: skip
        yield run


@contextmanager
def scheduler() -> Iterator[str]:
    """A scheduler, and its address; what killed two workers is given no third."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with started("dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-jupyter"):
        yield f"tcp://127.0.0.1:{port}"


@contextmanager
def cluster(address: str, workers: int, patience: float = 30) -> Iterator[Dask]:
    """The client of a scheduler, once so many workers are there."""
    executor = Dask(address, patience)
    try:
        deadline = time.monotonic() + 60
        while len(executor._known()) != workers:
            assert time.monotonic() < deadline, "the workers do not come"
            time.sleep(0.05)
        yield executor
    finally:
        executor.close()
