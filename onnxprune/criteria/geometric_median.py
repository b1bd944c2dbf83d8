"""FPGM: an index that lies close to the geometric median of its group can be made up for by the others."""

from __future__ import annotations

import numpy as np

from onnxprune.criteria.criterion import Criterion, Sites
from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.sites import SiteScore
from onnxprune.criteria.vectors import rows
from onnxprune.dimensions import Vector
from onnxprune.model import Array

__all__ = ["FPGM", "fpgm"]

ROWS = 512  # of the matrix of distances at a time


def fpgm(evidence: Evidence) -> Sites:
    """The sum of distances to all others: He et al., Filter Pruning via Geometric Median, CVPR 2019.

    (arXiv 1811.00250.) The signed weights that go with an index at a site are one point; as there, the points with the
    least sum of Euclidean distances to all points go first. Every weight of rank two or more has its say.
    """
    sites: dict[int, list[SiteScore]] = {}
    for group in evidence.groups:
        for site in group.sites:
            if len(evidence.analysis.dims(site.tensor)) > 1:
                points = rows(evidence.weights.real(site.tensor), site.axis, site.dim, group.atom)
                found = SiteScore(site.tensor, site.axis, _distances(points), points.shape[1])
                sites.setdefault(group.atom.id, []).append(found)
    return sites


def _distances(points: Array) -> Vector:
    """The sum of Euclidean distances of each point to all others."""
    points = points - points.mean(axis=0)  # near the origin, squares lose fewer digits
    squares = np.square(points).sum(axis=1)
    sums = np.empty(len(points))
    for start in range(0, len(points), ROWS):
        part = slice(start, start + ROWS)
        between = squares[part, None] + squares - 2 * points[part] @ points.T
        between[np.arange(len(between)), np.arange(start, start + len(between))] = 0
        sums[part] = np.sqrt(np.maximum(between, 0)).sum(axis=1)
    return sums


FPGM = Criterion("fpgm", "the sum of distances to all others: geometric median, CVPR 2019 (arXiv 1811.00250)", fpgm)
