"""Everything that a criterion says it needs, gathered before it judges."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from onnxprune.calibration.cache import Cache
from onnxprune.calibration.collecting import collect
from onnxprune.criteria import Criterion, Divergence, Evidence
from onnxprune.data import Samples
from onnxprune.dependency import Analysis
from onnxprune.errors import UsageError
from onnxprune.statistics import Statistics
from onnxprune.watching import Watch

__all__ = ["Runs", "gather"]

Runs: TypeAlias = Callable[[Analysis, Samples], Divergence]
"""Makes what a criterion runs the model with (`Evidence.divergence`)."""


def gather(
    criterion: Criterion,
    analysis: Analysis,
    samples: Samples | None,
    *,
    known: Statistics | None = None,
    runs: Runs | None = None,
    threads: int = 1,
    seed: int = 0,
    watch: Watch | None = None,
    cache: Cache | None = None,
) -> Evidence:
    """The evidence for `criterion`; what of `known` was asked for is not computed again.

    Errors: `UsageError` that says what to give, when the criterion needs samples or labels and there are none, or when
    nobody can run the model for it.
    """
    requests = list(criterion.needs(analysis))
    if criterion.data == "weights" and (samples is None or not requests):
        return Evidence(analysis, known or Statistics(), seed)
    if samples is None:
        data = "data.npz with an array 'labels'" if criterion.data == "labels" else "data.npz"
        raise UsageError(
            f"the criterion {criterion.name!r} judges by what the model computes: give --calibration {data} (also "
            ".npy, a folder of images, module:function or random)"
        )
    if criterion.data == "labels" and samples.labels is None:
        raise UsageError(
            f"the criterion {criterion.name!r} needs labels, and {samples.source} has none: add an array 'labels', the "
            "class number of each sample"
        )
    if criterion.data == "runs" and runs is None:
        raise UsageError(f"the criterion {criterion.name!r} runs the model, which cannot be done here")
    if known is None or not all(known.has(request) or request in known.unanswered for request in requests):
        known = collect(analysis, samples, requests, threads=threads, seed=seed, watch=watch, cache=cache)
    divergence = runs(analysis, samples) if criterion.data == "runs" and runs is not None else None
    return Evidence(analysis, known, seed, samples.labels, divergence)
