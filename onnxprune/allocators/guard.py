"""What a search has found is compared with the uniform allocation once more, by what is left after repair."""

from __future__ import annotations

from dataclasses import replace

from onnxprune.allocators.allocation import Allocation, Problem
from onnxprune.allocators.uniform import uniform

__all__ = ["guarded"]


def guarded(name: str, problem: Problem, found: Allocation) -> Allocation:
    """`found`, or the uniform allocation where that loses less by `problem.guard`; `found` where there is no guard.

    A search of hundreds of trials has to try models as they are cut. What it likes best there need not be what a repair
    makes most of, and on a small model the uniform allocation may be better.
    """
    if problem.guard is None or not problem.candidates:
        return found
    other = uniform(problem)
    if other.counts == found.counts:
        return found
    mine, theirs = problem.guard(found.counts), problem.guard(other.counts)
    lost = f"{name} {mine:.3g}, uniform {theirs:.3g}"
    if (not other.met, theirs) < (not found.met, mine):
        why = "loses less once repaired than what was found" if other.met == found.met else "meets the targets"
        return replace(other, told=f"allocation: uniform, which {why} ({lost})")
    why = "loses no more once repaired than uniform" if mine <= theirs else "meets the targets, as uniform does not"
    return replace(found, told=f"allocation: {name}, which {why} ({lost})")
