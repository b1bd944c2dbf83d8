"""The least sum of losses that a budget can buy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxprune.allocators.allocation import Allocation, Problem
from onnxprune.allocators.landing import Descent
from onnxprune.allocators.losses import by_targets, landed, lost
from onnxprune.allocators.uniform import uniform
from onnxprune.cost import Ledger
from onnxprune.dimensions import Vector

__all__ = ["knapsack"]

BINS = 2000  # that a budget is divided into
ROUNDS = 6  # of which each takes the costs as they are at the counts of the one before


def knapsack(problem: Problem) -> Allocation:
    """Dynamic programming over loss curves and costs, as in OBC (Frantar and Alistarh, arXiv 2208.11580) and HALP (Shen
    et al., arXiv 2110.10811): for each group one count, so that the costs fit and the sum of the losses is least.

    A layer costs what its input and output widths multiply to, so the cost of a group depends on the others. It is
    taken at the counts that the others have, and the problem solved again until they do not change; of all rounds, the
    one is kept that loses least once it has landed on the targets at real costs. Of several targets the one that asks
    for most is solved for, and the others are met afterwards, at the least loss per cost. Needs `problem.curves`.
    """
    wanted = by_targets(problem)
    if not wanted.candidates:
        return landed(wanted, {}, problem)
    options = [candidate.options for candidate in wanted.candidates]
    losses = [
        np.array([lost(wanted, c, kept) for kept in own]) for c, own in zip(wanted.candidates, options, strict=True)
    ]
    budget, limit = _tightest(wanted)
    counts = dict(uniform(wanted).counts)
    best: tuple[float, Allocation] | None = None
    seen: set[tuple[int, ...]] = set()
    for _ in range(ROUNDS):
        costs, base = _costs(wanted, budget, counts, options)
        chosen = _solved(losses, costs, limit - base)
        counts = {
            atom: int(own[k]) for c, own, k in zip(wanted.candidates, options, chosen, strict=True) for atom in c.atoms
        }
        found = landed(wanted, counts, problem)
        total = sum(lost(wanted, c, found.counts[c.atom]) for c in wanted.candidates)
        if best is None or (found.met, -total) > (best[1].met, -best[0]):
            best = total, found
        key = tuple(chosen)
        if key in seen:
            break
        seen.add(key)
        counts = dict(found.counts)
    assert best is not None
    return best[1]


def _tightest(problem: Problem) -> tuple[str, float]:
    """The target that asks for the smallest share, and what it allows."""
    descent = Descent(problem)
    pairs = zip(descent.budgets, descent.limits, descent.whole, strict=True)
    budget, limit, _ = min(pairs, key=lambda pair: pair[1] / pair[2] if pair[2] else 1.0)
    return budget, limit


def _costs(
    problem: Problem, budget: str, counts: Mapping[int, int], options: list[list[int]]
) -> tuple[list[Vector], float]:
    """By candidate, what each option costs above the lowest, the others as in `counts`; and all at their lowest."""
    ledger = Ledger(problem.costs, (budget,), counts)
    whole = base = ledger.totals[0]
    found = []
    for candidate, own in zip(problem.candidates, options, strict=True):
        totals = []
        for kept in own:
            ledger.set(dict.fromkeys(candidate.atoms, kept))
            totals.append(ledger.totals[0])
            ledger.undo()
        found.append(np.array(totals, np.float64) - totals[0])
        base -= whole - totals[0]
    return found, base


def _solved(losses: list[Vector], costs: list[Vector], budget: float) -> list[int]:
    """By candidate, which option: of all choices within the budget one of the least loss; the cheapest where none fits.

    Group by group, every sum of costs is kept that no other beats in cost and loss. Where those are many, only the best
    within each of `BINS` parts of the budget. Of options that cost and lose the same, the largest count.
    """
    if budget < 0:
        return [0] * len(losses)
    spent, lost, steps = np.zeros(1), np.zeros(1), []
    for loss, cost in zip(losses, costs, strict=True):
        sums, worse = np.add.outer(spent, cost).ravel(), np.add.outer(lost, loss).ravel()
        option = np.tile(np.arange(len(cost)), len(spent))
        order = np.lexsort((-option, worse, sums))
        order = order[sums[order] <= budget * (1 + 1e-12)]
        least = np.minimum.accumulate(worse[order])
        order = order[np.concatenate([[True], least[1:] < least[:-1]])]
        if len(order) > BINS:
            part = np.floor(sums[order] / budget * BINS)
            order = order[np.concatenate([part[1:] > part[:-1], [True]])]
        spent, lost = sums[order], worse[order]
        steps.append((order // len(cost), option[order]))
    place, chosen = -1, []
    for parent, option in reversed(steps):
        chosen.append(int(option[place]))
        place = int(parent[place])
    return chosen[::-1]
