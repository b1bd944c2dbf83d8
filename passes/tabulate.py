"""tabulate: where the model's time goes, measured on this machine, where a target needs to know."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from onnxprune.errors import PassFailed
from onnxprune.passmanager import option
from onnxprune.targets import Targets
from onnxprune.unit import Unit

__all__ = ["Tabulate"]


@dataclass(frozen=True)
class Tabulate:
    """Measures the model at some widths of its groups, so that `allocate` knows what a channel costs in time."""

    name: ClassVar[str] = "tabulate"
    needs: ClassVar[frozenset[str]] = frozenset({"source", "analysis", "candidates"})
    gives: ClassVar[frozenset[str]] = frozenset()

    target: tuple[str, ...] = option((), "What may stay: latency=0.5, latency=4ms.", "BUDGET=F")
    threads: int = option(1, "Threads of ONNX Runtime and of repairs.", "N", minimum=1)
    provider: str = option("CPUExecutionProvider", "Execution provider of ONNX Runtime.", "NAME")
    seed: int = option(0, "Seed of everything that is random.", "N", minimum=0)

    def run(self, unit: Unit) -> Unit:
        """Measure, or remember what was measured on this machine before."""
        if not Targets.parse(self.target).needs_latency or not unit.candidates:
            return unit
        from onnxprune.allocators import candidates
        from onnxprune.calibration import Cache
        from onnxprune.latency import latency_model
        from onnxprune.runtime.failure import RunFailed
        from onnxprune.runtime.machine import conv_block
        from onnxprune.trials import one_feed

        assert unit.analysis is not None
        chosen = candidates(unit.analysis, unit.candidates, block=conv_block())
        feed = one_feed(unit.source, unit.analysis.shapes.sizes, unit.samples, self.seed)
        try:
            found = latency_model(
                unit.analysis, chosen, feed, threads=self.threads, provider=self.provider, seed=self.seed,
                watch=unit.watch, cache=Cache.of_user(),
            )  # fmt: skip
        except RunFailed as failure:
            raise PassFailed(f"latency cannot be measured with {self.provider}: {failure.reason}") from failure
        note = f"latency: {found.base_ms:.3g} ms; predictions at other widths were off by {found.error:.1%} at most"
        return replace(unit, latency=found, notes=(*unit.notes, note))
