"""Second-order criteria: the error of a layer's output, from the second moments of its input.

The Hessian of that error with respect to a row of weights is 2 X^T X, the same for every row, so it is known exactly
from inputs alone: no labels and no gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.criteria.criterion import Criterion, Select, Sites
from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.reading import inputs_of_layers, marginal, scored, weighed_by_weight
from onnxprune.criteria.scores import Scores
from onnxprune.dimensions import Mask, Vector
from onnxprune.layers import Layer
from onnxprune.model import Array
from onnxprune.solvers import (
    WIDEST,
    Reader,
    damped_inverse,
    heard,
    masked_least_squares,
    obd,
    obs,
    sequential,
    sparsegpt,
    structured_obs,
    trace,
)
from onnxprune.statistics import GramMatrix

__all__ = ["OBC", "OBD", "OBS", "SPARSEGPT"]


def _rows(layer: Layer, weights: Array) -> Array:
    groups, outputs, inputs, positions = layer.shape
    return weights.reshape(groups, outputs, inputs * positions)


# -- OBD --------------------------------------------------------------------------------------------------------------


def _obd_elements(layer: Layer, weights: Array, evidence: Evidence) -> Array:
    return obd(_rows(layer, weights), evidence.statistics.gram(layer).matrix).reshape(layer.shape)


def _obd(evidence: Evidence) -> Sites:
    """w^2 H_jj, added up over all weights that read an index."""
    return weighed_by_weight(evidence, obd)


OBD = Criterion(
    "obd", "the diagonal of the Hessian: LeCun et al., Optimal Brain Damage, NIPS 1989", _obd, inputs_of_layers,
    "samples", _obd_elements,
)  # fmt: skip

# -- OBS --------------------------------------------------------------------------------------------------------------


def _obs_elements(layer: Layer, weights: Array, evidence: Evidence) -> Array:
    return _one_by_one(layer, weights, evidence.statistics.gram(layer))


def _one_by_one(layer: Layer, weights: Array, gram: GramMatrix) -> Array:
    return obs(heard(_rows(layer, weights), gram.matrix), damped_inverse(gram.matrix)).reshape(layer.shape)


def _obs_solve(layer: Layer, weights: Array, gram: GramMatrix, select: Select, sparsity: float) -> tuple[Array, Mask]:
    """The mask by `elements`, all at once, and the weights that are best with it."""
    return _repaired(layer, weights, gram, select(_one_by_one(layer, weights, gram), sparsity), sparsity)


def _greedy(readers: Sequence[Reader]) -> Vector:
    """What each index costs when it goes, cheapest first, if what stays makes up for all that went."""
    found = structured_obs(readers)
    last = np.isfinite(found.left)
    order = np.concatenate([found.order, np.flatnonzero(last)])
    return marginal(order, np.concatenate([found.losses, np.maximum(found.left[last], 0.0)]))


def _obs(evidence: Evidence) -> Scores:
    return scored(evidence, "obs", _greedy)


def _obc(evidence: Evidence) -> Scores:
    return scored(evidence, "obc", _greedy)


OBS = Criterion(
    "obs",
    "what stays makes up for what goes: Hassibi & Stork, Optimal Brain Surgeon, NIPS 1992; indices go one by one, "
    "as in ZipLM, NeurIPS 2023 (arXiv 2302.04089)",
    _obs, inputs_of_layers, "samples", _obs_elements, _obs_solve,
)  # fmt: skip

# -- SparseGPT --------------------------------------------------------------------------------------------------------


def _sparsegpt_elements(layer: Layer, weights: Array, evidence: Evidence) -> Array:
    grams = evidence.statistics.gram(layer).matrix
    both = zip(heard(_rows(layer, weights), grams), grams, strict=True)
    return np.stack([sequential(rows, gram) for rows, gram in both]).reshape(layer.shape)


def _sparsegpt(evidence: Evidence) -> Sites:
    """w^2 / U_jj^2, added up over all weights that read an index."""
    return weighed_by_weight(evidence, sequential)


def _sparsegpt_solve(
    layer: Layer, weights: Array, gram: GramMatrix, select: Select, sparsity: float
) -> tuple[Array, Mask]:
    return sparsegpt(weights, gram.matrix, select, sparsity, span=select.span)


SPARSEGPT = Criterion(
    "sparsegpt", "what the columns behind it cannot make up for: Frantar & Alistarh, ICML 2023 (arXiv 2301.00774)",
    _sparsegpt, inputs_of_layers, "samples", _sparsegpt_elements, _sparsegpt_solve,
)  # fmt: skip

# -- OBC --------------------------------------------------------------------------------------------------------------


def _obc_elements(layer: Layer, weights: Array, evidence: Evidence) -> Array:
    return _in_turn(layer, weights, evidence.statistics.gram(layer))


def _in_turn(layer: Layer, weights: Array, gram: GramMatrix) -> Array:
    rows = heard(_rows(layer, weights), gram.matrix)
    if rows.shape[2] > WIDEST:
        return _one_by_one(layer, weights, gram)
    return np.stack([trace(own, matrix) for own, matrix in zip(rows, gram.matrix, strict=True)]).reshape(layer.shape)


def _obc_solve(layer: Layer, weights: Array, gram: GramMatrix, select: Select, sparsity: float) -> tuple[Array, Mask]:
    """The mask by `elements`, and the weights that are best with it; of a wide layer in SparseGPT's order."""
    return _repaired(layer, weights, gram, select(_in_turn(layer, weights, gram), sparsity), sparsity)


def _repaired(layer: Layer, weights: Array, gram: GramMatrix, kept: Mask, sparsity: float) -> tuple[Array, Mask]:
    rows, masks = _rows(layer, weights), _rows(layer, kept)
    if rows.shape[2] > WIDEST:
        return sparsegpt(weights, gram.matrix, None, sparsity, mask=kept)
    both = zip(rows, gram.matrix, masks, strict=True)
    return np.stack([masked_least_squares(*one) for one in both]).reshape(layer.shape), kept


OBC = Criterion(
    "obc",
    f"exact, weight by weight: Frantar et al., Optimal Brain Compression, NeurIPS 2022 (arXiv 2208.11580); obs in "
    f"layers of more than {WIDEST} columns, and for channels",
    _obc, inputs_of_layers, "samples", _obc_elements, _obc_solve,
)  # fmt: skip
