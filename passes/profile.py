"""profile: latency before and after, interleaved in one process, with a confidence interval."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from onnxprune.errors import GateNotMet, PassFailed
from onnxprune.passmanager import option
from onnxprune.targets import MEASURED_TOLERANCE
from onnxprune.unit import Unit

__all__ = ["Profile"]

SESSIONS = 3  # fresh sessions of each model: two sessions of one model differ by more than its rounds


@dataclass(frozen=True)
class Profile:
    """Measures the original against the pruned model, batch 1, by the protocol of `bench`."""

    name: ClassVar[str] = "profile"
    needs: ClassVar[frozenset[str]] = frozenset({"source", "analysis", "model"})
    gives: ClassVar[frozenset[str]] = frozenset()

    rounds: int = option(40, "Timed calls of each model; 0 measures no latency.", "N", minimum=0)
    threads: int = option(1, "Threads of ONNX Runtime and of repairs.", "N", minimum=1)
    provider: str = option("CPUExecutionProvider", "Execution provider of ONNX Runtime.", "NAME")
    seed: int = option(0, "Seed of everything that is random.", "N", minimum=0)
    best_effort: bool = option(False, "Write what can be had if a target cannot be reached.")
    seconds: float = option(60.0, "Stop measuring latency after so many seconds.", "S", minimum=0)

    def run(self, unit: Unit) -> Unit:
        """Time both models on one input."""
        if not self.rounds:
            return unit
        from onnxprune.runtime.failure import RunFailed
        from onnxprune.runtime.timing import measure
        from onnxprune.trials import one_feed

        assert unit.analysis is not None
        assert unit.model is not None
        sizes = unit.analysis.shapes.sizes if unit.verdict is None else unit.verdict.sizes
        feed = one_feed(unit.source, sizes, unit.samples, self.seed)
        try:
            timing = measure(
                [unit.source.to_bytes(), unit.model.to_bytes()],
                feed,
                rounds=self.rounds,
                sessions=min(SESSIONS, self.rounds),
                threads=self.threads,
                seed=self.seed,
                seconds=self.seconds,
                provider=self.provider,
                on_round=lambda done, total: unit.watch("measure latency", done, total),
            )
        except RunFailed as failure:
            raise PassFailed(
                f"latency cannot be measured with {self.provider}: {failure.reason}. Nothing was written; --rounds 0 "
                "measures no latency"
            ) from failure
        return self._judged(replace(unit, timing=timing))

    def _judged(self, unit: Unit) -> Unit:
        """What was measured at last is what the report says of a latency that was asked for; too much of it fails."""
        if "latency" not in unit.targets:
            return unit
        assert unit.timing is not None
        assert unit.allocation is not None
        asked, measured = unit.targets["latency"][0], 1 / unit.timing.pairs[0].speedup
        allocation, unit = unit.allocation, replace(unit, targets={**unit.targets, "latency": (asked, measured)})
        if abs(measured / asked - 1) <= MEASURED_TOLERANCE and unit.targets.keys() == {"latency"}:
            return replace(unit, allocation=replace(allocation, met=True, reason=""))
        if measured <= asked * (1 + MEASURED_TOLERANCE) or not allocation.met:
            return unit
        said = f"latency={asked:.4g} of the original's was asked, and the result was measured to take {measured:.4g}"
        if not self.best_effort:
            raise GateNotMet(f"{said}. Nothing was written; ask for less, or take what there is with --best-effort")
        return replace(unit, allocation=replace(allocation, met=False, reason=said))
