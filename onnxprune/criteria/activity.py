"""Activity criteria: an index matters as much as its activations do something, where the group is read.

A fraction or a mean does not grow with the number of values that go with an index, so heads and flattened channels
are judged like single ones.
"""

from __future__ import annotations

import numpy as np

from onnxprune.criteria.activations import by_moments, moments
from onnxprune.criteria.criterion import Criterion
from onnxprune.dimensions import Vector
from onnxprune.statistics import IndexMoments

__all__ = ["ACTIVATION_MEAN", "ACTIVATION_VARIANCE", "APOZ"]


def _alive(found: IndexMoments) -> Vector:
    return np.asarray(1.0 - found.zeros / found.count)


def _mean(found: IndexMoments) -> Vector:
    return np.asarray(found.absolute / found.count)


def _variance(found: IndexMoments) -> Vector:
    return np.asarray(found.variance)


APOZ = Criterion(
    "apoz",
    "how seldom the activation is zero: 1 - APoZ, Hu et al., Network Trimming (arXiv 1607.03250)",
    by_moments(_alive),
    moments,
    "samples",
)
ACTIVATION_MEAN = Criterion(
    "activation-mean",
    "the mean absolute activation: Molchanov et al., ICLR 2017 (arXiv 1611.06440), who take it behind a ReLU",
    by_moments(_mean),
    moments,
    "samples",
)
ACTIVATION_VARIANCE = Criterion(
    "activation-variance",
    "the variance of the activation: inbound pruning, Polyak and Wolf, IEEE Access 2015",
    by_moments(_variance),
    moments,
    "samples",
)
