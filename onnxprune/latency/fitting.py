"""Times as sums of features, no coefficient below zero."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt

__all__ = ["fitted"]

Array = npt.NDArray[np.float64]


def fitted(features: Array, times: Array) -> Array:
    """The coefficients, none negative, for which `features @ coefficients` is nearest to `times`, relatively.

    `features` is (measurements, k) for a small k, `times` (measurements,), all positive. Errors count as shares of the
    time, for a small model is to be predicted as closely as a large one. Solved exactly: of all subsets of the
    features, the best one whose least squares solution has no negative coefficient.
    """
    rows, goal = features / times[:, None], np.ones(len(times))
    scale = np.sqrt((rows**2).sum(axis=0))
    scale[scale == 0] = 1.0
    rows = rows / scale
    best, least = np.zeros(features.shape[1]), float(len(times))
    for count in range(1, features.shape[1] + 1):
        for chosen in combinations(range(features.shape[1]), count):
            part, *_ = np.linalg.lstsq(rows[:, chosen], goal, rcond=None)
            error = float(((rows[:, chosen] @ part - goal) ** 2).sum())
            if (part >= 0).all() and error < least * (1 - 1e-9):
                best, least = np.zeros(features.shape[1]), error
                best[list(chosen)] = part
    return np.asarray(best / scale)
