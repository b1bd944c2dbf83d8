"""LAMP: a weight matters as much as it stands out among those of its layer that are no smaller."""

from __future__ import annotations

import numpy as np

from onnxprune.criteria.criterion import Criterion
from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.magnitude import L2
from onnxprune.criteria.scores import Scores
from onnxprune.criteria.sites import aggregated, lamp
from onnxprune.layers import Layer
from onnxprune.model import Array

__all__ = ["LAMP"]


def _judge(evidence: Evidence) -> Scores:
    """The squared norm of an index over the sum of those of its site that are no smaller, the mean over sites.

    These shares are made to be compared over the whole model, so they are left as they are.
    """
    found = L2.judge(evidence)
    assert not isinstance(found, Scores)
    values = {atom: aggregated(sites, "mean", "lamp") for atom, sites in found.items()}
    return Scores.of("lamp", evidence.groups, values)


def _elements(layer: Layer, weights: Array, evidence: Evidence) -> Array:
    """w^2 over the sum of all squares in the layer that are no smaller."""
    return lamp(np.abs(weights).ravel()).reshape(weights.shape)


LAMP = Criterion(
    "lamp",
    "the share of a squared weight among those no smaller, comparable over layers: Lee et al. (arXiv 2010.07611)",
    _judge,
    elements=_elements,
)
