"""allocate: how many indices of each group stay, and which: the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from onnxprune.errors import GateNotMet, UsageError, VerificationFailed
from onnxprune.passmanager import option
from onnxprune.schedules import SCHEDULES, share
from onnxprune.targets import AIMED_TOLERANCE, Targets
from onnxprune.unit import Unit

if TYPE_CHECKING:
    from onnxprune.allocators import Allocation, Candidate, Problem, RoundTo
    from onnxprune.budgets import Budgets

__all__ = ["Allocate"]

DEFAULT_SPARSITY = 0.5
LEVER = 0.6  # the share of the latency that is tried first where only a metric bounds what goes
NOTABLE = 0.02  # how much less than asked is worth a word


@dataclass(frozen=True)
class Allocate:
    """Decides how many indices of each group stay for a sparsity or for targets, then keeps the best-scored ones."""

    name: ClassVar[str] = "allocate"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis", "candidates", "scores"})
    gives: ClassVar[frozenset[str]] = frozenset({"allocation", "plan"})

    allocation: str = option("auto", "How much to take from where; see docs/allocation.md.", "NAME")
    sparsity: float | None = option(None, "Fraction of the indices to remove (0.5, if no target is given).", "F")
    target: tuple[str, ...] = option(
        (), "What may stay: macs=0.5, latency=4ms, size=2MB, memory=0.5, params=0.3; metric>=0.9.", "BUDGET=F"
    )
    round_to: str = option("auto", "Multiple to keep: what the runtime's kernels like on this machine, or N.", "auto|N")
    keep_min: int = option(1, "Indices of each group that stay at least.", "N", minimum=1)
    tie: tuple[str, ...] = option((), "Groups of that name and of one size keep equal counts.", "PATTERN")
    best_effort: bool = option(False, "Write what can be had if a target cannot be reached.")
    seed: int = option(0, "Seed of everything that is random.", "N", minimum=0)
    steps: int = option(1, "Prune in so many steps, with scores and repair anew after each.", "N", minimum=1)
    schedule: str = option("cubic", "How far each step goes: linear, or cubic (far at first).", choices=SCHEDULES)

    def __post_init__(self) -> None:
        if self.sparsity is not None and self.target:
            raise UsageError("--sparsity and --target both say how much to prune; give one of them")
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise UsageError(
                f"--sparsity {self.sparsity:g}: expected the fraction to remove, at least 0 and below 1: no group is "
                "ever emptied"
            )
        assert self._targets is not None  # both are read here, so that what is wrong is told before any work
        assert self._multiple is not None

    def run(self, unit: Unit) -> Unit:
        """Allocate; groups that a verification found at fault stay whole."""
        from onnxprune.allocators import Problem, allocate, candidates, choose, told_ties
        from onnxprune.plan import Plan
        from onnxprune.runtime.machine import conv_block

        assert unit.analysis is not None
        assert unit.candidates is not None
        assert unit.scores is not None
        chosen = candidates(unit.analysis, unit.candidates, self._multiple, block=conv_block(), keep_min=self.keep_min,
                            tie=self.tie, without=unit.faults)  # fmt: skip
        wanted = self._wanted(unit, chosen)
        sparsity = None if wanted.asked else DEFAULT_SPARSITY if self.sparsity is None else self.sparsity
        done = share(unit.step, self.steps, self.schedule)
        aims = {budget: 1 - done * (1 - aim) for budget, aim in (wanted.asked | _corrected(unit, wanted)).items()}
        removed = None if sparsity is None else done * sparsity
        problem = Problem(chosen, wanted.costs, unit.scores.values, removed, aims, curves=unit.curves or {},
                          trial=unit.trial, guard=unit.guard, seed=self.seed, watch=unit.watch)  # fmt: skip
        found = self._judged(unit, problem, allocate(self.allocation, problem))
        plan = Plan.of(unit.analysis.groups, choose(unit.scores.values, found.counts))
        told = wanted.told(found.reached) or {"sparsity": (sparsity or 0.0, found.reached["sparsity"])}
        tried = dict.fromkeys(objective.told for objective in (unit.trial, unit.guard) if objective is not None)
        notes = (*unit.notes, *tried, *([found.told] if found.told else []), *told_ties(chosen, found.counts))
        return replace(unit, allocation=found, plan=plan, targets=told, aims=aims, notes=notes)

    def _wanted(self, unit: Unit, chosen: Sequence[Candidate]) -> Budgets:
        """What may stay of what; where only a metric bounds that, the share of the latency that is tried now."""
        from onnxprune.budgets import budgets

        assert unit.analysis is not None
        latency = None if unit.latency is None else (unit.latency.terms, unit.latency.base_ms)
        wanted = budgets(unit.analysis, chosen, self._targets.bounds, latency)
        if not self._targets.only_metric:
            return wanted
        return replace(wanted, asked={"latency": LEVER if unit.lever is None else unit.lever.aim})

    def _judged(self, unit: Unit, problem: Problem, found: Allocation) -> Allocation:
        """The allocation with what a user should know of it; `GateNotMet` where it falls short, unless that is fine.

        1. Nothing could be pruned though something was to be: not met, whatever the allocator says.
        2. A target was not reached by the last step: not met; where it can be measured, that is judged elsewhere.
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
        elif not found.met and "latency" in problem.targets:
            return found  # it is only predicted: what is measured is judged by 'meet'
        if not found.met and not self.best_effort and unit.step >= self.steps:
            raise GateNotMet(
                f"{found.reason}. Nothing was written; ask for less, or take what can be had with --best-effort"
            )
        return found

    @cached_property
    def _targets(self) -> Targets:
        return Targets.parse(self.target)

    @cached_property
    def _multiple(self) -> RoundTo:
        from onnxprune.allocators import multiple_of

        return multiple_of(self.round_to)


def _corrected(unit: Unit, wanted: Budgets) -> dict[str, float]:
    """What to ask of the prediction, where measurements have told how far off it is."""
    from onnxprune.aiming import next_aim

    if not unit.attempts:
        return {}
    aim = next_aim(wanted.asked["latency"], AIMED_TOLERANCE, [attempt.shot for attempt in unit.attempts])
    return {} if aim is None else {"latency": aim}


def _why_nothing(unit: Unit) -> str:
    if unit.faults:
        return f"all groups ({len(unit.faults)}) failed the verification"
    if unit.analysis is not None and unit.analysis.groups:
        return f"--include and --exclude leave none of the {len(unit.analysis.groups)} groups"
    return "every dimension of the model is fixed ('onnxprune inspect' says by what)"
