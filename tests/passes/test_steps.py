"""Pruning in several steps ends where one step ends, is scored on what is left, and is proven; latency end to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune import api
from onnxprune.dependency import analyse
from onnxprune.errors import UsageError
from onnxprune.latency import model as latency
from onnxprune.passes.allocate import Allocate
from onnxprune.passes.analyse import Analyse
from onnxprune.passes.calibrate import Calibrate
from onnxprune.passes.mask import Mask
from onnxprune.passes.recover import Recover
from onnxprune.passes.repeat import Repeat
from onnxprune.passes.score import Score
from onnxprune.passes.select import Select
from onnxprune.passmanager import Pipeline
from onnxprune.plan import Plan
from onnxprune.recovery import with_weights
from onnxprune.regrowth import regrown
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


def test_what_is_gone_has_the_weights_of_the_original() -> None:
    """Where a layer reads it; what the repair made of the others stays."""
    first = analyse(build(TEXT))
    weights = 2 * first.model.array("B")
    weights[:12] = 0
    pruned = with_weights(first.model, {"B": weights})
    made = regrown(first, analyse(pruned)).model
    np.testing.assert_array_equal(made.array("B")[:12], first.model.array("B")[:12])
    np.testing.assert_array_equal(made.array("B")[12:], weights[12:])
    np.testing.assert_array_equal(made.array("A"), first.model.array("A"))


@pytest.mark.parametrize("regrow", [False, True])
@pytest.mark.parametrize("criterion", ["l2", "wanda", "obd"])
def test_a_channel_comes_back(data: str, criterion: str, regrow: bool) -> None:
    """The first step has taken the best half; the second one takes it back, if it may."""
    first = Pipeline((Analyse(), Calibrate(calibration=data), Select(), Score(criterion=criterion))).run(
        Unit(source=build(TEXT))
    )
    assert first.analysis is not None
    assert first.scores is not None
    values = {group.atom.id: first.scores.values[group.atom.id] for group in first.analysis.groups}
    wrong = {atom: scores < np.median(scores) for atom, scores in values.items()}
    last = (
        Score(criterion=criterion),
        Allocate(sparsity=0.5, round_to="1", allocation="uniform", steps=2),
    )
    unit = replace(first, plan=Plan.of(first.analysis.groups, wrong), step=2, regrow=regrow, statistics=None)
    for step in last:
        unit = step.run(unit)
    assert unit.plan is not None
    back = [(unit.plan.keep[atom] & ~keep).sum() for atom, keep in wrong.items()]
    assert min(back) >= 4 if regrow else max(back) == 0


@pytest.mark.parametrize("regrow", [False, True])
@pytest.mark.parametrize("form", ["element", "1:2", "block:2x2"])
def test_a_weight_comes_back(form: str, regrow: bool) -> None:
    """As above; a mask that may is that of one step."""
    one = Mask(granularity=form, criterion="l2", allocation="uniform")
    unit = Pipeline((Analyse(), one)).run(Unit(source=build(TEXT)))
    assert unit.masking is not None
    assert unit.original is not None
    best, whole = unit.masking.model.array("B"), unit.original.model.array("B")
    wrong = with_weights(unit.original.model, {"B": np.where(best == 0, whole, 0)})
    unit = replace(unit, masking=unit.masking.repaired(wrong), analysis=analyse(wrong), step=2, regrow=regrow)
    found = replace(one, steps=2).run(unit).masking
    assert found is not None
    assert np.array_equal(found.model.array("B"), best) == regrow
    assert [w.nonzero_before for w in found.weights] == [w.numbers for w in found.weights]


@pytest.mark.parametrize("options", [{"target": "macs=0.4", "criterion": "obd", "round_to": 1},
                                     {"granularity": "element", "sparsity": 0.7, "criterion": "wanda"},
                                     {"granularity": "1:4"}])  # fmt: skip
def test_what_comes_back_is_proven(data: str, options: dict[str, Any]) -> None:
    """The last step is hard: as small as was asked, repaired, verified."""
    report = api.prune(build(TEXT), **options, steps=3, regrow=True, calibration=data, rounds=0).report
    assert report.verified
    assert report.recovery == "reconstruct"
    (budget, (asked, reached)), *_ = report.targets.items()
    assert reached <= asked if budget == "macs" else abs(reached - asked) < 0.01


def test_regrow_where_nothing_can_come_back(data: str) -> None:
    with pytest.raises(UsageError, match="give --steps"):
        api.prune(build(TEXT), regrow=True, calibration=data, rounds=0)
    with pytest.raises(UsageError, match="'forward' runs the model as it is"):
        api.prune(build(TEXT), regrow=True, steps=2, criterion="forward", calibration=data, rounds=0)


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
