"""Executors on this machine: every item once, whatever becomes of the workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from onnxprune.errors import GateNotMet, UsageError
from onnxprune.executor import Executor, Here, Processes, WorkerLost, executor_of
from tests.executor import jobs


@pytest.fixture(scope="module")
def two() -> Iterator[Processes]:
    with Processes(2) as executor:
        yield executor


@pytest.fixture(params=["here", "processes"])
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "here":
        return Here()
    found: Processes = request.getfixturevalue("two")
    return found


def test_every_item_has_its_result(executor: Executor) -> None:
    assert dict(executor.map(jobs.square, range(7))) == {n: n * n for n in range(7)}
    assert dict(executor.map(jobs.square, [])) == {}


def test_what_a_function_raises_is_raised(executor: Executor) -> None:
    """An error of ours as it is, any other with its type; the executor is as good as new after it."""
    with pytest.raises(GateNotMet, match="not this"):
        list(executor.map(jobs.refuse, ["this"]))
    with pytest.raises(ZeroDivisionError, match="that"):
        list(executor.map(jobs.crash, ["that"]))
    assert list(executor.map(jobs.square, [3])) == [(0, 9)]


def test_items_are_taken_when_there_is_a_worker_for_them(executor: Executor) -> None:
    """So that those who make them can stop."""
    taken = []

    def items() -> Iterator[int]:
        for n in range(100):
            taken.append(n)
            yield n

    results = executor.map(jobs.square, items())
    next(results)
    assert len(taken) <= 2
    results.close()  # type: ignore[attr-defined]
    assert len(taken) <= 2


def test_processes_work_at_the_same_time(two: Processes, tmp_path: Path) -> None:
    """Two jobs that wait for each other come to an end, in two processes that are not this one."""
    found = dict(two.map(jobs.meet, [(str(tmp_path), name, 2) for name in "ab"]))
    assert found == {0: "a", 1: "b"}
    pids = set(dict(two.map(jobs.process, range(4))).values())
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_what_is_measured_has_the_machine_for_itself(two: Processes) -> None:
    assert len(set(dict(two.map(jobs.process, range(3), device=True)).values())) == 1


def test_a_worker_that_dies_costs_a_retry(two: Processes, tmp_path: Path) -> None:
    items = ["well 1", str(tmp_path / "a"), "well 2", str(tmp_path / "b")]
    assert dict(two.map(jobs.die_once, items)) == {0: "well 1", 1: "died", 2: "well 2", 3: "died"}


def test_an_item_that_kills_every_worker_is_named(two: Processes) -> None:
    """After the results of all others."""
    results = two.map(jobs.die, ["well 0", "bad one", "well 2", "well 3"])
    assert dict(next(results) for _ in range(3)) == {0: "well 0", 2: "well 2", 3: "well 3"}
    with pytest.raises(WorkerLost, match=r"each time that it was given bad one .number 2.: killed by signal") as lost:
        next(results)
    assert lost.value.items == {1: "killed by signal SIGKILL"}
    assert lost.value.exit_code == 4


def test_ending_early_ends_the_jobs(tmp_path: Path) -> None:
    with Processes(2) as executor:
        results = executor.map(jobs.sleep, [0.0, 600.0, 600.0])
        assert next(results) == (0, 0.0)
        results.close()  # type: ignore[attr-defined]
        assert executor.pids == []
        assert list(executor.map(jobs.square, [2])) == [(0, 4)]


def test_what_a_job_prints_is_no_result(two: Processes, capfd: pytest.CaptureFixture[str]) -> None:
    assert list(two.map(jobs.chatter, ["x"])) == [(0, "x")]
    assert capfd.readouterr().out == ""


def test_who_gets_which_executor() -> None:
    with executor_of(1) as one, executor_of(3) as three:
        assert isinstance(one, Here)
        assert isinstance(three, Processes)
        assert three.workers == 3
    with pytest.raises(UsageError, match="at least 1"):
        Processes(0)
    with pytest.raises(UsageError, match="has its own"), executor_of(2, "tcp://nowhere:1"):
        pass
