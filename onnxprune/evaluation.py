"""How well a model does its task, measured through a function that runs it: nothing here knows the runtime.

An evaluation is asked for as

1. a file of samples with labels (see `data`): the share of samples whose largest output is at their label, `top1`;
2. `module:function`, importable from the working directory: `function(run)` returns a number or a dict of numbers,
   where `run` takes a dict of input arrays and returns the dict of output arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from onnxprune.data import Array, InputLike, Samples, load, load_function, names_function
from onnxprune.errors import OnnxPruneError, UsageError

__all__ = ["Evaluate", "Run", "evaluation", "top1", "top1_of"]

Run: TypeAlias = Callable[[Mapping[str, Array]], Mapping[str, Any]]
Evaluate: TypeAlias = Callable[[Run], dict[str, float]]

BATCH = 64


def top1(outputs: Array, labels: Array) -> float:
    """The share of rows of `outputs` (samples x classes) whose largest value is at their label (0 to 1).

    Axes after the first are taken as one, so that samples x classes x 1 x 1 is fine. UsageError: labels that are not
    one class number for each row.
    """
    if labels.shape != (len(outputs),) or labels.dtype.kind not in "iu":
        raise UsageError(
            f"labels: expected {len(outputs)} class numbers, one for each sample, found shape {labels.shape} "
            f"of {labels.dtype}"
        )
    scores = outputs.reshape(len(outputs), -1)
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < scores.shape[1]:
        raise UsageError(f"labels: expected classes 0 to {scores.shape[1] - 1}, found {labels.min()} to {labels.max()}")
    return float(np.mean(scores.argmax(axis=1) == labels))


def top1_of(run: Run, samples: Samples) -> float:
    """`top1` of the model's first output over all samples; UsageError where that has no row for each sample."""
    labels = _labels(samples)
    rows = [np.asarray(next(iter(run(feed).values()))) for feed in samples.batches(BATCH)]
    if any(row.ndim < 2 or row.dtype.kind not in "fiu" for row in rows):
        found = f"shape {rows[0].shape} of {rows[0].dtype}"
        raise UsageError(f"top1 expected a first output of samples x classes, found {found}; give a module:function")
    return top1(np.concatenate(rows)[: len(samples)], labels)


def _labels(samples: Samples) -> Array:
    if samples.labels is None:
        raise UsageError(f"{samples.source}: no array 'labels'; expected the class number of each sample")
    return samples.labels


def evaluation(source: str, inputs: Sequence[InputLike], preprocess: Path | None = None) -> Evaluate:
    """The evaluation that `source` asks for: called with a model's `run`, it returns its metrics by name.

    UsageError: what `data.load` refuses, samples without labels, a function that fails or returns no number.
    """
    if names_function(source):
        return _of_function(source)
    samples = load(source, inputs, preprocess)
    _labels(samples)
    return lambda run: {"top1": top1_of(run, samples)}


def _of_function(source: str) -> Evaluate:
    function = load_function(source)
    name = source.rpartition(":")[2]

    def evaluate(run: Run) -> dict[str, float]:
        try:
            result = function(run)
        except OnnxPruneError:
            raise
        except Exception as error:  # the function is the user's: whatever it raises is told, with its cause
            raise UsageError(f"{source}: failed: {type(error).__name__}: {error}") from error
        metrics = dict(result) if isinstance(result, Mapping) else {name: result}
        try:
            return {str(key): float(value) for key, value in metrics.items()}
        except (TypeError, ValueError) as error:
            raise UsageError(f"{source}: expected a number or a dict of numbers, found {result!r}") from error

    return evaluate
