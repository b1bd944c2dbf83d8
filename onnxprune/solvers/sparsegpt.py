"""SparseGPT: masks and new weights for a layer, column by column, from its second-moment matrix.

Frantar, Alistarh, SparseGPT: Massive Language Models Can be Accurately Pruned in One-Shot, ICML 2023
(arXiv 2301.00774).

Columns are settled from left to right. Which weights of a column go is decided when the first column of its *span* is
reached, from weights that already make up for all that went before: w^2 / U_jj^2, with H^-1 = U^T U. What a column
loses is made up for by those behind it: at once inside a block of columns, and for all others when the block is done.

1. `select(importance, sparsity)` gets a slice (G, O, span, K) and gives the mask of what stays: any form of sparsity
   that is decided within `span` consecutive inputs, such as N:M with span M. Weights that a caller wants gone, or
   kept, are not chosen but given by `mask`, and no one is asked then: what is left is the exact repair of that order.
2. A block holds whole spans, so that the columns of a span are always up to date.
3. The columns of one layer are settled in their stored order. Groups are layers of their own, settled together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.solvers.inverse import DAMPING, Float, heard, upper_factor

__all__ = ["Select", "sparsegpt"]

Mask: TypeAlias = npt.NDArray[np.bool_]
Select: TypeAlias = Callable[[Float, float], Mask]
"""From the importance (G, O, I, K) of weights, and the share that goes, to the mask of those that stay."""


def sparsegpt(
    weights: npt.NDArray[Any],
    gram: npt.NDArray[Any],
    select: Select | None,
    sparsity: float = 0.5,
    *,
    span: int = 128,
    block: int = 128,
    damping: float = DAMPING,
    mask: Mask | None = None,
) -> tuple[Float, Mask]:
    """New weights (G, O, I, K), zero where the mask that comes with them is False.

    `gram` is (G, I x K, I x K); its scale does not matter. `span` counts inputs, each of K columns, `block` columns.
    """
    groups, outputs, inputs, positions = weights.shape
    columns = inputs * positions
    work = np.array(weights, np.float64).reshape(groups, outputs, columns)
    factor = np.stack([upper_factor(one, damping) for one in gram])
    pivots = np.diagonal(factor, axis1=1, axis2=2)
    worth = heard(1 / pivots[:, None], gram)
    kept = np.ones_like(work, np.bool_) if mask is None else np.array(mask, np.bool_).reshape(work.shape)
    span = min(span, inputs)
    wide = max(1, block // (span * positions)) * span * positions  # case 2
    for start in range(0, columns, wide):
        stop = min(start + wide, columns)
        lost = np.zeros((groups, outputs, stop - start))
        for column in range(start, stop):
            if mask is None and select is not None and (column - start) % (span * positions) == 0:  # case 1
                end = min(column + span * positions, stop)
                importance = np.square(work[:, :, column:end] * worth[:, :, column:end])
                asked = importance.reshape(groups, outputs, -1, positions)
                kept[:, :, column:end] = select(asked, sparsity).reshape(importance.shape)
            gone = np.where(kept[:, :, column], 0.0, work[:, :, column]) / pivots[:, None, column]
            if gone.any():
                work[:, :, column:stop] -= gone[:, :, None] * factor[:, None, column, column:stop]
                lost[:, :, column - start] = gone
        if stop < columns:
            work[:, :, stop:] -= lost @ factor[:, start:stop, stop:]
    work[~kept] = 0.0
    return work.reshape(weights.shape), kept.reshape(weights.shape)
