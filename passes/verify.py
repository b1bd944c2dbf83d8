"""verify: the theorem run(mask) == run(shrink), checked in ONNX Runtime before anything is written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from onnxprune.errors import VerificationFailed
from onnxprune.passmanager import option
from onnxprune.unit import Unit

__all__ = ["Verify"]


@dataclass(frozen=True)
class Verify:
    """Runs both models on several inputs in a child process; groups at fault are left whole and said so.

    When groups are at fault, the run goes back to `allocate`, so that the others can make up for them.
    """

    name: ClassVar[str] = "verify"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis", "plan", "model"})
    gives: ClassVar[frozenset[str]] = frozenset({"verdict"})

    seed: int = option(0, "Seed of everything that is random.", "N", minimum=0)
    threads: int = option(1, "Threads of ONNX Runtime and of repairs.", "N", minimum=1)

    def run(self, unit: Unit) -> Unit:
        """Check; find and exclude the groups at fault; give up only when that does not help."""
        from onnxprune import cut
        from onnxprune.trials import feeds_for
        from onnxprune.verification import Verifier

        assert unit.analysis is not None
        assert unit.plan is not None
        shapes = unit.analysis.shapes
        feeds = feeds_for(unit.source, shapes.sizes, unit.samples, self.seed, others=shapes.other_sizes)
        with Verifier(unit.analysis, feeds, self.threads, seed=self.seed) as verifier:
            verdict = verifier.check(unit.plan, unit.model)
            notes = tuple(dict.fromkeys((*unit.notes, *verdict.left_out)))
            if verdict.passed:
                return replace(unit, verdict=verdict, notes=notes)
            faults = verifier.faults(unit.plan, lambda n: unit.watch(f"find the groups at fault (check {n})", 0, 0))
            plan, model = unit.plan.without(faults), unit.model
            if faults:
                model = cut.shrink(unit.analysis, plan)
                verdict = verifier.check(plan, model)
        if not verdict.passed:
            raise VerificationFailed(
                f"the pruned model is not the {'masked ' if plan.keep else ''}original, and no group could be found at "
                f"fault: {verdict.detail}. Nothing was written; please report this model"
            )
        faults |= unit.faults
        return replace(unit, verdict=verdict, plan=plan, model=model, faults=faults, notes=notes, redo="allocate")
