"""Optimal Brain Compression: each row of a layer loses its weights one by one, each time the cheapest, exactly.

Frantar, Singh, Alistarh, Optimal Brain Compression, NeurIPS 2022 (arXiv 2208.11580), algorithm 1 (ExactOBS). The trace
of a row is the order in which its weights go and what each going costs, with all that stay made up for it in between;
rows do not depend on each other, so a global choice is a choice of how far to go in each (there, section 4).

All rows start from one inverse. What a row has subtracted from it is kept as the vectors that were subtracted, and a
column is computed when its weight goes. A row still costs as much as a matrix inversion: this is for narrow layers
(`WIDEST`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxprune.solvers.inverse import DAMPING, Float, damped, damped_inverse

__all__ = ["WIDEST", "masked_least_squares", "trace"]

WIDEST = 576  # columns: 64 channels of 3 x 3
_HELD = 2**27  # bytes of vectors at a time


def trace(weights: npt.NDArray[Any], gram: npt.NDArray[Any], damping: float = DAMPING) -> Float:
    """What it costs to go as far in its row as to each weight, (O, D): never less than what went before it.

    `weights` (O, D), `gram` (D, D). Keeping the largest of a row is keeping what ExactOBS would keep.
    """
    rows, columns = weights.shape
    inverse = damped_inverse(gram, damping)
    found = np.empty((rows, columns))
    step = max(1, _HELD // (8 * columns**2))
    for start in range(0, rows, step):
        found[start : start + step] = _trace(np.array(weights[start : start + step], np.float64), inverse)
    return found


def _trace(weights: Float, inverse: Float) -> Float:
    rows, columns = weights.shape
    every, costs = np.arange(rows), np.zeros((rows, columns))
    subtracted = np.empty((rows, columns, columns))
    diagonal = np.repeat(np.diagonal(inverse)[None], rows, axis=0)
    gone = np.zeros((rows, columns), np.bool_)
    least = np.zeros(rows)
    for turn in range(columns):
        cost = np.where(gone, np.inf, np.square(weights) / diagonal)
        chosen = np.argmin(cost, axis=1)
        least = np.maximum(least * (1 + 1e-12), cost[every, chosen])
        costs[every, chosen] = least
        before = subtracted[:, :turn]
        column = inverse[chosen] - np.matmul(before[every, :, chosen][:, None], before)[:, 0]
        pivot = diagonal[every, chosen][:, None]
        subtracted[:, turn] = column / np.sqrt(pivot)
        weights -= column * (weights[every, chosen][:, None] / pivot)
        gone[every, chosen] = True
        weights[gone] = 0.0
        diagonal = np.where(gone, 1.0, diagonal - np.square(subtracted[:, turn]))
    return costs


def masked_least_squares(
    weights: npt.NDArray[Any], gram: npt.NDArray[Any], kept: npt.NDArray[np.bool_], damping: float = DAMPING
) -> Float:
    """The weights (O, D), zero where `kept` is False, whose output is nearest to that of `weights`; row by row.

    Rows that keep the same columns are solved together.
    """
    matrix, wanted = damped(gram, damping), np.asarray(weights, np.float64)
    made = np.zeros_like(wanted)
    masks, which = np.unique(kept, axis=0, return_inverse=True)
    for number, mask in enumerate(masks):
        rows = np.flatnonzero(which.ravel() == number)
        inside = np.flatnonzero(mask)
        if len(inside):
            right = matrix[inside] @ wanted[rows].T
            made[np.ix_(rows, inside)] = np.linalg.solve(matrix[np.ix_(inside, inside)], right).T
    return made
