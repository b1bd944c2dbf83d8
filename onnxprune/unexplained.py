"""How much of some outputs cannot be told from others by a linear map: what a repair could not bring back, at best.

Far from the original a divergence says little of what a model still knows: one that answers the same whatever it is
shown is nearer by KL than one whose scores are all there but shifted and scaled, and only the latter can be repaired.
A ridge regression of the original's outputs on the others undoes shift, scale and mixture; what it leaves of the
variance is lost. Each row is predicted from a fit to all rows but itself, in closed form, so that many outputs and few
rows cannot pass for knowledge. Kornblith et al. (arXiv 1905.00414) compare such measures of similarity.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["unexplained"]

Array: TypeAlias = npt.NDArray[Any]
RIDGE = 1e-2  # of the mean variance of the others
MOST = 1024  # rows


def unexplained(wanted: Array, found: Array) -> float:
    """The share of the variance of `wanted` (rows, n) that rows of `found` (rows, m) do not predict; 0 or more.

    At most `MOST` rows are taken, evenly. 0 where `wanted` does not vary, about 1 where `found` does not.
    """
    chosen = np.unique(np.linspace(0, len(wanted) - 1, min(len(wanted), MOST)).astype(np.int64))
    y, x = (np.asarray(rows[chosen], np.float64) for rows in (wanted, found))
    y, x = y - y.mean(axis=0), x - x.mean(axis=0)
    energy, spread, rows = float(np.square(y).sum()), float(np.square(x).sum()), len(y)
    if energy <= 0:
        return 0.0
    hat = np.full((rows, rows), 1 / rows)
    if spread > 0 and np.isfinite(spread):
        if x.shape[1] <= rows:
            inner = x.T @ x + RIDGE * spread / x.shape[1] * np.eye(x.shape[1])
            hat += x @ np.linalg.solve(inner, x.T)
        else:
            outer = x @ x.T
            hat += outer @ np.linalg.inv(outer + RIDGE * spread / x.shape[1] * np.eye(rows))
    left = (y - hat @ y) / np.maximum(1 - np.diag(hat), 1e-6)[:, None]
    return float(np.square(left).sum()) / energy
