"""Half of one allocation and half of another."""

from __future__ import annotations

from onnxprune.allocators.allocation import Allocation, Problem
from onnxprune.allocators.losses import by_targets, landed

__all__ = ["between"]


def between(problem: Problem, one: Allocation, other: Allocation) -> Allocation:
    """The counts half way between two allocations of one problem, on the steps of their groups, landed on the targets.

    What a group loses grows faster than what it gives, so where two estimates of that err apart from each other, their
    mean loses less than either at the same cost (Jensen's inequality). Needs `problem.curves`.
    """
    wanted = by_targets(problem)
    halves = {c.atom: -(-(one.counts[c.atom] + other.counts[c.atom]) // 2) for c in wanted.candidates}
    counts = {atom: c.rounded(halves[c.atom], c.step) for c in wanted.candidates for atom in c.atoms}
    return landed(wanted, counts, problem)
