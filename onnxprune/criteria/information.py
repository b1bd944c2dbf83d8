"""Mutual information: what the activations of an index tell of the label, or of each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onnxprune.criteria.activations import Activation, activations, judged, pooled
from onnxprune.criteria.criterion import Criterion, Sites
from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.redundancy import leaving
from onnxprune.criteria.scores import Scores
from onnxprune.criteria.vectors import members
from onnxprune.dimensions import Vector, atoms
from onnxprune.errors import UsageError
from onnxprune.model import Array

__all__ = ["MUTUAL_INFORMATION", "mutual_information"]

Bins = npt.NDArray[np.int64]

OTHERS = 512  # with how many of the others an index is compared
OBSERVATIONS = 4096  # on how many numbers, at most
BLOCK = 64  # how many indices at a time


def mutual_information(evidence: Evidence) -> Sites | Scores:
    """With labels, how much an index tells of them; without, how little another one tells of it.

    Relevance and redundancy as in Peng, Long and Ding, Feature Selection Based on Mutual Information, TPAMI 2005, on
    the mean activation in each sample, in bins of equal frequency. With labels the score is I(X; label). Without, it
    is 1 - I(X; X') / min(H(X), H(X')) for the most alike X' that stays longer (see `redundancy`); of a group with more
    than `OTHERS` indices, so many are drawn by the seed, and pairs without one of them are not compared.
    """
    if evidence.labels is None:
        return _between(evidence)
    labels = np.asarray(evidence.labels)
    if labels.ndim != 1 or len(labels) != evidence.statistics.samples:
        raise UsageError(
            f"mutual-information takes one class for each of {evidence.statistics.samples} samples: "
            f"the labels have the shape {labels.shape}"
        )
    classes = np.unique(labels, return_inverse=True)[1].reshape(-1, 1)

    def along(activation: Activation) -> Vector | None:
        if not evidence.statistics.has(activation.pooled):
            return None
        found = _binned(evidence.statistics.pooled(activation.tensor, activation.axis))
        return np.asarray(_information(found, classes)[:, 0])

    return judged(evidence, along)


def _between(evidence: Evidence) -> Scores:
    places = activations(evidence.analysis)
    scores: dict[int, Vector] = {}
    for group in evidence.groups:
        alike: list[Array] = []
        weight = np.zeros(group.size)
        for place in places:
            if group.atom in atoms(place.dim) and evidence.statistics.has(place.pooled):
                found = _binned(evidence.statistics.pooled(place.tensor, place.axis))
                observed = found[:, members(place.dim, group.atom)].swapaxes(1, 2).reshape(-1, group.size)
                alike.append(_alike(_thinned(observed), evidence.seed))
                weight += _entropies(observed)
        if alike:
            scores[group.atom.id] = leaving(np.mean(alike, axis=0), weight)
    return Scores.of("mutual-information", evidence.groups, scores)


def _alike(bins: Bins, seed: int) -> Array:
    """I / min(H, H') of every pair of columns, float32; 1 where either is constant, 0 where they are not compared."""
    indices = bins.shape[1]
    others = np.sort(np.random.default_rng(seed).permutation(indices)[:OTHERS])
    entropies = _entropies(bins)
    least = np.minimum(entropies[:, None], entropies[others])
    told = _information(bins, bins[:, others])
    shares = np.divide(told, least, out=np.ones_like(told), where=least > 0)
    alike = np.zeros((indices, indices), np.float32)
    alike[:, others] = np.clip(shares, 0, 1)
    return np.asarray(np.maximum(alike, alike.T))


def _binned(means: Array) -> Bins:
    """The bin of every number among its column: equally many in each, at least about four in each pair of bins."""
    number = int(np.clip(np.sqrt(len(means) / 4), 2, 8))
    edges = np.quantile(means, np.arange(1, number) / number, axis=0)
    return np.asarray(np.sum(means[None] > edges[:, None], axis=0, dtype=np.int64))


def _thinned(bins: Bins) -> Bins:
    chosen = np.linspace(0, len(bins) - 1, min(len(bins), OBSERVATIONS)).astype(np.int64)
    return np.asarray(bins[chosen])


def _information(left: Bins, right: Bins) -> Array:
    """I(X; Y) in nats of every column X of `left` and Y of `right`, from how often their bins meet."""
    count, last = len(left), int(right.max()) + 1
    columns = _hot(right)
    parts = []
    for start in range(0, left.shape[1], BLOCK):
        rows = _hot(left[:, start : start + BLOCK])
        size = rows.shape[1] // min(BLOCK, left.shape[1] - start)
        joint = (rows.T @ columns).reshape(-1, size, right.shape[1], last).astype(np.float64) / count
        apart = joint.sum(axis=3, keepdims=True) * joint.sum(axis=1, keepdims=True)
        ratio = np.divide(joint, apart, out=np.ones_like(joint), where=joint > 0)
        parts.append(np.sum(joint * np.log(ratio), axis=(1, 3)))
    return np.concatenate(parts)


def _entropies(bins: Bins) -> Vector:
    """H(X) in nats of every column."""
    shares = _hot(bins).mean(axis=0, dtype=np.float64).reshape(bins.shape[1], -1)
    return np.asarray(-np.sum(shares * np.log(np.where(shares > 0, shares, 1)), axis=1))


def _hot(bins: Bins) -> Array:
    """Every column as as many columns as there are bins, 1 where it is in that bin, float32."""
    every = np.arange(int(bins.max()) + 1)
    return np.asarray((bins[:, :, None] == every).reshape(len(bins), -1), dtype=np.float32)


MUTUAL_INFORMATION = Criterion(
    "mutual-information",
    "what an index tells of the label, or of no other index: Peng et al., TPAMI 2005",
    mutual_information,
    pooled,
    "samples",
)
