"""Every group keeps one common fraction, times a weight of its own; the largest fraction that meets the targets."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from onnxprune.allocators.landing import Descent

__all__ = ["keep_in_proportion"]

HALVINGS = 40  # of the interval in which the common fraction lies


def keep_in_proportion(descent: Descent, weights: Mapping[int, float]) -> None:
    """Move every group to `fraction * weights[atom]` of its size, rounded up, whole at most; then land on the targets.

    The fraction is found by bisection. As groups of one size jump together, what is left below the targets is given
    back step by step, first to the groups that keep least for their weight. Weights are above 0.
    """

    def keep(fraction: float) -> bool:
        for candidate in descent.candidates:
            share = min(1.0, fraction * weights[candidate.atom])
            kept = max(ceil(candidate.size * share), candidate.minimum)
            descent.move(candidate, candidate.rounded(kept, descent.steps[candidate.atom]))
        return descent.fits

    while not keep(0.0) and descent.refine():
        pass
    if not descent.fits:
        return
    below, above = 0.0, 1 / min(weights.values(), default=1.0)
    if not keep(above):
        for _ in range(HALVINGS):
            middle = (below + above) / 2
            below, above = (middle, above) if keep(middle) else (below, middle)
        keep(below)
    descent.fill(lambda candidate, now, kept, change: now / (candidate.size * weights[candidate.atom]))
    descent.settle()
