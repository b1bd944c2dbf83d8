"""One ranking of all groups by what each index stands out among those of its group that score no less."""

from __future__ import annotations

from math import inf

import numpy as np

from onnxprune.allocators.allocation import Allocation, Candidate, Problem
from onnxprune.allocators.landing import Descent
from onnxprune.allocators.losses import by_targets, told
from onnxprune.allocators.ordered import ordered_scores
from onnxprune.dimensions import Vector

__all__ = ["lamp"]


def lamp(problem: Problem) -> Allocation:
    """Layer-adaptive magnitudes (Lee et al., arXiv 2010.07611): the lowest go first, whatever they cost.

    The LAMP score of an index is its squared score over the sum of those of its group that are no smaller. So the last
    index of a group scores 1, the scale of a group plays no part, and no group is emptied before the others. A block of
    `step` indices goes by its mean. Needs scores of any criterion; with `--criterion lamp` they are normalised twice.
    """
    wanted = by_targets(problem)
    lost = {atom: np.concatenate([[0.0], np.cumsum(_lamp(s))]) for atom, s in ordered_scores(wanted).items()}

    def mean(candidate: Candidate, fewer: int, more: int) -> float:
        of = lost[candidate.atom]
        return float(of[candidate.size - fewer] - of[candidate.size - more]) / (more - fewer)

    found = Descent(wanted).land(
        lambda c, now, kept, saved: mean(c, kept, now) if saved else inf,
        lambda c, now, kept, spent: -mean(c, now, kept),
    )
    return told(found, problem)


def _lamp(ascending: Vector) -> Vector:
    """The LAMP scores of scores in ascending order; those below nothing count as nothing."""
    squares = np.square(np.maximum(ascending, 0.0))
    rest = np.cumsum(squares[::-1])[::-1]
    return np.asarray(np.divide(squares, rest, out=np.zeros_like(squares), where=rest > 0))
