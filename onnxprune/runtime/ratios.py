"""Medians of ratios with an interval that counts the sessions, not only the rounds, as chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Samples", "interval", "median_ratio"]

Samples: TypeAlias = Sequence[npt.NDArray[np.float64]]
"""One vector per session, of one time per round."""

_RESAMPLES = 1000


def median_ratio(numerator: Samples, denominator: Samples) -> float:
    """The median over all rounds of the ratio of the two times taken in the same round."""
    return float(np.median(np.concatenate([a / b for a, b in zip(numerator, denominator, strict=True)])))


def interval(numerator: Samples, denominator: Samples, seed: int = 0, confidence: float = 0.95) -> tuple[float, float]:
    """The bootstrap confidence interval of `median_ratio`.

    Sessions are drawn with replacement, then rounds within each: two sessions of one model differ by more than the
    rounds of one session show, and an interval that drew rounds alone would be too narrow.
    """
    generator = np.random.default_rng(seed)
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    medians = np.empty(_RESAMPLES)
    for i in range(_RESAMPLES):
        drawn = [ratios[s] for s in generator.integers(0, len(ratios), len(ratios))]
        medians[i] = np.median(np.concatenate([r[generator.integers(0, len(r), len(r))] for r in drawn]))
    outside = (1 - confidence) / 2
    low, high = np.quantile(medians, [outside, 1 - outside])
    return float(low), float(high)
