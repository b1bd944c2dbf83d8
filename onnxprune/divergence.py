"""How far a model's outputs move when indices are damped, on samples: one session, any number of questions.

What "far" means follows from the outputs, and `Outputs.measure` says which it is:

1. `KL`: the first float output with two or three axes, the last of two indices at least, is taken for scores of
   classes or tokens; the divergence is the mean Kullback-Leibler divergence from the original's. Rows that are
   probabilities already are taken as they are.
2. `relative`: otherwise, the root of the mean over samples of the squared change, over the mean squared output, of
   all float outputs.

`losses` is what slopes are taken of. With labels, and scores as in case 1, it is the cross-entropy of the label.
Without labels, one is drawn for each sample from the original's own scores; the mean squared slope is then the
Fisher information. In case 2 it is the product of the outputs with random signs, whose mean squared slope is that of
the outputs themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.data import Samples
from onnxprune.dependency import Analysis
from onnxprune.dimensions import Vector
from onnxprune.errors import UsageError
from onnxprune.gating import Gated, gate
from onnxprune.portions import there
from onnxprune.runtime.session import Options, Session
from onnxprune.unexplained import unexplained
from onnxprune.watching import Watch, nobody

__all__ = ["Divergence", "divergence_of"]

Array: TypeAlias = npt.NDArray[Any]
Run: TypeAlias = Callable[[Mapping[str, Array]], Mapping[str, Any]]
BATCH = 64


def divergence_of(
    analysis: Analysis,
    samples: Samples,
    *,
    most: int = 128,
    threads: int = 1,
    seed: int = 0,
    watch: Watch | None = None,
) -> Divergence:
    """The divergence of the model on at most `most` of the samples, chosen by `seed`.

    The model runs in this process; `UsageError` where it has no float output to compare.
    """
    gated = gate(analysis)
    session = Session(gated.model.to_bytes(), Options(threads=threads))
    return Divergence(gated, session, samples.take(most, seed), there(analysis, BATCH), seed, watch or nobody)


@dataclass(frozen=True)
class _Scores:
    """Rows of scores, as log-probabilities of shape (samples, rows of each, classes)."""

    logarithms: Array

    @staticmethod
    def of(values: Array, probabilities: bool) -> _Scores:
        values = np.asarray(values, np.float64).reshape(len(values), -1, values.shape[-1])
        if probabilities:
            return _Scores(np.log(np.maximum(values, 1e-12)))
        shifted = values - values.max(axis=-1, keepdims=True)
        return _Scores(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))

    @property
    def centred(self) -> Array:
        """The logarithms around the mean of their row, which no constant that is added to scores changes."""
        return np.asarray(self.logarithms - self.logarithms.mean(axis=-1, keepdims=True))


class Divergence:
    """A function from gates to how far the outputs are from those without gates; `measure` says in which sense.

    `runs` counts how often the samples, or a part of them, were run.
    """

    def __init__(self, gated: Gated, session: Session, samples: Samples, batch: int, seed: int, watch: Watch) -> None:
        self._gated, self._session, self._samples, self._watch = gated, session, samples, watch
        self._batch = batch
        self.runs = 0
        self._before = self._outputs({})
        floats = [name for name, array in self._before.items() if array.dtype.kind == "f" and array.size]
        if not floats:
            raise UsageError("the model has no float output, so nothing can be said of how far it moves")
        self._scores = next((name for name in floats if _are_scores(self._before[name])), None)
        self._floats = floats
        self.measure = "relative" if self._scores is None else "KL"
        self._probabilities = self._scores is not None and _are_probabilities(self._before[self._scores])
        self._labels = self._classes(np.random.default_rng(seed))
        signs = np.random.default_rng([seed, 1])
        self._directions = {name: signs.choice((-1.0, 1.0), size=self._before[name].shape) for name in floats}

    @property
    def gated(self) -> frozenset[int]:
        """The atoms whose gates have an effect."""
        return self._gated.gated

    def __call__(self, gates: Mapping[int, Vector]) -> float:
        """Run all samples with these gates; a group without any is left as it is."""
        return self._mean(self.each(gates))

    @property
    def feeds(self) -> list[dict[str, Array]]:
        """The samples in the batches, and the order, in which another model's `run` is asked for them."""
        return list(replace(self._samples, labels=None).batches(self._batch))

    def of(self, run: Run) -> float:
        """The divergence of another model, with the same inputs and outputs."""
        return self._mean(self._each(self._collected(run, slice(None))))

    def moved(self, run: Run) -> float:
        """How far the scores of another model are from the original's, each row around its mean: the root of the summed
        squared differences over that of the squared scores; what `of` says, where there are no scores.

        A few rows of which the other model is sure and wrong make up most of a mean KL divergence, and another draw
        has others; this is told from the same samples with a fraction of that error.
        """
        after = self._collected(run, slice(None))
        if self._scores is None:
            return self._mean(self._each(after))
        before, found = (_Scores.of(x[self._scores], self._probabilities).centred for x in (self._before, after))
        size = float(np.square(before).sum()) or 1.0
        return float(np.sqrt(np.square(found - before).sum() / size))

    def unexplained(self, run: Run) -> float:
        """The share of the outputs' variance that no linear map of another model's outputs predicts; see there.

        Of scores, over all their rows; otherwise the mean over float outputs, with a row for each sample.
        """
        after = self._collected(run, slice(None))
        names = self._floats if self._scores is None else [self._scores]
        shares = []
        for name in names:
            width = self._before[name][0].size if self._scores is None else self._before[name].shape[-1]
            shares.append(unexplained(*(x[name].reshape(-1, width) for x in (self._before, after))))
        return sum(shares) / len(shares)

    def run(self, gates: Mapping[int, Vector], feed: Mapping[str, Array]) -> Mapping[str, Any]:
        """The outputs of the model with these gates, on any input."""
        return self._session.run({**feed, **self._gated.feeds(gates)})

    def each(self, gates: Mapping[int, Vector]) -> Vector:
        """The divergence of every sample; squared, in case 2."""
        return self._each(self._outputs(gates))

    def _mean(self, each: Vector) -> float:
        mean = float(each.mean())
        return mean if self._scores is not None else mean**0.5

    def _each(self, after: Mapping[str, Array]) -> Vector:
        if self._scores is not None:
            p, q = (_Scores.of(x[self._scores], self._probabilities).logarithms for x in (self._before, after))
            return np.asarray(np.sum(np.exp(p) * (p - q), axis=-1).mean(axis=1))
        total = np.zeros(len(self._samples))
        for name in self._floats:
            before = np.asarray(self._before[name], np.float64)
            change = np.square(after[name] - before).reshape(len(before), -1).mean(axis=1)
            size = float(np.square(before).mean()) or 1.0
            total += change / size / len(self._floats)
        return total

    def __len__(self) -> int:
        return len(self._samples)

    def losses(self, gates: Mapping[int, Vector], part: slice = slice(None)) -> Vector:
        """The loss of every sample of a part, as above."""
        after = self._outputs(gates, part)
        if self._scores is not None:
            rows = _Scores.of(after[self._scores], self._probabilities).logarithms
            chosen = np.take_along_axis(rows, self._labels[part][:, :, None], axis=-1)[:, :, 0]
            return np.asarray(-chosen.sum(axis=1))
        total = np.zeros(len(range(len(self))[part]))
        for name in self._floats:
            before = np.asarray(self._before[name], np.float64)
            moved = (after[name] - before[part]) * self._directions[name][part]
            scale = float(np.square(before).mean()) ** 0.5 or 1.0
            total += moved.reshape(len(moved), -1).sum(axis=1) / scale
        return total

    def _classes(self, generator: np.random.Generator) -> npt.NDArray[np.intp]:
        """The class of every row of scores: the label where there is one, else drawn from the original's scores."""
        if self._scores is None:
            return np.zeros((0, 0), np.intp)
        rows = _Scores.of(self._before[self._scores], self._probabilities).logarithms
        labels = self._samples.labels
        fits = labels is not None and labels.dtype.kind in "iu" and labels.size == rows.shape[0] * rows.shape[1]
        if labels is not None and fits and 0 <= int(labels.min()) <= int(labels.max()) < rows.shape[2]:
            return np.asarray(labels.reshape(rows.shape[:2]), np.intp)
        chances = np.cumsum(np.exp(rows), axis=-1)
        drawn = generator.random((*rows.shape[:2], 1)) * chances[..., -1:]
        return np.asarray(np.minimum((chances < drawn).sum(axis=-1), rows.shape[2] - 1))

    def _outputs(self, gates: Mapping[int, Vector], part: slice = slice(None)) -> dict[str, Array]:
        """Every array that the model gives, with one row for each sample of a part.

        An output whose first axis is not the samples' is one row, of the batch, and repeated for all of its samples.
        """
        extra = self._gated.feeds(gates)
        return self._collected(lambda feed: self._session.run({**feed, **extra}), part)

    def _collected(self, run: Run, part: slice) -> dict[str, Array]:
        self.runs += 1
        self._watch(f"run the model with indices damped (run {self.runs})", 0, 0)
        found: dict[str, list[Array]] = {}
        samples = self._samples
        arrays = {name: array[part] for name, array in samples.arrays.items()}
        chosen = replace(samples, arrays=arrays, labels=None)
        for feed in chosen.batches(self._batch):
            count = len(next(iter(feed.values())))
            for name, value in run(feed).items():
                if isinstance(value, np.ndarray):
                    whole = value.ndim == 0 or len(value) != count
                    found.setdefault(name, []).append(np.broadcast_to(value, (count, *value.shape)) if whole else value)
        made = {}
        for name, parts in found.items():
            if len({part.shape[1:] for part in parts}) == 1:
                made[name] = np.concatenate(parts)[: len(chosen)]
        return made


def _are_scores(values: Array) -> bool:
    return values.ndim in (2, 3) and values.shape[-1] > 1


def _are_probabilities(values: Array) -> bool:
    return bool((values >= 0).all() and np.abs(values.sum(axis=-1, dtype=np.float64) - 1).max() < 1e-3)
