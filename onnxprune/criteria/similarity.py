"""Redundancy criteria: an index that says what another one says too can go.

* `similarity`: its weights point where another's point. RED merges such filters (Yvinec et al., NeurIPS 2021,
  arXiv 2105.14797); Ayinde and Zurada cluster them (arXiv 1802.07653).
* `correlation`: its activation goes up and down with another's, over samples and where the group is read. A reader
  makes up for any factor, so the sign does not matter.

All sites of a group say together how alike two indices are: the mean of the cosines at each site. Then they leave one
by one (`redundancy`), so that one of each pair stays; an index of smaller norm goes before one of larger norm. Scores
are 1 - the cosine: 0 for an exact copy, and so comparable over groups as they are.
"""

from __future__ import annotations

import numpy as np

from onnxprune.criteria.activations import activations, pooled
from onnxprune.criteria.criterion import Criterion
from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.redundancy import alike, leaving
from onnxprune.criteria.scores import Scores
from onnxprune.criteria.vectors import members, rows
from onnxprune.dimensions import Vector, atoms
from onnxprune.model import Array

__all__ = ["CORRELATION", "SIMILARITY", "correlation", "similarity"]


def similarity(evidence: Evidence) -> Scores:
    """1 - the cosine with the index whose weights are most alike, among those that stay longer."""
    scores: dict[int, Vector] = {}
    for group in evidence.groups:
        found = [
            rows(evidence.weights.real(site.tensor), site.axis, site.dim, group.atom)
            for site in group.sites
            if len(evidence.analysis.dims(site.tensor)) > 1
        ]
        if found:
            weight = np.asarray(np.sum([_share(values) for values in found], axis=0))
            scores[group.atom.id] = leaving(np.mean([alike(values) for values in found], axis=0), weight)
    return Scores.of("similarity", evidence.groups, scores)


def correlation(evidence: Evidence) -> Scores:
    """1 - |correlation| with the index whose activations are most alike, among those that stay longer."""
    places = activations(evidence.analysis)
    scores: dict[int, Vector] = {}
    for group in evidence.groups:
        found: list[Array] = []
        for place in places:
            if group.atom in atoms(place.dim) and evidence.statistics.has(place.pooled):
                means = evidence.statistics.pooled(place.tensor, place.axis).T
                centred = means - means.mean(axis=1, keepdims=True)
                found.append(centred[members(place.dim, group.atom)].reshape(group.size, -1))
        if found:
            weight = np.asarray(np.sum([_share(values) for values in found], axis=0))
            scores[group.atom.id] = leaving(np.mean([np.abs(alike(values)) for values in found], axis=0), weight)
    return Scores.of("correlation", evidence.groups, scores)


def _share(values: Array) -> Vector:
    """The norm of each row over the mean norm."""
    norms = np.linalg.norm(values, axis=1)
    return np.asarray(norms / (norms.mean() or 1.0))


SIMILARITY = Criterion(
    "similarity",
    "the cosine distance to the most alike weights that stay: RED (arXiv 2105.14797), Ayinde and Zurada (1802.07653)",
    similarity,
)
CORRELATION = Criterion(
    "correlation",
    "1 - |correlation| with the most alike activation that stays: redundancy as in arXiv 1802.07653, on activations",
    correlation,
    pooled,
    "samples",
)
