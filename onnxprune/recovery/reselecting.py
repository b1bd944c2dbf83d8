"""Masks chosen where they are repaired: on the pruned model's own inputs, from the weights that fit them best.

A mask chosen on the original's inputs does not know what the layers before it have lost. Here each layer is first
refitted without a mask to make the original's outputs of the pruned inputs; the criterion then chooses from these
weights and second moments (SparseGPT, arXiv 2301.00774, in its order); what stays is solved for once more.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxprune.recovery.evidence import Equations
from onnxprune.recovery.leastsquares import Float, Normal, solve
from onnxprune.recovery.reconstruct import Mask, Solver, Start, least_squares
from onnxprune.sparsity import Choice
from onnxprune.statistics import GramMatrix

__all__ = ["reselecting"]


def reselecting(choices: Mapping[str, Choice]) -> Solver:
    """The solver that chooses the masks of these weights anew, and keeps those of all others."""

    def solver(normal: Equations, start: Start) -> tuple[Float, Mask | None]:
        choice, layer, free = choices.get(start.layer.weight), start.layer, start.free
        if choice is None or not isinstance(normal, Normal):
            return least_squares(normal, start)
        dense = solve(normal, start.original, np.ones_like(start.keep), free)
        gram = normal.without_bias() if free else normal.inner
        inputs = gram.shape[1]
        moments = GramMatrix(gram, np.zeros(gram.shape[:2]), normal.rows)
        matrix = dense[..., :inputs].reshape(layer.shape)
        weights, kept = choice.solve(layer, matrix, moments, choice.select, choice.sparsity)
        keep, begin = start.keep.copy(), dense.copy()
        keep[..., :inputs] = np.asarray(kept).reshape(dense[..., :inputs].shape)
        begin[..., :inputs] = np.where(kept, weights, 0).reshape(dense[..., :inputs].shape)
        return solve(normal, begin, keep, free), keep

    return solver
