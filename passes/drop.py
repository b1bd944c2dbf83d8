"""drop: leave out the residual branches that were chosen to go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from onnxprune.errors import VerificationFailed
from onnxprune.passmanager import option
from onnxprune.unit import Unit

__all__ = ["Drop"]


@dataclass(frozen=True)
class Drop:
    """Drops branches, and proves that dropping is silencing.

    That it is the right thing to do nobody can prove: the change of the outputs is measured, the model is not exact.
    """

    name: ClassVar[str] = "drop"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis", "plan"})
    gives: ClassVar[frozenset[str]] = frozenset({"model", "verdict"})

    seed: int = option(0, "Seed of everything that is random.", "N", minimum=0)
    threads: int = option(1, "Threads of ONNX Runtime and of repairs.", "N", minimum=1)

    def run(self, unit: Unit) -> Unit:
        """Drop and verify."""
        from onnxprune.branches import drop
        from onnxprune.trials import feeds_for
        from onnxprune.verification import Verifier

        assert unit.analysis is not None
        analysis, dropped = unit.analysis, unit.dropped
        shapes = analysis.shapes
        feeds = feeds_for(unit.source, shapes.sizes, unit.samples, self.seed, others=shapes.other_sizes)
        model = drop(analysis, dropped)
        with Verifier(analysis, feeds, self.threads, seed=self.seed) as verifier:
            verdict = verifier.check_without(dropped, model, unit.source)
        if not verdict.passed:
            raise VerificationFailed(
                f"the model without {len(dropped)} branches is not the one in which they are silent: {verdict.detail}. "
                "Nothing was written; please report this model"
            )
        return replace(unit, model=model, verdict=verdict)
