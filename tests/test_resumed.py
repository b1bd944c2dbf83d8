"""A run of `prune` that is stopped while its allocation tries cuts goes on: nothing is tried twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxprune as package
from onnxprune.errors import UsageError
from onnxprune.journal import Journal, Memo
from onnxprune.objective import Objective
from onnxprune.plan import Plan
from onnxprune.testing import build
from tests.commands import Commands

CHAIN = """
    x[N,3,8,8] -> y
    a = Conv<pads=[1,1,1,1]>(x, A[24,3,3,3]); b = Relu(a)
    c = Conv<pads=[1,1,1,1]>(b, B[24,24,3,3]); d = Relu(c)
    e = Conv<pads=[1,1,1,1]>(d, C[24,24,3,3]); f = Relu(e)
    g = Conv<pads=[1,1,1,1]>(f, D[24,24,3,3]); h = Relu(g)
    i = GlobalAveragePool(h); j = Flatten(i); y = Gemm(j, E[24,5])
"""
OPTIONS: dict[str, Any] = {"target": "macs=0.5", "calibration": "data.npz", "round_to": 1, "rounds": 0,
                           "criterion": "l2", "recover": "none"}  # fmt: skip


@pytest.fixture
def chain(desk: Path) -> Path:
    build(CHAIN).save(desk / "chain.onnx")
    np.savez(desk / "data.npz", x=np.random.default_rng(0).standard_normal((16, 3, 8, 8), np.float32))
    return desk / "chain.onnx"


def tried(journal: str | Path) -> dict[str, float]:
    """What a journal holds."""
    with Journal(journal) as found:
        return dict(found)


@pytest.mark.parametrize("allocation", ["amc", "netadapt", "sensitivity", "knapsack"])
def test_what_was_tried_is_not_tried_again(chain: Path, allocation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at any trial, the run ends as one that was never stopped, with the same trials in all."""
    straight = package.prune(chain, allocation=allocation, journal="whole.jsonl", **OPTIONS)
    runs: list[Plan] = []
    once = Objective._tried

    def counted(self: Objective, plan: Plan) -> float:
        if len(runs) == 3:
            raise KeyboardInterrupt
        runs.append(plan)
        return once(self, plan)

    monkeypatch.setattr(Objective, "_tried", counted)
    with pytest.raises(KeyboardInterrupt):
        package.prune(chain, allocation=allocation, journal="stopped.jsonl", **OPTIONS)
    assert len(tried("stopped.jsonl")) == 3
    runs[:] = [runs[0]] * 4
    again = package.prune(chain, allocation=allocation, journal="stopped.jsonl", **OPTIONS)
    assert tried("stopped.jsonl") == tried("whole.jsonl")
    assert len(runs) - 4 == len(tried("whole.jsonl")) - 3
    assert again.model.to_bytes() == straight.model.to_bytes()
    assert any("3 of them in an earlier run" in note for note in again.report.notes)
    runs.clear()
    package.prune(chain, allocation=allocation, journal="stopped.jsonl", **OPTIONS)
    assert not runs


def test_a_killed_agent_goes_on(chain: Path, root: Path) -> None:
    """kill -9 in the middle of `amc`: the same command ends with the file that an uninterrupted run writes."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    command = [sys.executable, "-m", "onnxprune", "prune", str(chain), "--allocation", "amc", "--quiet", *options]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    mine = [*command, "-o", "out.onnx", "--journal", "j.jsonl"]
    with subprocess.Popen(mine, env=environment, stderr=subprocess.PIPE) as run:
        while not Path("j.jsonl").exists() or len(Path("j.jsonl").read_bytes().splitlines()) < 10:
            assert run.poll() is None, run.communicate()
            time.sleep(0.005)
        run.send_signal(signal.SIGKILL)
        run.communicate()
    assert run.returncode == -signal.SIGKILL
    assert not Path("out.onnx").exists()
    early = Path("j.jsonl").read_text().rpartition("\n")[0].splitlines()
    subprocess.run(mine, env=environment, check=True)
    subprocess.run([*command, "-o", "straight.onnx"], env=environment, check=True)
    late = Path("j.jsonl").read_text().splitlines()
    assert late[: len(early)] == early
    assert len(early) < len(late) == len({json.loads(line).get("key") for line in late})
    assert Path("out.onnx").read_bytes() == Path("straight.onnx").read_bytes()


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"objective": "linear"}, {"calibration": "other.npz"}, {"samples": 8}], ids=str
)
def test_what_is_asked_otherwise_is_tried_anew(chain: Path, other: dict[str, Any]) -> None:
    """Losses on other samples, by another measure or of another seed say nothing of these; budgets do not matter."""
    np.savez("other.npz", x=np.ones((16, 3, 8, 8), np.float32))
    common = {**OPTIONS, "allocation": "sensitivity", "objective": "outputs", "journal": "j.jsonl"}
    package.prune(chain, **common)
    first = tried("j.jsonl")
    package.prune(chain, **{**common, "target": "macs=0.7"})
    assert tried("j.jsonl") == first
    package.prune(chain, **{**common, **other})
    assert len(tried("j.jsonl")) == 2 * len(first)


def test_steps_and_searches_keep_their_trials(chain: Path) -> None:
    """What is tried of the model as it is after a step is another trial; the journal stays open for all steps."""
    package.prune(chain, **{**OPTIONS, "allocation": "sensitivity", "journal": "j.jsonl", "steps": 2})
    steps = tried("j.jsonl")
    package.prune(chain, **{**OPTIONS, "allocation": "sensitivity", "journal": "k.jsonl"})
    assert steps.keys() > tried("k.jsonl").keys()


def test_a_journal_that_nothing_is_written_into(chain: Path, onnxprune: Commands) -> None:
    """Refused before any work, as is a journal over what is read or written."""
    for more in (["--allocation", "uniform"], ["--granularity", "2:4"]):
        ran = onnxprune("prune", chain, "-o", "out.onnx", "--journal", "j.jsonl", *more)
        assert (ran.code, Path("j.jsonl").exists()) == (2, False)
        assert "tries nothing" in ran.err
    for taken in (str(chain), "out.onnx"):
        with pytest.raises(UsageError, match="choose another path"):
            package.prune(chain, "out.onnx", **OPTIONS, allocation="amc", journal=taken)


def test_a_memo_computes_once() -> None:
    memo, numbers = Memo(about={"of": "this"}), iter(range(9))
    assert [memo(lambda: float(next(numbers)), key=key) for key in "abab"] == [0, 1, 0, 1]
    assert (memo.computed, memo.remembered) == (2, 0)
