"""A latency is met by measuring and correcting, a metric by searching; what cannot be had is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from onnxprune.cost import Costs
from onnxprune.dependency import analyse
from onnxprune.errors import GateNotMet, UsageError
from onnxprune.latency import LatencyModel
from onnxprune.model import Model
from onnxprune.passes.allocate import Allocate
from onnxprune.passes.analyse import Analyse
from onnxprune.passes.judge import Judge
from onnxprune.passes.meet import Meet
from onnxprune.passes.score import Score
from onnxprune.passes.select import Select
from onnxprune.passmanager import Pass, Pipeline
from onnxprune.testing import build
from onnxprune.unit import Evaluation, Unit

TEXT = """
    x[N,8] -> y
    a = Gemm(x, A[8,64], a0[64]); ra = Relu(a)
    b = Gemm(ra, B[64,64], b0[64]); rb = Relu(b)
    c = Gemm(rb, C[64,64], c0[64]); rc = Relu(c)
    y = Gemm(rc, Y[64,4])
"""
Truth = Callable[[float], float]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Truth], list[float]]:
    """Let the runtime take a time that depends on the MACs of what it runs; the list holds what was measured."""

    def install(truth: Truth) -> list[float]:
        measured: list[float] = []

        def measure(models: list[bytes], *_: Any, **__: Any) -> Any:
            before, after = (Costs.of(analyse(Model.from_bytes(m))).macs() for m in models)
            measured.append(truth(after / before))
            times = SimpleNamespace(latency_ms=2.0), SimpleNamespace(latency_ms=2.0 * measured[-1])
            return SimpleNamespace(pairs=(SimpleNamespace(speedup=1 / measured[-1]),), models=times)

        monkeypatch.setattr("onnxprune.runtime.timing.measure", measure)
        return measured

    return install


def start() -> Unit:
    """A model whose latency is predicted to be its MACs."""
    model = build(TEXT)
    analysis = analyse(model)
    terms = tuple(replace(term, coefficient=term.coefficient * 1e-4) for term in Costs.of(analysis).terms["macs"])
    latency = cast("LatencyModel", SimpleNamespace(terms=terms, base_ms=2.0))
    return Unit(source=model, analysis=analysis, latency=latency)


def run(*last: Pass, target: tuple[str, ...], best_effort: bool = False, **options: Any) -> Unit:
    steps = Allocate(target=target, best_effort=best_effort, **options), Meet(target=target, best_effort=best_effort)
    return Pipeline((Analyse(), Select(), Score(), *steps, *last)).run(start())


@pytest.mark.parametrize("target", ["latency=0.5", "latency=1ms"])
def test_a_latency_is_met_though_the_prediction_is_off(timed: Callable[[Truth], list[float]], target: str) -> None:
    """A quarter of the time is there whatever is cut: so more goes than the prediction says."""
    measured = timed(lambda macs: 0.25 + 0.75 * macs)
    unit = run(target=(target,), round_to="1")
    asked, reached = unit.targets["latency"]
    assert asked == 0.5
    assert 0.485 <= reached <= 0.5
    assert reached in measured
    assert 1 < len(measured) <= 5
    assert unit.allocation is not None
    assert unit.allocation.met
    assert unit.plan is not None
    assert unit.plan.counts.items() <= unit.allocation.counts.items()
    assert "the best of" in unit.notes[-1]


def test_a_latency_that_cannot_be_had(timed: Callable[[Truth], list[float]]) -> None:
    """Everything goes, and it is not enough: the run fails, or writes what it came to if that is asked for."""
    timed(lambda macs: 0.6 + 0.4 * macs)
    with pytest.raises(GateNotMet, match=r"latency=0\.5 was asked and latency=0\.6\d* reached: .*--best-effort"):
        run(target=("latency=0.5",))
    unit = run(target=("latency=0.5",), best_effort=True)
    assert unit.allocation is not None
    assert not unit.allocation.met
    assert unit.targets["latency"][1] < 0.65


def test_what_is_slower_is_said_to_be(timed: Callable[[Truth], list[float]]) -> None:
    """A pruned model that takes longer meets no latency, and the reason says so."""
    timed(lambda macs: 1.1 - 0.05 * macs)
    with pytest.raises(GateNotMet, match="the pruned model is not faster than the original"):
        run(target=("latency=0.9",))


def test_another_budget_may_be_the_tighter_one(timed: Callable[[Truth], list[float]]) -> None:
    """All targets hold at once: where MACs bind, a latency far below its own target is right."""
    timed(lambda macs: macs)
    unit = run(target=("latency=0.8", "macs=0.4"), round_to="1")
    assert unit.allocation is not None
    assert unit.allocation.met
    assert unit.targets["macs"][1] <= 0.4
    assert unit.targets["latency"][1] <= 0.42


def test_only_the_last_step_is_measured(timed: Callable[[Truth], list[float]]) -> None:
    """Of a pruning in several steps, the first ones go part of the way and are not measured."""
    measured = timed(lambda macs: macs)
    allocate, meet = Allocate(target=("latency=0.5",), steps=2, schedule="linear"), Meet(("latency=0.5",), steps=2)
    unit = Pipeline((Analyse(), Select(), Score(), allocate, meet)).run(start())
    assert not measured
    assert unit.aims["latency"] == 0.75


@dataclass(frozen=True)
class Scored:
    """An evaluation whose metric is a function of the MACs that stay."""

    metric: Truth
    seen: list[float]
    name: ClassVar[str] = "scored"
    needs: ClassVar[frozenset[str]] = frozenset({"plan"})
    gives: ClassVar[frozenset[str]] = frozenset({"model", "evaluation"})

    def run(self, unit: Unit) -> Unit:
        assert unit.analysis is not None
        assert unit.plan is not None
        costs = Costs.of(unit.analysis)
        self.seen.append(costs.macs(unit.plan.counts) / costs.macs())
        evaluation = Evaluation({"top1": self.metric(1.0)}, {"top1": self.metric(self.seen[-1])})
        return replace(unit, model=unit.source, evaluation=evaluation)


def judged(metric: Truth, target: tuple[str, ...], best_effort: bool = False) -> tuple[Unit, list[float]]:
    seen: list[float] = []
    judge = Judge(target=target, evaluate="x.npz", best_effort=best_effort)
    return run(Scored(metric, seen), judge, target=target, best_effort=best_effort, round_to="1"), seen


def test_as_fast_as_a_metric_allows() -> None:
    """By bisection: the least that holds the metric, and a few percent more would not."""
    unit, seen = judged(lambda macs: macs**0.5, ("metric>=0.6",))
    assert unit.evaluation is not None
    assert 0.6 <= unit.evaluation.after["top1"] < 0.63
    assert len(seen) <= 7
    assert unit.allocation is not None
    assert unit.allocation.met
    assert "metric>=0.6: holds at 0.3" in unit.notes[-1]


def test_a_metric_that_nothing_holds() -> None:
    """No pruning at all is allowed: the run fails and says how far it looked."""
    with pytest.raises(GateNotMet, match=r"no pruning that was tried holds it, up to 0\.9"):
        judged(lambda macs: macs, ("metric>=0.999",))
    unit, _ = judged(lambda macs: macs, ("metric>=0.999",), best_effort=True)
    assert unit.allocation is not None
    assert not unit.allocation.met


def test_a_metric_beside_a_budget() -> None:
    """Then nothing is searched: the budget is met, and the metric holds there or the run fails."""
    unit, seen = judged(lambda macs: macs, ("macs=0.5", "metric-drop<=60%"))
    assert len(seen) == 1
    assert unit.targets["macs"][1] <= 0.5
    with pytest.raises(GateNotMet, match=r"metric-drop<=10% was asked, and top1 went from 1 to 0\.5"):
        judged(lambda macs: macs, ("macs=0.5", "metric-drop<=10%"))


def test_a_metric_needs_an_evaluation() -> None:
    """Refused before anything runs."""
    with pytest.raises(UsageError, match="--evaluate"):
        Judge(target=("metric>=0.9",))
