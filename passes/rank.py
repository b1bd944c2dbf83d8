"""rank: which residual branches go: one after the other, always the one whose absence costs the model least."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar

from onnxprune.errors import PassFailed, UsageError
from onnxprune.passmanager import option
from onnxprune.targets import Targets
from onnxprune.unit import Dropping, Unit

if TYPE_CHECKING:
    from onnxprune.branches import Branch

__all__ = ["Rank"]

DEFAULT_SPARSITY = 0.25
DROPPABLE = ("macs", "params", "size", "latency")  # what a branch that goes saves, as the whole model is measured


@dataclass(frozen=True)
class Rank:
    """Ranks residual branches by what the model loses without them and those that are gone, and says which go.

    Blocks of a residual network refine what passes by (Veit et al., arXiv 1605.06431), so that some can go alone.
    """

    name: ClassVar[str] = "rank"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis"})
    gives: ClassVar[frozenset[str]] = frozenset({"plan"})

    granularity: str = option("branch", "What is removed: whole residual branches.", choices=("branch",))
    sparsity: float | None = option(None, "Fraction of the branches to drop (0.25, if no target is given).", "F")
    target: tuple[str, ...] = option((), "What may stay: latency=0.65, macs=0.5, params=0.5, size=2MB.", "BUDGET=F")
    criterion: str = option(
        "forward", "What makes a branch important: what the outputs lose with it, or its last weights (l2).",
        choices=("forward", "l2"),
    )  # fmt: skip
    include: tuple[str, ...] = option((), "Drop only branches of that name.", "PATTERN")
    exclude: tuple[str, ...] = option((), "Leave alone branches of that name.", "PATTERN")
    best_effort: bool = option(False, "Write what can be had if a target cannot be reached.")
    seed: int = option(0, "Seed of everything that is random.", "N", minimum=0)
    threads: int = option(1, "Threads of ONNX Runtime and of repairs.", "N", minimum=1)
    provider: str = option("CPUExecutionProvider", "Execution provider of ONNX Runtime.", "NAME")

    def __post_init__(self) -> None:
        if self.sparsity is not None and self.target:
            raise UsageError("--sparsity and --target both say how much to prune; give one of them")
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise UsageError(f"--sparsity {self.sparsity:g}: expected the fraction to drop, at least 0 and below 1")
        targets = Targets.parse(self.target)
        wrong = [bound.text for name, bound in targets.bounds.items() if name not in DROPPABLE]
        if wrong or targets.gate is not None:
            what = wrong[0] if wrong else targets.gate.text if targets.gate else ""
            raise UsageError(f"--target {what!r}: of branches, expected one of {', '.join(DROPPABLE)}")

    def run(self, unit: Unit) -> Unit:
        """Find and rank them; those that go are not gone yet."""
        from onnxprune.branches import branches_of
        from onnxprune.depth import Depth
        from onnxprune.plan import Plan
        from onnxprune.runtime.failure import RunFailed

        assert unit.analysis is not None
        analysis = unit.analysis
        branches = self._chosen(unit.source.source, branches_of(analysis))
        bounds = Targets.parse(self.target).bounds
        share = DEFAULT_SPARSITY if self.sparsity is None else self.sparsity
        count = len(branches) if bounds else round(share * len(branches))
        try:
            with Depth(
                unit.source, analysis, unit.samples, unit.shift, self.threads, self.provider, self.seed
            ) as depth:
                depth.watch = unit.watch
                losses = _last_weights(unit, branches) if self.criterion == "l2" else depth.loss
                dropped, effects, reached = depth.dropped(branches, count, losses, bounds)
        except RunFailed as failure:
            raise PassFailed(f"branches cannot be ranked, the model does not run: {failure.reason}") from failure
        allocation = depth.judged(reached, bounds, self.best_effort)
        told = tuple(Dropping(b.name, unit.source.nodes[b.node].name, effects[b.name], b in dropped) for b in branches)
        return replace(unit, plan=Plan.of(analysis.groups, {}), branches=told, allocation=allocation, targets=reached,
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


def _last_weights(unit: Unit, branches: Sequence[Branch]) -> Callable[[Sequence[Branch]], float]:
    """A loss that adds up the root mean squares of the last weight, of more than one axis, of each branch."""
    import numpy as np

    assert unit.analysis is not None
    model, sizes = unit.analysis.model, {}
    for branch in branches:
        last = [name for name in branch.weights if len(model.weights[name].shape) > 1][-1]
        sizes[branch.name] = float(np.sqrt(np.mean(np.square(model.array(last), dtype=np.float64))))
    return lambda dropped: sum(sizes[branch.name] for branch in dropped)
