"""Scale and bias of every output, refitted to the original's: what re-estimating a norm's statistics does, if folded.

Pruning shifts the mean and shrinks the variance of what a layer makes. A batch norm behind it can be given the new
statistics; folded into the layer, its two numbers for each output are a scale of the row and a bias. Both are fitted:
the bias alone makes predictions collapse.
"""

from __future__ import annotations

import numpy as np

from onnxprune.recovery.evidence import Equations
from onnxprune.recovery.leastsquares import Float
from onnxprune.recovery.reconstruct import Start

__all__ = ["affine"]


def affine(equations: Equations, start: Start) -> tuple[Float, None]:
    """The weights (G, O, d), each row scaled and its bias (the last of d, where `free`) fitted, by least squares."""
    found, free = np.where(start.keep, start.pruned, 0.0), start.free
    inputs = found.shape[2] - free
    lines = equations.lines(found, free)
    if not free:
        scale = np.divide(lines.products, lines.squares, out=np.ones_like(lines.squares), where=lines.squares > 0)
        found[..., :inputs] *= scale[..., None]
        return found, None
    spread = lines.squares - lines.sums**2 / lines.count
    together = lines.products - lines.sums * lines.wanted / lines.count
    scale = np.divide(together, spread, out=np.ones_like(spread), where=spread > 1e-6 * np.abs(lines.squares))
    found[..., :inputs] *= scale[..., None]
    found[..., -1] = (lines.wanted - scale * lines.sums) / lines.count
    return found, None
