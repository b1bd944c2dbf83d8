"""A Dask cluster of real worker processes: jobs go where they may, and a worker that is lost costs a retry."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from onnxprune.errors import GateNotMet, PassFailed, UsageError
from onnxprune.executor import Dask, WorkerLost
from tests.executor import jobs
from tests.executor.clusters import cluster, scheduler, worker

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
    """The item is given up after two workers, and named; the last one goes on."""
    with worker(address), worker(address), worker(address), cluster(address, 3) as executor:
        found: dict[int, str] = {}
        with pytest.raises(WorkerLost, match="was given bad one") as lost:
            found.update(executor.map(jobs.die, ["well", "bad one", "well, too"]))
        assert list(lost.value.items) == [1]
        assert found == {0: "well", 2: "well, too"}


def test_a_cluster_whose_last_worker_is_lost(address: str) -> None:
    """What came in before is there; then it is told, after seconds, and not waited for without end."""
    found: dict[int, str] = {}
    told = pytest.raises(PassFailed, match=r"no worker for 1 seconds, and 1 jobs wait .*: start one with 'dask worker")
    with worker(address), cluster(address, 1, patience=1) as executor, told:
        found.update(executor.map(jobs.die, ["well", "bad one", "well, too"]))
    assert found == {0: "well"}


def test_a_worker_that_comes_late(address: str, tmp_path: Path) -> None:
    """The last worker is lost, and another comes in time: that costs a retry."""
    with ExitStack() as workers:
        workers.enter_context(worker(address))
        executor = workers.enter_context(cluster(address, 1))
        late = threading.Timer(0.5, lambda: workers.enter_context(worker(address)))
        late.start()
        assert dict(executor.map(jobs.die_once, ["well", str(tmp_path / "here")])) == {0: "well", 1: "died"}
        late.join()


def test_the_last_worker_that_measures_is_lost(address: str) -> None:
    with worker(address), worker(address, "--resources", "device=1"), cluster(address, 2, patience=1) as executor:
        with pytest.raises(PassFailed, match="no worker with a resource 'device' for 1 seconds"):
            list(executor.map(jobs.die, ["bad one"], device=True))
        assert dict(executor.map(jobs.square, [3])) == {0: 9}


def test_a_scheduler_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    with scheduler() as found, worker(found), cluster(found, 1) as executor:
        monkeypatch.setattr(executor._client, "_timeout", 1.0)  # seconds in which it tries to find it again
        results = executor.map(jobs.square, range(100))
        next(results)
        os.kill(executor._client.run_on_scheduler(jobs.own), signal.SIGKILL)
        with pytest.raises(PassFailed, match=r"scheduler at .* is gone"):
            list(results)


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
