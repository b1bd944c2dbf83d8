"""Every group keeps the same fraction of its indices, up to rounding."""

from __future__ import annotations

from math import floor

from onnxprune.allocators.allocation import Allocation, Problem
from onnxprune.allocators.landing import Descent
from onnxprune.allocators.proportional import keep_in_proportion

__all__ = ["uniform"]


def uniform(problem: Problem) -> Allocation:
    """The same fraction of every group, as Li et al. prune within a stage (arXiv 1608.08710).

    With a sparsity, a group loses `size * sparsity` indices to the nearest whole number, a half being one more, and
    what stays is rounded up to its step and to its minimum.
    With targets, the fraction is the largest whose real cost is below all of them, found by bisection; what is then
    left below the targets is given back, first to the groups that keep the smallest fraction.
    """
    if problem.sparsity is not None:
        return _by_sparsity(problem, problem.sparsity)
    descent = Descent(problem)
    keep_in_proportion(descent, {candidate.atom: 1.0 for candidate in problem.candidates})
    return descent.result()


def _by_sparsity(problem: Problem, sparsity: float) -> Allocation:
    counts, held = {}, []
    for candidate in problem.candidates:
        kept = candidate.size - floor(candidate.size * sparsity + 0.5)
        counts[candidate.atom] = candidate.rounded(max(kept, candidate.minimum), candidate.step)
        if kept < min(candidate.minimum, candidate.size):
            held.append(candidate.name)
    more = f" and {len(held) - 3} more" if len(held) > 3 else ""
    reason = f"held by their minimum: {', '.join(held[:3])}{more}" if held else ""
    return Allocation.of_sparsity(problem, counts, reason=reason)
