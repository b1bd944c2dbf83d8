"""What the output of a layer loses with one weight, by its second-moment matrix: without and with repair by the others.

A layer's output is Y = X W^T, its weights are one row for each output, and the squared error of its output after a
change D of one row is D H D^T with H = X^T X. Everything here is in units of that error, for all rows at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxprune.solvers.inverse import DAMPING, Float, upper_factor

__all__ = ["obd", "obs", "sequential"]


def obd(weights: npt.NDArray[Any], gram: npt.NDArray[Any]) -> Float:
    """w^2 H_jj: the error if w alone becomes zero. LeCun, Denker, Solla, Optimal Brain Damage, NIPS 1989.

    `weights` (..., O, D), `gram` (..., D, D). There the diagonal of the Hessian of the loss; here that of the layer's
    output error, which inputs alone give.
    """
    return np.asarray(np.square(weights, dtype=np.float64) * np.diagonal(gram, axis1=-2, axis2=-1)[..., None, :])


def obs(weights: npt.NDArray[Any], inverse: npt.NDArray[Any]) -> Float:
    """w^2 / [H^-1]_jj: the error if w becomes zero and its row makes up for it as well as it can.

    Hassibi, Stork, Optimal Brain Surgeon, NIPS 1992, without the factor 1/2. `inverse` is H^-1, (..., D, D).
    """
    return np.asarray(np.square(weights, dtype=np.float64) / np.diagonal(inverse, axis1=-2, axis2=-1)[..., None, :])


def sequential(weights: npt.NDArray[Any], gram: npt.NDArray[Any], damping: float = DAMPING) -> Float:
    """The same if only the weights behind it in its row may make up for it: SparseGPT's measure, before any update.

    Frantar, Alistarh, SparseGPT, ICML 2023 (arXiv 2301.00774). `weights` (O, D), `gram` (D, D).
    """
    return np.asarray(np.square(np.asarray(weights, np.float64) / np.diagonal(upper_factor(gram, damping))))
