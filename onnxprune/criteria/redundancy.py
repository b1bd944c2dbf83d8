"""From how alike the indices of a group are to scores, so that of twins one stays.

If both of two equal indices scored low, both would go, and what they say with them. So the indices leave one by one:
of the two that are most alike among those that are left, the one that weighs less goes, and its score is how unlike
they were. Scores rise from the first that goes to the last one, which is at least as important as any other.
"""

from __future__ import annotations

import numpy as np

from onnxprune.dimensions import Vector
from onnxprune.model import Array

__all__ = ["alike", "leaving"]


def alike(rows: Array) -> Array:
    """The cosine of every pair of rows, float32 (n, n); a row of zeros says nothing and is like every other."""
    norms = np.linalg.norm(rows, axis=1)
    unit = np.divide(rows, norms[:, None], out=np.zeros_like(rows), where=norms[:, None] > 0)
    cosines = np.asarray((unit @ unit.T), dtype=np.float32)
    silent = norms == 0
    cosines[silent] = 1
    cosines[:, silent] = 1
    return cosines


def leaving(similarity: Array, weight: Vector) -> Vector:
    """1 - the similarity that made each index go, float64 (n,); `similarity` is symmetric, at most 1."""
    left = np.array(similarity, dtype=np.float32)
    lowest = float(left.min())
    np.fill_diagonal(left, -np.inf)
    nearest = left.argmax(axis=1)
    closest = left[np.arange(len(left)), nearest]
    scores = np.full(len(left), 1.0 - min(lowest, 0.0))  # the last one's
    for _ in range(len(left) - 1):
        one = int(closest.argmax())
        other = int(nearest[one])
        gone = one if (weight[one], -one) < (weight[other], -other) else other
        scores[gone] = 1.0 - float(closest[one])
        left[gone] = left[:, gone] = closest[gone] = -np.inf
        for row in np.flatnonzero((nearest == gone) & (closest > -np.inf)):
            nearest[row] = left[row].argmax()
            closest[row] = left[row, nearest[row]]
    return scores
