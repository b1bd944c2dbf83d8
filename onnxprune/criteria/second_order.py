"""Second-order criteria: the error of a layer's output, from the second moments of its input.

The Hessian of that error with respect to a row of weights is 2 X^T X, the same for every row, so it is known exactly
from inputs alone: no labels and no gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.criteria.criterion import Criterion, Select, Sites
from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.reading import inputs_of_layers, marginal, scored, weighed
from onnxprune.criteria.scores import Scores
from onnxprune.dimensions import Mask, Vector
from onnxprune.layers import Layer
from onnxprune.model import Array
from onnxprune.solvers import Reader, damped_inverse, obd, obs, sequential, sparsegpt, structured_obs
from onnxprune.statistics import GramMatrix, Statistics

__all__ = ["OBD", "OBS", "SPARSEGPT"]


def _rows(layer: Layer, weights: Array) -> Array:
    groups, outputs, inputs, positions = layer.shape
    return weights.reshape(groups, outputs, inputs * positions)


def _of_columns(reader: Reader, saliency: Array) -> Vector:
    """The sum over all weights that go with an index."""
    return np.asarray(saliency.sum(axis=0)[reader.columns].sum(axis=1))


# -- OBD --------------------------------------------------------------------------------------------------------------


def _obd_elements(layer: Layer, weights: Array, statistics: Statistics) -> Array:
    return obd(_rows(layer, weights), statistics.gram(layer).matrix).reshape(layer.shape)


def _obd(evidence: Evidence) -> Sites:
    """w^2 H_jj, added up over all weights that read an index."""
    return weighed(evidence, lambda reader: _of_columns(reader, obd(reader.weights, reader.gram)))


OBD = Criterion(
    "obd", "the diagonal of the Hessian: LeCun et al., Optimal Brain Damage, NIPS 1989", _obd, inputs_of_layers,
    "samples", _obd_elements,
)  # fmt: skip

# -- OBS --------------------------------------------------------------------------------------------------------------


def _obs_elements(layer: Layer, weights: Array, statistics: Statistics) -> Array:
    return obs(_rows(layer, weights), damped_inverse(statistics.gram(layer).matrix)).reshape(layer.shape)


def _greedy(readers: Sequence[Reader]) -> Vector:
    """What each index costs when it goes, cheapest first, if what stays makes up for all that went."""
    found = structured_obs(readers)
    last = np.isfinite(found.left)
    order = np.concatenate([found.order, np.flatnonzero(last)])
    return marginal(order, np.concatenate([found.losses, np.maximum(found.left[last], 0.0)]))


def _obs(evidence: Evidence) -> Scores:
    return scored(evidence, "obs", _greedy)


OBS = Criterion(
    "obs",
    "what stays makes up for what goes: Hassibi & Stork, Optimal Brain Surgeon, NIPS 1992; indices go one by one, "
    "as in ZipLM, NeurIPS 2023 (arXiv 2302.04089)",
    _obs, inputs_of_layers, "samples", _obs_elements,
)  # fmt: skip

# -- SparseGPT --------------------------------------------------------------------------------------------------------


def _sparsegpt_elements(layer: Layer, weights: Array, statistics: Statistics) -> Array:
    both = zip(_rows(layer, weights), statistics.gram(layer).matrix, strict=True)
    return np.stack([sequential(rows, gram) for rows, gram in both]).reshape(layer.shape)


def _sparsegpt(evidence: Evidence) -> Sites:
    """w^2 / U_jj^2, added up over all weights that read an index."""
    return weighed(evidence, lambda reader: _of_columns(reader, sequential(reader.weights, reader.gram)))


def _sparsegpt_solve(
    layer: Layer, weights: Array, gram: GramMatrix, select: Select, sparsity: float
) -> tuple[Array, Mask]:
    return sparsegpt(weights, gram.matrix, select, sparsity, span=select.span)


SPARSEGPT = Criterion(
    "sparsegpt", "what the columns behind it cannot make up for: Frantar & Alistarh, ICML 2023 (arXiv 2301.00774)",
    _sparsegpt, inputs_of_layers, "samples", _sparsegpt_elements, _sparsegpt_solve,
)  # fmt: skip
