"""A Dask cluster of real worker processes: jobs go where they may, and a worker that is lost costs a retry."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from onnxprune.errors import GateNotMet, UsageError
from onnxprune.executor import Dask, WorkerLost
from tests.executor import jobs
from tests.executor.clusters import cluster, scheduler, started, worker

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with scheduler() as found:
        yield found


def test_a_cluster_of_two(address: str, tmp_path: Path) -> None:
    """One after the other, because a cluster takes seconds to start."""
    with worker(address) as plain, worker(address, "--resources", "device=1") as judge, cluster(address, 2) as executor:
        assert executor.workers == 2
        assert dict(executor.map(jobs.square, range(20))) == {n: n * n for n in range(20)}
        assert dict(executor.map(jobs.meet, [(str(tmp_path), n, 2) for n in "ab"])) == {0: "a", 1: "b"}
        assert set(dict(executor.map(jobs.process, range(3), device=True)).values()) == {judge.pid}
        with pytest.raises(GateNotMet, match="not this"):
            list(executor.map(jobs.refuse, ["this"]))

        # A worker that is killed in the middle: what it had goes to the other.
        killer = threading.Timer(0.5, plain.kill)
        killer.start()
        pids = dict(executor.map(jobs.process, range(10)))
        killer.join()
        assert sorted(pids) == list(range(10))
        assert plain.pid in pids.values()
        assert judge.pid in pids.values()


def test_nobody_measures(address: str) -> None:
    """Without a worker that advertises the resource, measuring is refused, and not waited for."""
    with worker(address), cluster(address, 1) as executor:
        with pytest.raises(UsageError, match=r"none of the 1 workers .* advertises a resource 'device'"):
            list(executor.map(jobs.square, [1], device=True))
        assert not executor.measures
        assert list(executor.map(jobs.square, [2])) == [(0, 4)]


def test_an_item_that_kills_every_worker(address: str) -> None:
    """The nanny starts workers anew; the item is given up, and named."""
    with started("dask_worker", address, "--nworkers", "1", "--nthreads", "1", "--no-dashboard", "--local-directory",
                 "/tmp") as nanny, cluster(address, 1) as executor:  # fmt: skip
        with pytest.raises(WorkerLost, match="was given bad one") as lost:
            list(executor.map(jobs.die, ["bad one", "well"]))
        assert list(lost.value.items) == [0]
        os.kill(nanny.pid, signal.SIGTERM)
        nanny.wait()


def test_a_cluster_without_workers_and_no_cluster(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster(address, 0) as executor, pytest.raises(UsageError, match="has no workers; start one"):
        list(executor.map(jobs.square, [1]))
    monkeypatch.setattr("onnxprune.executor.cluster.TIMEOUT", "0.5s")
    with pytest.raises(UsageError, match="no Dask scheduler answers"):
        Dask("tcp://127.0.0.1:1")


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'onnxprune\[distributed\]'"):
        Dask("tcp://127.0.0.1:1")
