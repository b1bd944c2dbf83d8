"""HRank: an index whose feature maps are of low rank says little."""

from __future__ import annotations

import numpy as np

from onnxprune.criteria.activations import activations, maps
from onnxprune.criteria.criterion import Criterion, Sites
from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.sites import SiteScore
from onnxprune.criteria.vectors import Indices, members
from onnxprune.dimensions import Vector, atoms
from onnxprune.model import Array

__all__ = ["HRANK", "hrank"]


def hrank(evidence: Evidence) -> Sites:
    """The mean rank of the feature maps: Lin et al., HRank, CVPR 2020 (arXiv 2002.10565).

    The rank is taken in float32, as there, of rows x columns of a map; for sequences, of positions x the numbers of an
    index, such as the width of a head. Of an index with one number at each position nothing can be said: its group
    is missing. In later layers maps are small and most of them of full rank; then all indices score alike.
    """
    sites: dict[int, list[SiteScore]] = {}
    for activation in activations(evidence.analysis):
        if not evidence.statistics.has(activation.maps):
            continue
        values = evidence.statistics.maps(activation.tensor, activation.axis, activation.maps.samples)
        for group in evidence.groups:
            if group.atom in atoms(activation.dim):
                ranks = _ranks(values, members(activation.dim, group.atom))
                if ranks is not None:
                    sites.setdefault(group.atom.id, []).append(SiteScore(activation.tensor, activation.axis, ranks))
    return sites


def _ranks(values: Array, places: Indices) -> Vector | None:
    """The mean rank of each index, the mean over what goes with it; None where it has no matrix."""
    if values.ndim > 3:
        single = np.unique(places)
        matrices = values[:, single].reshape(len(values), len(single), values.shape[2], -1)
        ranks = np.linalg.matrix_rank(matrices).mean(axis=0, dtype=np.float64)
        return np.asarray(ranks[np.searchsorted(single, places)].mean(axis=1))
    if values.ndim == 3 and places.shape[1] > 1:
        return np.asarray(np.linalg.matrix_rank(values[:, places]).mean(axis=0, dtype=np.float64))
    return None


HRANK = Criterion("hrank", "the mean rank of the feature maps: CVPR 2020 (arXiv 2002.10565)", hrank, maps, "samples")
