"""Scores by chance: what every other criterion has to beat."""

from __future__ import annotations

from zlib import crc32

import numpy as np

from onnxprune.criteria.scores import Scores
from onnxprune.dependency import Analysis

__all__ = ["chance"]


def chance(analysis: Analysis, *, seed: int = 0) -> Scores:
    """Uniform random scores: Mittal et al., Recovering from Random Pruning, WACV 2018 (arXiv 1801.10447).

    A group's scores depend on `seed` and on its name alone, not on which other groups there are.
    """
    values = {
        group.atom.id: np.random.default_rng([seed, crc32(group.name.encode())]).random(group.size)
        for group in analysis.groups
    }
    return Scores.of("random", analysis.groups, values)
