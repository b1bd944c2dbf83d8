"""Least squares on second moments: the weights that make the wanted outputs of the inputs that there are.

Sums over rows are all that is kept of the data: X^T X, X^T Y and the sum of Y^2, in float64, group by group. So the
memory is that of the matrices, whatever the number of samples, and the error of any weights can be told from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["RIDGE", "Lines", "Normal", "positive", "solve"]

Array: TypeAlias = npt.NDArray[Any]
Float: TypeAlias = npt.NDArray[np.float64]

RIDGE = 1e-3  # of the mean diagonal of X^T X: what keeps rank-deficient and dead inputs where they are


@dataclass(frozen=True, slots=True)
class Lines:
    """Sums over `count` rows for each output (G, O): of z^2, of z y and of z, where z is what is made before a bias and
    y what is wanted, and of y (zeros without a bias)."""

    squares: Float
    products: Float
    sums: Float
    wanted: Float
    count: int


@dataclass
class Normal:
    """`inner` (G, d, d), `cross` (G, d, O) and `outer` (G, O): X^T X, X^T Y and the sums of Y^2 over `rows` rows."""

    inner: Float
    cross: Float
    outer: Float
    rows: int = 0

    @staticmethod
    def empty(groups: int, inputs: int, outputs: int) -> Normal:
        """Nothing added up yet."""
        return Normal(
            np.zeros((groups, inputs, inputs)), np.zeros((groups, inputs, outputs)), np.zeros((groups, outputs))
        )

    def add(self, x: Array, y: Array) -> None:
        """Add rows: x (G, R, d), y (G, R, O)."""
        for group, (rows, made) in enumerate(zip(x, y, strict=True)):
            self.inner[group] += rows.T @ rows
            self.cross[group] += rows.T @ made
        self.outer += np.einsum("gro,gro->go", y, y, dtype=np.float64)
        self.rows += x.shape[1]

    def together(self, other: Normal) -> Normal:
        """The normal equations of the rows of both."""
        return Normal(
            self.inner + other.inner, self.cross + other.cross, self.outer + other.outer, self.rows + other.rows
        )

    def least(self, weights: Float, keep: npt.NDArray[np.bool_], free: int) -> Float:
        """See `solve`."""
        return solve(self, weights, keep, free)

    def lines(self, weights: Float, free: int) -> Lines:
        """What each output makes of all inputs but the last `free`, by weights (G, O, d), beside what is wanted."""
        count = self.inner.shape[1] - free
        own, inner = weights[..., :count], self.inner[:, :count, :count]
        squares = (own * (own @ inner)).sum(axis=2)
        products = np.einsum("gox,gxo->go", own, self.cross[:, :count])
        ones = np.zeros_like(self.inner[:, :count, 0]) if not free else self.inner[:, :count, -1]
        sums = np.einsum("gox,gx->go", own, ones)
        return Lines(squares, products, sums, self.cross[:, -1] if free else np.zeros_like(squares), self.rows)

    def without_bias(self) -> Float:
        """X^T X (G, d - 1, d - 1) of the inputs before the last, a constant one, once the bias is free to follow."""
        sums = self.inner[:, :-1, -1]
        return np.asarray(self.inner[:, :-1, :-1] - sums[:, :, None] * sums[:, None, :] / self.inner[:, -1:, -1:])

    def energy(self) -> float:
        """The sum of squares of what is wanted."""
        return float(self.outer.sum())

    def error(self, weights: Float) -> float:
        """The sum of squares of X W^T - Y, for weights (G, O, d)."""
        turned = np.swapaxes(weights, 1, 2)
        quadratic = (turned * (self.inner @ turned)).sum()
        return float(max(0.0, quadratic - 2 * (turned * self.cross).sum() + self.outer.sum()))


def solve(normal: Normal, weights: Float, keep: npt.NDArray[np.bool_], free: int = 0, ridge: float = RIDGE) -> Float:
    """The weights (G, O, d), zero where `keep` is False, of least error; `weights` is where the ridge pulls to.

    Of the d inputs the last `free` (a constant one, whose weight is the bias) are not pulled. Rows of one mask are
    solved together: by Cholesky, or by eigenvalues where the matrix is not positive definite for rounding.
    """
    found = np.where(keep, weights, 0.0)
    for group in range(len(found)):
        inner, cross = normal.inner[group], normal.cross[group]
        patterns, which = np.unique(keep[group], axis=0, return_inverse=True)
        which = which.reshape(-1)
        for number, pattern in enumerate(patterns):
            at = np.flatnonzero(pattern)
            if not len(at):
                continue
            rows = np.flatnonzero(which == number)
            matrix = inner[np.ix_(at, at)]
            diagonal = np.diagonal(matrix)
            pull = np.full(len(at), ridge * float(diagonal.mean()) + 1e-12)
            pull[at >= found.shape[2] - free] = 1e-12 + 1e-9 * float(diagonal.mean())
            now = found[group][np.ix_(rows, at)]
            wanted = cross[np.ix_(at, rows)] - matrix @ now.T
            matrix[np.diag_indices(len(at))] += pull
            found[group][np.ix_(rows, at)] = now + positive(matrix, wanted).T
    return found


def positive(matrix: Float, wanted: Float) -> Float:
    """The solution of a system whose matrix is positive definite but for rounding: Cholesky, or eigenvalues."""
    try:
        lower = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix)
        values = np.maximum(values, 1e-9 * values[-1])
        return np.asarray(vectors @ ((vectors.T @ wanted) / values[:, None]))
    return np.asarray(np.linalg.solve(lower.T, np.linalg.solve(lower, wanted)))
