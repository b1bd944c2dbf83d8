"""Entropy of activations: an index that says nearly the same of every sample tells samples apart badly."""

from __future__ import annotations

import numpy as np

from onnxprune.criteria.activations import Activation, judged, pooled
from onnxprune.criteria.criterion import Criterion, Sites
from onnxprune.criteria.evidence import Evidence
from onnxprune.dimensions import Vector
from onnxprune.model import Array

__all__ = ["BINS", "ENTROPY", "entropy"]

BINS = 16  # the paper leaves their number open


def entropy(evidence: Evidence) -> Sites:
    """-sum p log p of the mean activation over samples: Luo and Wu, An Entropy-based Pruning Method, 2017.

    (arXiv 1706.05791.) The maps of an index are averaged to one number for each sample; the range of these numbers is
    divided into `BINS` equal bins, and p is the share of each. Of indices that go together, the mean counts.
    """

    def along(activation: Activation) -> Vector | None:
        if not evidence.statistics.has(activation.pooled):
            return None
        return _entropies(evidence.statistics.pooled(activation.tensor, activation.axis))

    return judged(evidence, along)


def _entropies(means: Array) -> Vector:
    """In nats, of each column."""
    samples, indices = means.shape
    low, high = means.min(axis=0), means.max(axis=0)
    span = np.where(high > low, high - low, 1)
    bins = np.minimum((means - low) / span * BINS, BINS - 1).astype(np.int64)
    counts = np.bincount((bins + BINS * np.arange(indices)).ravel(), minlength=indices * BINS)
    shares = counts.reshape(indices, BINS) / samples
    return np.asarray(-np.sum(shares * np.log(np.where(shares > 0, shares, 1)), axis=1))


ENTROPY = Criterion(
    "entropy", "the entropy of the mean activation over samples: Luo and Wu (arXiv 1706.05791)", entropy, pooled,
    "samples",
)  # fmt: skip
