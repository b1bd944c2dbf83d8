"""Every group gives until it would lose as much as every other."""

from __future__ import annotations

from onnxprune.allocators.allocation import Allocation, Candidate, Problem
from onnxprune.allocators.landing import Descent
from onnxprune.allocators.losses import by_targets, landed, lost

__all__ = ["sensitivity"]


def sensitivity(problem: Problem) -> Allocation:
    """One threshold for all groups: each keeps the fewest indices with which it alone loses no more than that.

    The threshold is the lowest that meets the targets (Han et al., arXiv 1506.02626, and Li et al., arXiv 1608.08710,
    choose it by hand from such curves). Needs `problem.curves`.
    """
    wanted = by_targets(problem)
    descent = Descent(wanted)
    ladders = [(candidate, _ladder(wanted, candidate)) for candidate in wanted.candidates]
    thresholds = sorted({loss for _, ladder in ladders for _, loss in ladder})

    def fits(threshold: float) -> bool:
        for candidate, ladder in ladders:
            descent.move(candidate, next(kept for kept, loss in ladder if loss <= threshold))
        return descent.fits

    low, high = 0, len(thresholds) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(thresholds[middle]) else (middle + 1, high)
    if thresholds:
        fits(thresholds[low])
    return landed(wanted, descent.counts, problem)


def _ladder(problem: Problem, candidate: Candidate) -> list[tuple[int, float]]:
    """The counts that a candidate may have, from the lowest, each with its loss."""
    return [(kept, lost(problem, candidate, kept)) for kept in candidate.options]
