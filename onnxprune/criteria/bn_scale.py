"""Batch-norm scale: an index matters as much as the norm that follows it lets through."""

from __future__ import annotations

import numpy as np

from onnxprune.criteria.criterion import Criterion
from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.scores import Scores
from onnxprune.dimensions import Vector, project

__all__ = ["BN_SCALE", "bn_scale"]


def bn_scale(evidence: Evidence) -> Scores:
    """|gamma|: Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017.

    (arXiv 1708.06519.) An index takes the mean |gamma| of all BatchNormalization channels that go with it. As there,
    scales are compared across the whole network: they are divided by one number, the mean over the model, so that
    they are of the size of other scores. A group that no BatchNormalization holds is missing.
    """
    analysis, weights = evidence.analysis, evidence.weights
    model = analysis.model
    nodes = (n for n in model.nodes if n.op_type == "BatchNormalization" and n.domain == "")
    gammas = dict.fromkeys(n.inputs[1] for n in nodes if n.inputs[1] in model.weights)
    totals: dict[int, Vector] = {}
    channels: dict[int, Vector] = {}
    total, number = 0.0, 0
    for gamma in gammas:
        (dim,) = analysis.dims(gamma)
        values = np.abs(weights.real(gamma)).astype(np.float64)
        total, number = total + float(values.sum()), number + values.size
        project(dim, values, totals)
        project(dim, np.ones_like(values), channels)
    scale = total / number if total > 0 else 1.0
    return Scores.of("bn-scale", analysis.groups, {atom: totals[atom] / channels[atom] / scale for atom in totals})


BN_SCALE = Criterion("bn-scale", "|gamma| of batch normalisation: network slimming (arXiv 1708.06519)", bn_scale)
