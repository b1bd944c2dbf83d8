"""Cost goes in equal steps, and each step takes from the group that costs the whole model least, by trial."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from math import inf

from onnxprune.allocators.allocation import Allocation, Candidate, Problem
from onnxprune.allocators.landing import Descent
from onnxprune.allocators.losses import by_targets, told, trial_of

__all__ = ["netadapt"]

STEPS = 16  # from the whole model to the targets


def netadapt(problem: Problem) -> Allocation:
    """NetAdapt (Yang et al., arXiv 1804.03230): per step, the budget that is missed by most shrinks by a set amount.

    For every group there is a largest count that achieves that; the model is tried with it, and the group is taken
    whose trial loses least. Counts are coarse, so moves save unequally; what is compared is the loss added per cost
    saved, the paper's choice where savings are equal. There is no training between steps; repair comes after.

    A group that was dear in an earlier step is tried again only when it comes up (Minoux's accelerated greedy, 1978):
    what a cut adds to the loss is taken not to shrink as others are cut. So the first step tries all groups, a later
    one few. What is left below the targets goes to the groups cut at the highest price. Needs `problem.trial`.
    """
    trial, wanted = trial_of(problem), by_targets(problem)
    descent = Descent(wanted)
    prices: dict[int, float] = {}
    now = trial(descent.counts)
    while not descent.fits:
        budget = max(range(len(descent.limits)), key=lambda k: descent.totals[k] / max(descent.limits[k], 1e-12))
        aim = descent.totals[budget] - (descent.whole[budget] - descent.limits[budget]) / STEPS
        aim = max(aim, descent.limits[budget])
        heap = [(prices.get(candidate.atom, -inf), k, False) for k, candidate in enumerate(descent.candidates)]
        heapify(heap)
        moves: dict[int, tuple[int, float]] = {}
        while heap and not heap[0][2]:
            _, k, _ = heappop(heap)
            candidate = descent.candidates[k]
            kept, saved = _count_for(descent, candidate, budget, aim)
            if saved <= 0:
                continue
            loss = trial({**descent.counts, **dict.fromkeys(candidate.atoms, kept)})
            prices[candidate.atom] = (loss - now) / saved
            moves[k] = kept, loss
            heappush(heap, (prices[candidate.atom], k, True))
            problem.watch(f"try cuts ({candidate.name})", 0, 0)
        if heap:
            _, k, _ = heap[0]
            kept, now = moves[k]
            descent.move(descent.candidates[k], kept)
        elif not descent.refine():
            break
    if descent.fits:
        descent.fill(lambda candidate, now, kept, spent: -prices.get(candidate.atom, -inf))
        descent.settle()
    return told(descent.result(), problem)


def _count_for(descent: Descent, candidate: Candidate, budget: int, aim: float) -> tuple[int, float]:
    """The largest count below the present one with which a budget is at `aim`, the lowest where none is; and what it
    saves, as a fraction of the whole, in all budgets that are missed."""
    step, now = descent.steps[candidate.atom], descent.counts[candidate.atom]
    grid = range(candidate.lowest(step), now, step)
    if not grid:
        return now, 0.0
    low, high = 0, len(grid) - 1
    while low < high:
        middle = (low + high + 1) // 2
        descent.attempt(candidate, grid[middle])
        reached = descent.totals[budget] <= aim
        descent.take_back()
        low, high = (middle, high) if reached else (low, middle - 1)
    saved = descent.attempt(candidate, grid[low])
    descent.take_back()
    return grid[low], saved
