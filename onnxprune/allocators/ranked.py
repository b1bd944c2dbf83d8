"""All groups in one ranking: what matters least goes first, wherever it is."""

from __future__ import annotations

from math import inf

import numpy as np

from onnxprune.allocators.allocation import Allocation, Candidate, Problem
from onnxprune.allocators.landing import Descent
from onnxprune.allocators.ordered import ordered_scores
from onnxprune.dimensions import Vector

__all__ = ["ranked"]


def ranked(problem: Problem) -> Allocation:
    """The lowest scores of the whole model, as Liu et al. prune (Network Slimming, arXiv 1708.06519).

    With a sparsity, blocks of `step` indices go in the order of their mean score, as long as no more than that
    fraction of all indices goes: a higher sparsity removes the same blocks and more.

    With targets, the block that loses least per cost saved goes first (Molchanov et al., arXiv 1611.06440, weigh
    scores by FLOPs), at the cost that it has by then; what the last block saved too much is given back, most score per
    cost first. As the saving is a sum over all layers that a block leaves, so must the loss be: its score as a share of
    its group, times the axes that the group makes up. Else the groups that many layers share would be the cheapest.
    """
    lost = _lost_scores(problem)
    if problem.sparsity is not None:
        return _by_sparsity(problem, lost, problem.sparsity)

    def share(candidate: Candidate, fewer: int, more: int) -> float:
        between = _lost(lost, candidate, fewer) - _lost(lost, candidate, more)
        return candidate.axes / candidate.size * between

    def loss_per_saving(candidate: Candidate, now: int, kept: int, saved: float) -> float:
        return share(candidate, kept, now) / saved if saved else inf

    def gain_per_cost(candidate: Candidate, now: int, kept: int, spent: float) -> float:
        return -share(candidate, now, kept) / spent if spent else -inf

    return Descent(problem).land(loss_per_saving, gain_per_cost)


def _lost_scores(problem: Problem) -> dict[int, Vector]:
    """By candidate's atom, what the k lowest scores add up to, for k from 0 to size."""
    return {atom: np.concatenate([[0.0], np.cumsum(own)]) for atom, own in ordered_scores(problem).items()}


def _lost(lost: dict[int, Vector], candidate: Candidate, kept: int) -> float:
    """The score that is gone when `kept` indices stay."""
    return float(lost[candidate.atom][candidate.size - kept])


def _by_sparsity(problem: Problem, lost: dict[int, Vector], sparsity: float) -> Allocation:
    blocks = []
    for position, candidate in enumerate(problem.candidates):
        now, worth = candidate.size, -inf
        while (kept := candidate.down(now, candidate.step)) is not None:
            gone = _lost(lost, candidate, kept) - _lost(lost, candidate, now)
            worth = max(worth, gone / (now - kept))  # never before the block that goes first in its group
            blocks.append((worth, position, now - kept, len(candidate.atoms)))
            now = kept
    counts = {candidate.atom: candidate.size for candidate in problem.candidates}
    wanted = round(sparsity * sum(candidate.size * len(candidate.atoms) for candidate in problem.candidates))
    for _, position, number, tied in sorted(blocks, key=lambda block: block[:2]):
        if number * tied > wanted:
            return Allocation.of_sparsity(problem, counts)
        wanted -= number * tied
        counts[problem.candidates[position].atom] -= number
    reached = Allocation.of_sparsity(problem, counts)
    if not wanted:
        return reached
    reason = (
        f"sparsity={sparsity:g} was asked and {reached.reached['sparsity']:.4g} reached: every group is at its minimum"
    )
    return Allocation.of_sparsity(problem, counts, met=False, reason=reason)
