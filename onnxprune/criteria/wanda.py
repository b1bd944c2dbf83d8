"""Wanda: a weight matters as much as it is large and as what it is multiplied with is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxprune.criteria.criterion import Criterion, Sites
from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.sites import SiteScore
from onnxprune.dependency import Analysis
from onnxprune.dimensions import Vector, project
from onnxprune.layers import Layer, layers_of
from onnxprune.model import Array
from onnxprune.statistics import Moments, Statistics

__all__ = ["WANDA", "wanda"]


def wanda(evidence: Evidence) -> Sites:
    """|w| x the norm of its input: Sun et al., A Simple and Effective Pruning Approach for LLMs, ICLR 2024.

    (arXiv 2306.11695.) An index is judged where it is read: the norm of its input times the norm of all weights of
    the layer that it is multiplied with, which is the root of the sum of squared scores of those weights. What makes
    the index has no say. A group that no layer reads is missing. Norms are divided by the root of the number of
    values, so that a layer that sees more positions has no more votes.
    """
    analysis, statistics = evidence.analysis, evidence.statistics
    wanted = {group.atom.id: group.size for group in evidence.groups}
    sites: dict[int, list[SiteScore]] = {}
    for layer in evidence.layers:
        norms, dims = _norms(layer, statistics), analysis.dims(layer.data)
        if norms is None or not dims:
            continue
        weights = layer.matrix(evidence.weights.real(layer.weight)).astype(np.float64)
        squares = np.square(weights * norms).sum(axis=(1, 3))  # (G, I)
        dim = dims[layer.data_axis]
        along = squares.ravel() if dim.size == squares.size else squares.sum(axis=0)
        found: dict[int, Vector] = {}
        project(dim, along, found)
        for atom in found.keys() & wanted.keys():
            score = SiteScore(layer.weight, layer.data_axis, np.sqrt(found[atom]), layer.numbers // wanted[atom])
            sites.setdefault(atom, []).append(score)
    return sites


def elements(layer: Layer, weights: Array, evidence: Evidence) -> Array:
    """|w| x the norm of its input, over all samples and positions; |w| where no input was measured.

    The state of a recurrence is such an input: within a layer, all its indices then count as equally large.
    """
    norms = _norms(layer, evidence.statistics)
    return np.abs(weights) if norms is None else np.asarray(np.abs(weights) * norms)


def requests(analysis: Analysis) -> Iterator[Moments]:
    """The moments of the data of every layer."""
    found = (Moments(layer.data, layer.data_axis) for layer in layers_of(analysis) if layer.data)
    return iter(dict.fromkeys(found))


def _norms(layer: Layer, statistics: Statistics) -> Array | None:
    """The root mean square of each input, (G, 1, I, 1) or (1, 1, I, 1); None where it was not measured."""
    if not layer.data or not statistics.has(Moments(layer.data, layer.data_axis)):
        return None
    found = statistics.moments(layer.data, layer.data_axis)
    norms = np.sqrt(found.squares / found.count)
    groups, _, inputs, _ = layer.shape
    return np.asarray(norms.reshape(groups if norms.size == groups * inputs else 1, 1, inputs, 1))


WANDA = Criterion(
    "wanda",
    "a weight times the norm of its input: Sun et al., ICLR 2024 (arXiv 2306.11695)",
    wanda,
    requests,
    "samples",
    elements,
    compare="output",
)
