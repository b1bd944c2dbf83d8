"""Allocation by loss curves: what is shared by the allocators that weigh what each group loses alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf

from onnxprune.allocators.allocation import Allocation, Candidate, Problem, Trial, indices_of
from onnxprune.allocators.landing import Descent
from onnxprune.errors import UsageError

__all__ = ["by_targets", "landed", "lost", "told", "trial_of"]


def by_targets(problem: Problem) -> Problem:
    """The same problem with its sparsity as a target: a budget that counts the indices of all candidates."""
    if problem.sparsity is None:
        return problem
    costs = problem.costs.with_budget("sparsity", indices_of(problem.candidates))
    return replace(problem, costs=costs, sparsity=None, targets={"sparsity": 1 - problem.sparsity})


def lost(problem: Problem, candidate: Candidate, kept: int) -> float:
    """What the model loses when this group alone keeps so many; `UsageError` where nobody measured it."""
    curve = problem.curves.get(candidate.atom)
    if curve is None:
        raise UsageError(f"the loss of group {candidate.name!r} was not measured: give --calibration")
    return curve.at(kept)


def trial_of(problem: Problem) -> Trial:
    """The trial of a problem; `UsageError` where nothing can be tried."""
    if problem.trial is None:
        raise UsageError("this allocation tries cuts on samples, and there are none: give --calibration")
    return problem.trial


def landed(problem: Problem, counts: Mapping[int, int], asked: Problem) -> Allocation:
    """The allocation nearest to some counts that meets the targets, moving at the least loss per cost.

    What is above the targets goes step by step, what is left below them is given back; `asked` is the problem as it was
    put, whose sparsity the answer is told in.
    """
    descent = Descent(problem)
    for candidate in problem.candidates:
        descent.move(candidate, counts[candidate.atom])

    def loss_per_saving(candidate: Candidate, now: int, kept: int, saved: float) -> float:
        return (lost(problem, candidate, kept) - lost(problem, candidate, now)) / saved if saved else inf

    def gain_per_cost(candidate: Candidate, now: int, kept: int, spent: float) -> float:
        gain = lost(problem, candidate, now) - lost(problem, candidate, kept)
        return -gain / spent if spent else -inf

    return told(descent.land(loss_per_saving, gain_per_cost), asked)


def told(found: Allocation, asked: Problem) -> Allocation:
    """The answer of `by_targets(asked)`, in the terms of what was asked: a sparsity, where that was it."""
    if asked.sparsity is None:
        return found
    reason = found.reason.replace(f"sparsity={1 - asked.sparsity:g}", f"sparsity={asked.sparsity:g}")
    return Allocation.of_sparsity(asked, found.counts, found.met or not found.reason, reason)
