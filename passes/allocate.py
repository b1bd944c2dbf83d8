"""allocate: how many indices of each group stay, and which: the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from onnxprune.errors import GateNotMet, UsageError
from onnxprune.passmanager import option
from onnxprune.unit import Unit

__all__ = ["Allocate"]

DEFAULT_SPARSITY = 0.5


@dataclass(frozen=True)
class Allocate:
    """Decides how many indices of each group stay for a sparsity or for targets, then keeps the best-scored ones."""

    name: ClassVar[str] = "allocate"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis", "candidates", "scores"})
    gives: ClassVar[frozenset[str]] = frozenset({"allocation", "plan"})

    allocation: str = option("auto", "How much to take from where: uniform, global, or what suits best.", "NAME")
    sparsity: float | None = option(None, "Fraction of the indices to remove (0.5, if no target is given).", "F")
    target: tuple[str, ...] = option((), "What may stay of the original, such as macs=0.5 or params=0.3.", "BUDGET=F")
    round_to: str = option("auto", "Multiple to keep: what the runtime's kernels like on this machine, or N.", "auto|N")
    keep_min: int = option(1, "Indices of each group that stay at least.", "N")
    best_effort: bool = option(False, "Write the model even if a target cannot be reached.")

    def run(self, unit: Unit) -> Unit:
        """Allocate; groups that a verification found at fault stay whole."""
        from onnxprune.allocators import Problem, allocate, candidates, choose
        from onnxprune.cost import Costs
        from onnxprune.plan import Plan
        from onnxprune.runtime.machine import conv_block

        assert unit.analysis is not None
        assert unit.candidates is not None
        assert unit.scores is not None
        groups = [g for g in unit.candidates if g.atom.id not in unit.faults]
        targets = self._targets()
        sparsity = DEFAULT_SPARSITY if self.sparsity is None and not targets else self.sparsity
        chosen = candidates(
            unit.analysis, groups, self._multiple(), block=conv_block(), keep_min=self._at_least_one("keep_min")
        )
        problem = Problem(chosen, Costs.of(unit.analysis), unit.scores.values, sparsity, targets)
        found = allocate(self.allocation, problem)
        if not found.met and not self.best_effort:
            raise GateNotMet(
                f"{found.reason}. Nothing was written; ask for less, or take what can be had with --best-effort"
            )
        notes = (*unit.notes, found.reason) if found.reason and found.reason not in unit.notes else unit.notes
        plan = Plan.of(unit.analysis.groups, choose(unit.scores.values, found.counts))
        return replace(unit, allocation=found, plan=plan, notes=notes)

    def _targets(self) -> Mapping[str, float]:
        targets: dict[str, float] = {}
        for text in self.target:
            budget, _, fraction = text.partition("=")
            try:
                targets[budget] = float(fraction)
            except ValueError:
                raise UsageError(f"--target {text!r}: expected a budget and a fraction, such as macs=0.5") from None
        return targets

    def _multiple(self) -> int | str:
        if self.round_to == "auto":
            return "auto"
        if not self.round_to.isdigit() or int(self.round_to) < 1:
            raise UsageError(f"--round-to {self.round_to!r}: expected auto or a positive number")
        return int(self.round_to)

    def _at_least_one(self, name: str) -> int:
        value = int(getattr(self, name))
        if value < 1:
            raise UsageError(f"--{name.replace('_', '-')} {value}: expected at least 1, no axis is ever emptied")
        return value
