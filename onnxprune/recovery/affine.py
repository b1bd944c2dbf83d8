"""Scale and bias of every output, refitted to the original's: what re-estimating a norm's statistics does, if folded.

Pruning shifts the mean and shrinks the variance of what a layer makes. A batch norm behind it can be given the new
statistics; folded into the layer, its two numbers for each output are a scale of the row and a bias. Both are fitted:
the bias alone makes predictions collapse.
"""

from __future__ import annotations

import numpy as np

from onnxprune.recovery.leastsquares import Float, Normal
from onnxprune.recovery.reconstruct import Start

__all__ = ["affine"]


def affine(normal: Normal, start: Start) -> tuple[Float, None]:
    """The weights (G, O, d), each row scaled and its bias (the last of d, where `free`) fitted, by least squares."""
    found, free = np.where(start.keep, start.pruned, 0.0), start.free
    inputs = found.shape[2] - free
    for group, inner in enumerate(normal.inner):
        rows, cross = found[group, :, :inputs], normal.cross[group]
        squares = np.einsum("od,de,oe->o", rows, inner[:inputs, :inputs], rows)
        products = np.einsum("od,do->o", rows, cross[:inputs])
        if not free:
            found[group, :, :inputs] *= np.divide(products, squares, out=np.ones_like(squares), where=squares > 0)[
                :, None
            ]
            continue
        sums, count, wanted = rows @ inner[:inputs, -1], float(inner[-1, -1]), cross[-1]
        spread = squares - sums**2 / count
        together = products - sums * wanted / count
        scale = np.divide(together, spread, out=np.ones_like(spread), where=spread > 1e-6 * np.abs(squares))
        found[group, :, :inputs] *= scale[:, None]
        found[group, :, -1] = (wanted - scale * sums) / count
    return found, None
