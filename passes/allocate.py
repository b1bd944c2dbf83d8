"""allocate: how many indices of each group stay, and which: the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from onnxprune.errors import GateNotMet, UsageError, VerificationFailed
from onnxprune.passmanager import option
from onnxprune.unit import Unit

if TYPE_CHECKING:
    from onnxprune.allocators import Allocation, Problem, RoundTo

__all__ = ["Allocate"]

DEFAULT_SPARSITY = 0.5
NOTABLE = 0.02  # how much less than asked is worth a word


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
    keep_min: int = option(1, "Indices of each group that stay at least.", "N", minimum=1)
    best_effort: bool = option(False, "Write what can be had if a target cannot be reached.")

    def __post_init__(self) -> None:
        if self.sparsity is not None and self.target:
            raise UsageError("--sparsity and --target both say how much to prune; give one of them")
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise UsageError(
                f"--sparsity {self.sparsity:g}: expected the fraction to remove, at least 0 and below 1: no group is "
                "ever emptied"
            )
        assert self._targets is not None  # what they are is checked
        assert self._multiple is not None

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
        chosen = candidates(unit.analysis, groups, self._multiple, block=conv_block(), keep_min=self.keep_min)
        sparsity = DEFAULT_SPARSITY if self.sparsity is None and not self.target else self.sparsity
        problem = Problem(chosen, Costs.of(unit.analysis), unit.scores.values, sparsity, self._targets)
        found = self._judged(unit, problem, allocate(self.allocation, problem))
        plan = Plan.of(unit.analysis.groups, choose(unit.scores.values, found.counts))
        wanted = problem.targets or {"sparsity": sparsity or 0.0}
        targets = {budget: (asked, found.reached[budget]) for budget, asked in wanted.items()}
        return replace(unit, allocation=found, plan=plan, targets=targets)

    def _judged(self, unit: Unit, problem: Problem, found: Allocation) -> Allocation:
        """The allocation with what a user should know of it; `GateNotMet` where it falls short, unless that is fine.

        1. Nothing could be pruned though something was to be: not met, whatever the allocator says.
        2. A target was not reached: not met.
        3. Rounding kept notably more than a sparsity asks for: met, with a word.
        """
        asked = problem.sparsity
        if not problem.candidates and asked != 0:  # case 1
            found = replace(found, met=False, reason=f"nothing was pruned: {_why_nothing(unit)}")
            if unit.faults and not self.best_effort:
                raise VerificationFailed(f"{found.reason}. Nothing was written; please report this model")
        elif found.met and asked is not None and asked - found.reached["sparsity"] > NOTABLE and not found.reason:
            reached = f"{found.reached['sparsity']:.3g} of the indices go where {asked:g} was asked"
            found = replace(found, reason=f"{reached}: counts are rounded up; --round-to 1 takes them all")  # case 3
        if not found.met and not self.best_effort:
            raise GateNotMet(
                f"{found.reason}. Nothing was written; ask for less, or take what can be had with --best-effort"
            )
        return found

    @cached_property
    def _targets(self) -> Mapping[str, float]:
        targets: dict[str, float] = {}
        for text in self.target:
            budget, _, fraction = text.partition("=")
            try:
                value = float(fraction)
            except ValueError:
                value = 0.0
            if not budget or not 0 < value <= 1:
                raise UsageError(
                    f"--target {text!r}: expected a budget and the fraction of the original that may stay, above 0 and "
                    "at most 1, such as macs=0.5"
                )
            if budget in targets:
                raise UsageError(f"--target names {budget} twice: {targets[budget]:g} and {value:g}; give one of them")
            targets[budget] = value
        return targets

    @cached_property
    def _multiple(self) -> RoundTo:
        if self.round_to == "auto":
            return "auto"
        if not (self.round_to.isascii() and self.round_to.isdigit()) or int(self.round_to) < 1:
            raise UsageError(f"--round-to {self.round_to!r}: expected auto or a positive number")
        return int(self.round_to)


def _why_nothing(unit: Unit) -> str:
    if unit.faults:
        return f"all groups ({len(unit.faults)}) failed the verification"
    if unit.analysis is not None and unit.analysis.groups:
        return f"--include and --exclude leave none of the {len(unit.analysis.groups)} groups"
    return "every dimension of the model is fixed ('onnxprune inspect' says by what)"
