"""meet: the latency that was asked for, measured of the model as it is cut, and corrected until it is met."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from onnxprune.errors import GateNotMet, PassFailed
from onnxprune.passmanager import option
from onnxprune.targets import AIMED_TOLERANCE, MEASURED_TOLERANCE, Targets
from onnxprune.unit import Attempt, Unit

if TYPE_CHECKING:
    from onnxprune.allocators import Allocation

__all__ = ["Meet"]

ROUNDS, SESSIONS = 30, 3
OTHERS = 0.02  # how near to its target another budget has to be, for the latency to end below its own


@dataclass(frozen=True)
class Meet:
    """Measures the model that an allocation makes and sends the run back to `allocate` until the latency is met.

    A prediction is off by some percent, so what is asked of it is corrected by what was measured; see `aiming`. Weights
    do not matter for time, so this is done before anything is repaired. Without a target `latency`, nothing is done.
    """

    name: ClassVar[str] = "meet"
    needs: ClassVar[frozenset[str]] = frozenset({"source", "analysis", "allocation", "plan"})
    gives: ClassVar[frozenset[str]] = frozenset({"allocation", "plan"})

    target: tuple[str, ...] = option((), "What may stay: latency=0.5, latency=4ms.", "BUDGET=F")
    steps: int = option(1, "Prune in so many steps, with scores and repair anew after each.", "N", minimum=1)
    best_effort: bool = option(False, "Write what can be had if a target cannot be reached.")
    threads: int = option(1, "Threads of ONNX Runtime and of repairs.", "N", minimum=1)
    provider: str = option("CPUExecutionProvider", "Execution provider of ONNX Runtime.", "NAME")
    seed: int = option(0, "Seed of everything that is random.", "N", minimum=0)

    def run(self, unit: Unit) -> Unit:
        """Measure, then go back to allocate with a corrected aim, or on with the best that was found."""
        from onnxprune.aiming import best, next_aim

        bound = Targets.parse(self.target).bounds.get("latency")
        if bound is None or unit.step < self.steps:
            return unit
        asked = unit.targets["latency"][0]
        attempts = (*unit.attempts, self._attempt(unit, bound.amount))
        shots = [attempt.shot for attempt in attempts]
        if next_aim(asked, AIMED_TOLERANCE, shots) is not None:
            return replace(unit, attempts=attempts, redo="allocate")
        taken = attempts[best(asked, shots)]
        targets = {**unit.targets, "latency": (asked, taken.shot.measured)}
        for budget in targets.keys() - {"latency", "sparsity"}:
            targets[budget] = targets[budget][0], taken.allocation.reached[budget]
        found = _judged(targets, taken)
        if not found.met and not self.best_effort:
            raise GateNotMet(
                f"{found.reason}. Nothing was written; ask for less, or take what can be had with --best-effort"
            )
        told = f"latency: {taken.shot.measured:.3g} of the original's, the best of {len(shots)} that were measured"
        return replace(unit, allocation=found, plan=taken.plan, targets=targets, attempts=(), notes=(*unit.notes, told))

    def _attempt(self, unit: Unit, amount: float | None) -> Attempt:
        """What the present plan comes to: the share of the original's latency; of an amount, as milliseconds tell."""
        from onnxprune import cut
        from onnxprune.aiming import Shot
        from onnxprune.runtime.failure import RunFailed
        from onnxprune.runtime.timing import measure
        from onnxprune.trials import one_feed

        assert unit.analysis is not None
        assert unit.allocation is not None
        assert unit.plan is not None
        asked, aimed = unit.targets["latency"][0], unit.aims["latency"]
        for known in unit.attempts:
            if known.allocation.counts == unit.allocation.counts:
                return replace(known, shot=replace(known.shot, aim=aimed))
        model = cut.shrink(unit.analysis, unit.plan)
        feed = one_feed(unit.source, unit.analysis.shapes.sizes, unit.samples, self.seed)
        done = len(unit.attempts)
        try:
            timing = measure(
                [unit.source.to_bytes(), model.to_bytes()], feed, rounds=ROUNDS, sessions=SESSIONS,
                threads=self.threads, provider=self.provider, seed=self.seed + done,
                on_round=lambda n, of: unit.watch(f"measure latency (try {done + 1})", n, of),
            )  # fmt: skip
        except RunFailed as failure:
            raise PassFailed(f"latency cannot be measured with {self.provider}: {failure.reason}") from failure
        measured = 1 / timing.pairs[0].speedup
        if amount is not None:
            measured = timing.models[1].latency_ms / amount * asked
        everything_went = unit.allocation.reached["latency"] > aimed * (1 + 1e-6)
        return Attempt(unit.allocation, unit.plan, Shot(aimed, measured, everything_went))


def _judged(targets: dict[str, tuple[float, float]], taken: Attempt) -> Allocation:
    """The allocation, met if every budget is held and one of them is used up but for its tolerance."""
    asked, reached = targets["latency"]
    others = [pair for budget, pair in targets.items() if budget not in ("latency", "sparsity")]
    held = reached <= asked and all(value <= limit * (1 + 1e-6) for limit, value in others)
    used = reached >= asked * (1 - MEASURED_TOLERANCE) or any(v >= limit * (1 - OTHERS) for limit, v in others)
    if held and used:
        return replace(taken.allocation, met=True, reason="")
    said = ", ".join(f"{b}={limit:.4g} was asked and {b}={value:.4g} reached" for b, (limit, value) in targets.items())
    why = "no finer step is measured below it" if held else taken.allocation.reason or "no lower latency was measured"
    slower = "; the pruned model is not faster than the original" if reached >= 1 else ""
    return replace(taken.allocation, met=False, reason=f"{said}: {why}{slower}")
