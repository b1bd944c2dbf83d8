"""At which widths a model is measured: every layer at many pairs of input and output widths, from few models.

A layer's time depends on how wide its input is and how wide its output is. Each model of a design has all groups at
widths of their own, around a level that differs from model to model; so a dozen models show every layer at a dozen
pairs of widths, and the whole model from nearly nothing to everything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.allocators import Candidate

__all__ = ["design"]

SPREAD = 0.3  # how far above and below its level a model's groups are
LEAST = 0.05  # the lowest level


def design(candidates: Sequence[Candidate], number: int, seed: int) -> list[dict[int, int]]:
    """How many indices of each atom stay, for `number` models; a count is a multiple of its candidate's step.

    Levels are spread evenly from `LEAST` to 1 and visited in a random order, so that any part of the list covers them.
    """
    order = np.random.default_rng([seed, number])
    levels = order.permutation(np.linspace(LEAST, 1.0, number)) if number > 1 else np.array([0.5])
    return [_widths(candidates, float(level), order) for level in levels]


def _widths(candidates: Sequence[Candidate], level: float, order: np.random.Generator) -> dict[int, int]:
    counts: dict[int, int] = {}
    for candidate in candidates:
        share = float(np.clip(order.uniform(level - SPREAD, level + SPREAD), 0.0, 1.0))
        kept = candidate.rounded(max(round(share * candidate.size), candidate.minimum), candidate.step)
        counts.update(dict.fromkeys(candidate.atoms, kept))
    return counts
