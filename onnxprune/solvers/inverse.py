"""Damped inverses of second-moment matrices, and their triangular factors; numpy alone, float64 throughout.

A Gram matrix H = X^T X of few samples has directions that no sample speaks of. Damping adds `damping` x the mean of its
diagonal to the diagonal, as GPTQ and SparseGPT do, so that what depends on such a direction stays as it is.

1. The upper factor U of the inverse, H^-1 = U^T U, is the inverse of the factor of H that begins at its last row:
   one Cholesky decomposition of H backwards, and one triangular inverse by halves, which is matrix products alone.
2. Where rounding has left H with an eigenvalue below zero, eigenvalues are raised to a floor instead.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["DAMPING", "Float", "damped", "damped_inverse", "heard", "upper_factor"]

Float: TypeAlias = npt.NDArray[np.float64]
DAMPING = 0.01
_FLOOR = 1e-10  # of the largest eigenvalue
_SMALL = 64  # below it, numpy's own inverse is as quick


def damped(gram: npt.NDArray[Any], damping: float = DAMPING) -> Float:
    """A symmetric `gram`, shape (..., D, D), with `damping` x the mean of its diagonal added to the diagonal.

    A matrix of zeros becomes the identity: nothing is known, and every weight counts alike.
    """
    matrix: Float = np.asarray(gram, np.float64)
    matrix = (matrix + matrix.swapaxes(-1, -2)) / 2
    diagonal = np.arange(matrix.shape[-1])
    mean = matrix[..., diagonal, diagonal].mean(axis=-1, keepdims=True)
    matrix[..., diagonal, diagonal] += np.where(mean > 0, damping * mean, 1.0)
    return np.asarray(matrix)


def upper_factor(gram: npt.NDArray[Any], damping: float = DAMPING) -> Float:
    """Upper triangular U with U^T U = (damped `gram`)^-1, for one matrix (D, D)."""
    matrix = damped(gram, damping)
    try:
        backwards: Float = np.asarray(np.linalg.cholesky(matrix[::-1, ::-1]), np.float64)  # case 1
    except np.linalg.LinAlgError:  # case 2
        values, vectors = np.linalg.eigh(matrix)
        raised = np.maximum(values, _FLOOR * max(float(values[-1]), np.finfo(np.float64).tiny))
        backwards = np.asarray(np.linalg.cholesky(((vectors * raised) @ vectors.T)[::-1, ::-1]), np.float64)
    return np.ascontiguousarray(_lower_inverse(backwards)[::-1, ::-1])


def damped_inverse(gram: npt.NDArray[Any], damping: float = DAMPING) -> Float:
    """The inverse of the damped `gram`, (..., D, D), symmetric and positive."""
    gram = np.asarray(gram)
    if gram.ndim > 2:
        return np.stack([damped_inverse(one, damping) for one in gram])
    factor = upper_factor(gram, damping)
    return np.asarray(factor.T @ factor)


def heard(weights: npt.NDArray[Any], gram: npt.NDArray[Any]) -> Float:
    """`weights` (..., O, D) of `gram` (..., D, D), but zero where the input was never anything but zero.

    To lose those costs nothing, while damping counts them as what no sample speaks of. SparseGPT's published code does
    the same. Of an input that is all zeros nothing is known, and its weights stay.
    """
    silent = np.diagonal(gram, axis1=-2, axis2=-1)[..., None, :] == 0
    return np.where(silent & ~silent.all(axis=-1, keepdims=True), 0.0, np.asarray(weights, np.float64))


def _lower_inverse(lower: Float) -> Float:
    """The inverse of a lower triangular matrix: [[A, 0], [B, C]] has [[A^-1, 0], [-C^-1 B A^-1, C^-1]]."""
    size = len(lower)
    if size <= _SMALL:
        return np.tril(np.linalg.inv(lower))
    half = size // 2
    made = np.zeros_like(lower)
    made[:half, :half] = _lower_inverse(lower[:half, :half])
    made[half:, half:] = _lower_inverse(lower[half:, half:])
    made[half:, :half] = -(made[half:, half:] @ lower[half:, :half]) @ made[:half, :half]
    return made
