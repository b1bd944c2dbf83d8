"""Small layers with correlated inputs, and what any solver is judged by: least squares solved anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]


def correlated(rows: int, columns: int, seed: int = 0) -> Float:
    """Inputs of a layer, whose columns depend on each other."""
    generator = np.random.default_rng(seed)
    return np.asarray(generator.normal(size=(rows, columns)) @ generator.normal(size=(columns, columns)))


def random(*shape: int, seed: int = 1) -> Float:
    return np.random.default_rng(seed).normal(size=shape)


def resolved(weights: Float, gram: Float, kept: npt.NDArray[np.bool_]) -> Float:
    """The best weights (O, D) that are zero where `kept` (O, D) is False: one linear system for each row."""
    best = np.zeros_like(weights)
    for row, mask in enumerate(kept):
        if mask.any():
            best[row, mask] = np.linalg.solve(gram[np.ix_(mask, mask)], gram[mask] @ weights[row])
    return best


def error(weights: Float, other: Float, gram: Float) -> float:
    """The squared change of the layer's output."""
    change: Any = weights - other
    return float(np.sum((change @ gram) * change))
