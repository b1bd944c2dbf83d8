"""Every group keeps the same fraction of its indices, up to rounding."""

from __future__ import annotations

from math import ceil, floor

from onnxprune.allocators.allocation import Allocation, Problem
from onnxprune.allocators.landing import Descent

__all__ = ["uniform"]

HALVINGS = 40  # of the interval in which the common fraction lies


def uniform(problem: Problem) -> Allocation:
    """The same fraction of every group, as Li et al. prune within a stage (arXiv 1608.08710).

    With a sparsity, a group loses `size * sparsity` indices to the nearest whole number, a half being one more, and
    what stays is rounded up to its step and to its minimum.
    With targets, the fraction is the largest whose real cost is below all of them, found by bisection. As groups of
    one size jump together, what is left below the targets is then given back step by step, first to the groups that
    keep the smallest fraction.
    """
    if problem.sparsity is not None:
        return _by_sparsity(problem, problem.sparsity)
    descent = Descent(problem)
    while not _keep(descent, 0.0) and descent.refine():
        pass
    if descent.fits:
        below, above = 0.0, 1.0
        if not _keep(descent, above):
            for _ in range(HALVINGS):
                middle = (below + above) / 2
                below, above = (middle, above) if _keep(descent, middle) else (below, middle)
            _keep(descent, below)
        descent.fill(lambda candidate, now, kept, change: now / candidate.size)
        descent.settle()
    return descent.result()


def _keep(descent: Descent, fraction: float) -> bool:
    """Let every group keep `fraction`, rounded up; whether that fits below the targets."""
    for candidate in descent.candidates:
        kept = max(ceil(candidate.size * fraction), candidate.minimum)
        descent.move(candidate, candidate.rounded(kept, descent.steps[candidate.atom]))
    return descent.fits


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
