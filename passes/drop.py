"""drop: leave out whole residual branches, those whose absence changes the outputs least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar

from onnxprune.errors import UsageError, VerificationFailed
from onnxprune.passmanager import option
from onnxprune.unit import Dropping, Unit

if TYPE_CHECKING:
    from onnxprune.branches import Branch
    from onnxprune.dependency import Analysis
    from onnxprune.verification import Verifier

__all__ = ["Drop"]


@dataclass(frozen=True)
class Drop:
    """Ranks residual branches by their effect, drops the least, and proves that dropping is silencing.

    That it is the right thing to do nobody can prove: the change of the outputs is measured, the model is not exact.
    """

    name: ClassVar[str] = "drop"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis"})
    gives: ClassVar[frozenset[str]] = frozenset({"plan", "model", "verdict"})

    granularity: str = option("branch", "What is removed: whole residual branches.", choices=("branch",))
    sparsity: float = option(0.25, "Fraction of the branches to drop.", "F")
    criterion: str = option(
        "forward", "What makes a branch important: what the outputs lose with it, or its last weights (l2).",
        choices=("forward", "l2"),
    )  # fmt: skip
    include: tuple[str, ...] = option((), "Drop only branches of that name.", "PATTERN")
    exclude: tuple[str, ...] = option((), "Leave alone branches of that name.", "PATTERN")
    seed: int = option(0, "Seed of everything that is random.", "N", minimum=0)
    threads: int = option(1, "Threads of ONNX Runtime.", "N", minimum=1)

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise UsageError(f"--sparsity {self.sparsity:g}: expected the fraction to drop, at least 0 and below 1")

    def run(self, unit: Unit) -> Unit:
        """Find, rank, drop, verify."""
        from onnxprune.branches import branches_of, drop
        from onnxprune.plan import Plan
        from onnxprune.trials import feeds_for
        from onnxprune.verification import Verifier

        assert unit.analysis is not None
        analysis = unit.analysis
        branches = self._chosen(unit.source.source, branches_of(analysis))
        feeds = feeds_for(
            unit.source, analysis.shapes.sizes, unit.samples, self.seed, others=analysis.shapes.other_sizes
        )
        with Verifier(analysis, feeds, self.threads, seed=self.seed) as verifier:
            effects = self._effects(unit, branches, verifier)
            ranked = sorted(branches, key=lambda b: (effects[b.name], b.node))
            dropped = ranked[: round(self.sparsity * len(branches))]
            model = drop(analysis, dropped)
            verdict = verifier.check_without(dropped, model)
        if not verdict.passed:
            raise VerificationFailed(
                f"the model without {len(dropped)} branches is not the one in which they are silent: {verdict.detail}. "
                "Nothing was written; please report this model"
            )
        told = tuple(Dropping(b.name, unit.source.nodes[b.node].name, effects[b.name], b in dropped) for b in branches)
        return replace(unit, plan=Plan.of(analysis.groups, {}), model=model, verdict=verdict, branches=told,
                       notes=(*unit.notes, *self._notes(unit)))  # fmt: skip

    def _notes(self, unit: Unit) -> Sequence[str]:
        if self.criterion != "forward" or unit.samples is not None:
            return ()
        return ("branches were ranked on random inputs: give --calibration to rank them on real ones",)

    def _chosen(self, source: str, branches: Sequence[Branch]) -> list[Branch]:
        for pattern in (*self.include, *self.exclude):
            if not any(fnmatchcase(branch.name, pattern) for branch in branches):
                names = ", ".join(branch.name for branch in branches[:8]) or "none"
                raise UsageError(
                    f"the pattern {pattern!r} matches no residual branch of {source!r}; branches are {names}"
                )
        if not branches:
            raise UsageError(f"{source!r} has no residual branch that could be dropped")
        wanted = [b for b in branches if not self.include or any(fnmatchcase(b.name, p) for p in self.include)]
        return [b for b in wanted if not any(fnmatchcase(b.name, p) for p in self.exclude)]

    def _effects(self, unit: Unit, branches: Sequence[Branch], verifier: Verifier) -> dict[str, float]:
        """How much each branch matters: the relative change of the outputs without it, or the size of its weights."""
        assert unit.analysis is not None
        if self.criterion == "l2":
            return {branch.name: _weights(unit.analysis, branch) for branch in branches}
        from onnxprune.branches import drop

        effects = {}
        for done, branch in enumerate(branches):
            unit.watch(f"rank branches ({branch.name})", done, len(branches))
            effects[branch.name] = verifier.change_of(drop(unit.analysis, [branch])).relative
        return effects


def _weights(analysis: Analysis, branch: Branch) -> float:
    """The root mean square of the last weight of the branch that has more than one axis."""
    import numpy as np

    last = [name for name in branch.weights if len(analysis.model.weights[name].shape) > 1][-1]
    return float(np.sqrt(np.mean(np.square(analysis.model.array(last), dtype=np.float64))))
