"""A mask on the way to the whole one: part of its blocks, those of the largest L1 norm first.

Where a model is masked in steps and repaired between them, a block of N:M (M inputs of one output and position) or of a
pattern (a 2-D kernel) is masked as a whole or not yet. Blocks of which nothing more goes were masked before, and count
as the first. Of boxes and single weights a part of the way is a smaller sparsity.
"""

from __future__ import annotations

import numpy as np

from onnxprune.dimensions import Mask
from onnxprune.model import Array
from onnxprune.sparsity.granularity import Granularity

__all__ = ["selected"]


def selected(
    form: Granularity, importance: Array, sparsity: float, per_output: bool = False, share: float = 1.0
) -> Mask:
    """What stays, (G, O, I, K), when `share` of the way to `sparsity` is gone."""
    runs = form.runs(importance.shape)
    if share >= 1 or runs is None:
        return form.select(importance, share * sparsity, per_output)
    keep, (axis, length) = form.select(importance, sparsity, per_output), runs
    norms = _sums(importance, axis, length)
    lost = _sums(np.where(keep, 0, importance), axis, length)
    order = np.argsort(np.where(lost > 0, -norms, -np.inf).ravel(), kind="stable")
    chosen = np.zeros(norms.size, np.bool_)
    chosen[order[: round(share * norms.size)]] = True
    spread = chosen.reshape(norms.shape).repeat(length, axis=axis)
    return np.asarray(keep | ~spread[tuple(slice(size) for size in importance.shape)])


def _sums(values: Array, axis: int, length: int) -> Array:
    return np.asarray(np.add.reduceat(values, np.arange(0, values.shape[axis], length), axis=axis, dtype=np.float64))
