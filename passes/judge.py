"""judge: the metric that was asked for; where nothing else bounds the run, the least latency that it allows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from onnxprune.errors import GateNotMet, UsageError
from onnxprune.passmanager import option
from onnxprune.targets import Gate, Targets
from onnxprune.unit import Lever, Unit

__all__ = ["Judge"]

RUNS = 7  # of everything from allocation to evaluation
NARROW = 0.03  # a share of the latency; what is kept and what is lost nearer to each other are not told apart
LEAST = 0.05  # the lowest share of the latency that is tried


@dataclass(frozen=True)
class Judge:
    """Fails the run whose metric is not as asked; or finds, by bisection, how little latency the metric allows.

    Each step of the search allocates for a share of the predicted latency, repairs, verifies and evaluates; the fastest
    model whose metric holds is the result.
    """

    name: ClassVar[str] = "judge"
    needs: ClassVar[frozenset[str]] = frozenset({"source", "model"})
    gives: ClassVar[frozenset[str]] = frozenset()

    target: tuple[str, ...] = option((), "What must hold: metric>=0.9, metric-drop<=1%.", "BUDGET=F")
    evaluate: str = option("", "Labelled data for top-1 accuracy, or module:function that measures.", "PATH")
    best_effort: bool = option(False, "Write what can be had if a target cannot be reached.")

    def __post_init__(self) -> None:
        gate = Targets.parse(self.target).gate
        if gate is not None and not self.evaluate:
            raise UsageError(f"--target {gate.text!r} needs --evaluate, which says what the metric is and of what data")

    def run(self, unit: Unit) -> Unit:
        """Judge the evaluation, and go back to allocate while a search goes on."""
        targets = Targets.parse(self.target)
        if targets.gate is None or unit.evaluation is None:
            return unit
        metric = next(iter(unit.evaluation.before))
        before, after = unit.evaluation.before[metric], unit.evaluation.after[metric]
        holds = targets.gate.holds(before, after)
        if targets.only_metric:
            return self._search(unit, targets.gate, holds)
        if not holds:
            said = f"{targets.gate.text} was asked, and {metric} went from {before:.4g} to {after:.4g}"
            if not self.best_effort:
                raise GateNotMet(f"{said}. Nothing was written; ask for less pruning, or give calibration data")
            assert unit.allocation is not None
            unit = replace(unit, allocation=replace(unit.allocation, met=False, reason=said))
        return unit

    def _search(self, unit: Unit, gate: Gate, holds: bool) -> Unit:
        """Bisect the share of the latency between what held and what did not."""
        assert unit.allocation is not None
        lever = unit.lever or Lever(unit.targets["latency"][0])
        reached = unit.allocation.reached["latency"]
        if holds:
            lever = replace(lever, held=min(reached, lever.held or 1.0), best=replace(unit, lever=None))
        else:
            lever = replace(lever, lost=max(lever.aim, lever.lost or 0.0))
        lever = replace(lever, runs=lever.runs + 1)
        low, high = lever.lost or 0.0, lever.held or 1.0
        exhausted = holds and reached > lever.aim * (1 + 1e-6)  # every group is at its minimum
        aim = max((low + high) / 2, LEAST)
        if lever.runs < RUNS and high - low > NARROW and aim < high and not exhausted:
            return replace(unit, lever=replace(lever, aim=aim), attempts=(), redo="allocate")
        if lever.best is not None:
            found = lever.best
            assert found.allocation is not None
            told = f"{gate.text}: holds at {high:.3g} of the predicted latency, the best of {lever.runs} runs"
            met = replace(found.allocation, met=True, reason="")
            return replace(found, allocation=met, notes=(*found.notes, told), seconds=unit.seconds, targets={})
        said = f"{gate.text} was asked, and no pruning that was tried holds it, up to {low:.3g} of the latency"
        if not self.best_effort:
            raise GateNotMet(f"{said}. Nothing was written; give calibration data, or ask for less")
        return replace(unit, allocation=replace(unit.allocation, met=False, reason=said))
