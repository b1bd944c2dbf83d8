"""Pruning in several steps ends where one step ends, is scored on what is left, and is proven; latency end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxprune import api
from onnxprune.errors import UsageError
from onnxprune.latency import model as latency
from onnxprune.passes.allocate import Allocate
from onnxprune.passes.analyse import Analyse
from onnxprune.passes.calibrate import Calibrate
from onnxprune.passes.recover import Recover
from onnxprune.passes.repeat import Repeat
from onnxprune.passes.score import Score
from onnxprune.passes.select import Select
from onnxprune.passmanager import Pipeline
from onnxprune.testing import build
from onnxprune.unit import Unit

TEXT = """
    x[N,8] -> y
    a = Gemm(x, A[8,24], a0[24]); ra = Relu(a)
    b = Gemm(ra, B[24,16], b0[16]); rb = Relu(b)
    y = Gemm(rb, Y[16,4])
"""


@pytest.fixture
def data(tmp_path: Path) -> str:
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32))
    return str(tmp_path / "x.npz")


@pytest.mark.parametrize("criterion", ["l2", "wanda"])
@pytest.mark.parametrize("schedule", ["linear", "cubic"])
def test_steps_end_at_the_target(data: str, criterion: str, schedule: str) -> None:
    """Verified, repaired after every step, and as small as was asked."""
    report = api.prune(
        build(TEXT), target="macs=0.4", criterion=criterion, steps=3, schedule=schedule, calibration=data, rounds=0,
        round_to=1, best_effort=True,
    ).report  # fmt: skip
    assert report.verified
    assert report.macs_after <= 0.4 * report.macs_before
    assert report.recovery == "reconstruct"
    assert sum("repaired" in note for note in report.notes) == 1  # what the steps before told is not told again


def test_what_is_gone_comes_last(data: str) -> None:
    """The second step scores the model as it is pruned and repaired: what went is worth less than all that stays."""
    seen: list[Unit] = []

    class Seen(Repeat):
        def run(self, unit: Unit) -> Unit:
            seen.append(unit)
            return super().run(unit)

    passes = (Analyse(), Calibrate(calibration=data), Select(), Score(criterion="wanda"))
    last = (Allocate(sparsity=0.5, round_to="1", steps=2, schedule="linear"), Recover(), Seen(steps=2))
    Pipeline((*passes, *last)).run(Unit(source=build(TEXT)))
    first, second = seen
    assert (first.step, second.step) == (1, 2)
    assert first.plan is not None
    assert second.plan is not None
    assert second.scores is not None
    for atom, keep in first.plan.keep.items():
        scores = second.scores.values[atom]
        assert scores[~keep].max() < scores[keep].min()
        assert not (second.plan.keep[atom] & ~keep).any()  # nothing came back
        assert second.plan.keep[atom].sum() < keep.sum()


def test_a_latency_from_end_to_end(data: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tabulated, allocated, measured, profiled: whatever comes of so small a model is told, and nothing is written."""
    monkeypatch.setenv("ONNXPRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(latency, "WHOLE", 4)
    monkeypatch.setattr(latency, "PROFILED", 4)
    report = api.prune(build(TEXT), target="latency=0.9", best_effort=True, calibration=data, rounds=3).report
    asked, reached = report.targets["latency"]
    assert asked == 0.9
    assert reached > 0
    assert report.verified
    assert any("predictions at other widths were off by" in note for note in report.notes)
    assert any("that were measured" in note for note in report.notes)
    assert list((tmp_path / "cache").glob("*.npz"))


def test_a_metric_alone_takes_no_sparsity() -> None:
    """Two answers to one question are refused."""
    with pytest.raises(UsageError, match="give one of them"):
        Allocate(target=("metric>=0.9",), sparsity=0.5)
