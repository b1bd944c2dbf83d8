"""Scores by chance: what every other criterion has to beat."""

from __future__ import annotations

from zlib import crc32

import numpy as np

from onnxprune.criteria.criterion import Criterion
from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.scores import Scores
from onnxprune.layers import Layer
from onnxprune.model import Array

__all__ = ["RANDOM", "chance"]


def chance(evidence: Evidence) -> Scores:
    """Uniform random scores: Mittal et al., Recovering from Random Pruning, WACV 2018 (arXiv 1801.10447).

    A group's scores depend on `seed` and on its name alone, not on which other groups there are.
    """
    values = {
        group.atom.id: np.random.default_rng([evidence.seed, crc32(group.name.encode())]).random(group.size)
        for group in evidence.groups
    }
    return Scores.of("random", evidence.groups, values)


def _elements(layer: Layer, weights: Array, evidence: Evidence) -> Array:
    return np.random.default_rng([evidence.seed, crc32(layer.weight.encode())]).random(weights.shape)


RANDOM = Criterion("random", "by chance: what every other criterion has to beat", chance, elements=_elements)
