"""Least squares on second moments: the weights that make the wanted outputs of the inputs that there are.

Sums over rows are all that is kept of the data: X^T X, X^T Y and the sum of Y^2, in float64, group by group. So the
memory is that of the matrices, whatever the number of samples, and the error of any weights can be told from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["RIDGE", "Lines", "Normal", "positive", "solve", "systems"]

Array: TypeAlias = npt.NDArray[Any]
Float: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.intp]

RIDGE = 1e-3  # of the mean diagonal of X^T X: what keeps rank-deficient and dead inputs where they are
STACKED = 64 << 20  # bytes of matrices of one size that are solved at once
BLOCK = 64  # rows of a triangular matrix that are solved at once


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

    @staticmethod
    def of(x: Array, y: Array) -> Normal:
        """Of rows x (G, R, d) and y (G, R, O); X^T X and X^T Y in their precision, until they are added up."""
        turned = np.swapaxes(x, 1, 2)
        outer = np.einsum("gro,gro->go", y, y, dtype=np.float64)
        return Normal(turned @ x, turned @ y, outer, x.shape[1])

    def add(self, other: Normal) -> None:
        """Add the rows of another one."""
        self.inner += other.inner
        self.cross += other.cross
        self.outer += other.outer
        self.rows += other.rows

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
    for groups, inputs, outputs in systems(keep):
        g, at, out = groups[:, None, None], inputs[:, :, None], outputs[:, None, :]
        matrix = normal.inner[g, at, inputs[:, None, :]]
        diagonal = np.diagonal(matrix, axis1=1, axis2=2)
        mean = diagonal.mean(axis=1)[:, None]
        pull = np.where(inputs >= found.shape[2] - free, 1e-12 + 1e-9 * mean, ridge * mean + 1e-12)
        now = found[g, out, at]
        wanted = normal.cross[g, at, out] - matrix @ now
        matrix[:, np.arange(inputs.shape[1]), np.arange(inputs.shape[1])] += pull
        found[g, out, at] = now + positive(matrix, wanted)
    return found


def systems(keep: npt.NDArray[np.bool_]) -> Iterator[tuple[Indices, Indices, Indices]]:
    """The systems of equations that a mask (G, O, d) leaves: outputs of one group that keep the same inputs are one.

    Systems of one size come together, S of n inputs and m outputs: their groups (S,), inputs (S, n), outputs (S, m).
    """
    found: dict[tuple[int, int], list[tuple[int, Indices, Indices]]] = {}
    alike = (keep == keep[:, :1]).all(axis=(1, 2))
    for group, masks in enumerate(keep):
        patterns, which = (masks[:1], np.zeros(len(masks), np.intp)) if alike[group] else _patterns(masks)
        for number, pattern in enumerate(patterns):
            inputs, outputs = np.flatnonzero(pattern), np.flatnonzero(which == number)
            if len(inputs):
                found.setdefault((len(inputs), len(outputs)), []).append((group, inputs, outputs))
    for (size, _), same in found.items():
        most = max(1, STACKED // (8 * size * size))
        for start in range(0, len(same), most):
            own = same[start : start + most]
            yield np.array([g for g, _, _ in own]), np.array([i for _, i, _ in own]), np.array([o for _, _, o in own])


def _patterns(masks: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], Indices]:
    patterns, which = np.unique(masks, axis=0, return_inverse=True)
    return patterns, which.reshape(-1)


def positive(matrix: Float, wanted: Float) -> Float:
    """The solutions (..., n, m) of systems (..., n, n) that are positive definite but for rounding: by Cholesky, or
    by eigenvalues."""
    try:
        lower = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        if matrix.ndim > 2 and len(matrix) > 1:
            return np.stack([positive(one, other) for one, other in zip(matrix, wanted, strict=True)])
        values, vectors = np.linalg.eigh(matrix)
        values = np.maximum(values, 1e-9 * values[..., -1:])
        return np.asarray(vectors @ ((np.swapaxes(vectors, -1, -2) @ wanted) / values[..., None]))
    return _back(np.asarray(np.swapaxes(lower, -1, -2)), _forth(np.asarray(lower), wanted))


def _forth(lower: Float, wanted: Float) -> Float:
    """L^-1 Y, block after block: numpy solves nothing but whole matrices, and most of this is a product."""
    found = np.array(wanted)
    for start in range(0, lower.shape[-1], BLOCK):
        own = slice(start, start + BLOCK)
        if start:
            found[..., own, :] -= lower[..., own, :start] @ found[..., :start, :]
        found[..., own, :] = np.linalg.solve(lower[..., own, own], found[..., own, :])
    return found


def _back(upper: Float, wanted: Float) -> Float:
    """U^-1 Y, from the last block to the first."""
    found = np.array(wanted)
    for start in reversed(range(0, upper.shape[-1], BLOCK)):
        own, behind = slice(start, start + BLOCK), slice(start + BLOCK, None)
        if start + BLOCK < upper.shape[-1]:
            found[..., own, :] -= upper[..., own, behind] @ found[..., behind, :]
        found[..., own, :] = np.linalg.solve(upper[..., own, own], found[..., own, :])
    return found
