"""All requests answered in as few passes over the samples as memory allows.

Each pass is the original model with other outputs, run in ONNX Runtime batch by batch. What a batch gives is a sum over
its samples, so sums of batches are added up in float64; where a model of fixed batch size makes the last sample repeat,
what the repetitions give is taken off again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnxprune.calibration.cache import Cache, fingerprint, samples_print
from onnxprune.calibration.graph import Graph, Unanswerable
from onnxprune.calibration.rows import Bounds
from onnxprune.calibration.taps import Merge, Tap, tap_of
from onnxprune.data import Samples
from onnxprune.dependency import Analysis
from onnxprune.errors import PassFailed
from onnxprune.model import Array, Model, Shapes, infer, symbols
from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.isolated import Isolated
from onnxprune.runtime.session import Options, Session
from onnxprune.statistics import Request, Statistics
from onnxprune.watching import Watch, nobody

__all__ = ["collect"]

ROWS = 1 << 15  # rows of a Gram matrix, over all samples; if there are many samples, fewer rows of each count ...
FEWEST_ROWS = 256  # ... but not less than these of one
HELD = 512 << 20  # bytes that the outputs of one pass may have
PASSING = 1 << 30  # bytes that one batch may need
LARGEST_BATCH = 64
WHAT = "statistics of activations"


def collect(
    analysis: Analysis,
    samples: Samples,
    requests: Iterable[Request],
    *,
    threads: int = 1,
    batch: int | None = None,
    watch: Watch | None = None,
    seed: int = 0,
    cache: Cache | None = None,
) -> Statistics:
    """Answer all requests from runs of the original model on `samples`.

    `batch` is how many samples a run takes, by default as many as memory allows; `seed` chooses the rows of Gram
    matrices where not all count. What `cache` holds is not computed again. Errors: `PassFailed` when the original does
    not run on the samples.
    """
    wanted = list(dict.fromkeys(requests))
    if not wanted:
        return Statistics(samples=len(samples))
    shapes, example = _shapes(analysis, samples, batch)
    bounds = Bounds(example, samples.fixed_batch == 1, max(FEWEST_ROWS, -(-ROWS // len(samples))), seed)
    graph = Graph(analysis.model, shapes)
    taps: dict[Request, Tap] = {}
    unanswered: dict[Request, str] = {}
    for request in wanted:
        try:
            taps[request] = tap_of(request, analysis, graph, bounds)
        except Unanswerable as why:
            unanswered[request] = str(why)
    different = {tap.key: tap for tap in taps.values()}
    stored = _Stored(cache, analysis.model, samples) if cache is not None else None
    found = {
        key: tap.answer(kept) for key, tap in different.items() if stored and (kept := stored.get(tap)) is not None
    }
    passes = _passes([tap for key, tap in different.items() if key not in found])
    if passes:
        size = _batch(analysis, shapes, samples, passes, batch, example, threads)
        for tap, merged in _merged(analysis.model, shapes, samples, passes, size, threads, watch or nobody):
            found[tap.key] = tap.answer(merged)
            if stored is not None:
                stored.put(tap, merged)
    answers = {request: tap.finish(found[tap.key]) for request, tap in taps.items()}
    return Statistics(answers, unanswered, len(samples))


def _shapes(analysis: Analysis, samples: Samples, batch: int | None) -> tuple[Shapes, int]:
    """Shapes for the sizes that the samples have, and the batch that they are for."""
    known, sizes = analysis.shapes.sizes, {}
    for name, (tensor, axis) in symbols(analysis.model).items():
        sizes[name] = known[name] if axis == 0 else samples.arrays[tensor].shape[axis]
    free = [known[name] for name, (_, axis) in symbols(analysis.model).items() if axis == 0]
    shapes = analysis.shapes if sizes == known else infer(analysis.model, sizes, analysis.prober)
    return shapes, samples.fixed_batch or (free[0] if free else 1)


def _passes(taps: Sequence[Tap]) -> list[list[Tap]]:
    """The taps in groups whose outputs are small enough together; those that want few samples are by themselves."""
    passes: dict[object, list[list[Tap]]] = {}
    for tap in taps:
        row = passes.setdefault(tap.samples, [[]])
        if row[-1] and sum(other.held for other in row[-1]) + tap.held > HELD:
            row.append([])
        row[-1].append(tap)
    return [group for row in passes.values() for group in row]


@dataclass
class _Merged:
    """The outputs of one tap, merged so far."""

    values: dict[str, Any] = field(default_factory=dict)

    def take(self, what: str, how: Merge, array: Array, share: float, rows: int) -> None:
        """Add what one run gave; `share` is the part of it that is added, `rows` how many samples it had."""
        before = self.values.get(what)
        if how is Merge.ROWS:
            self.values.setdefault(what, []).append(array[:rows])
        elif how is Merge.LARGEST:
            self.values[what] = array if before is None else np.maximum(before, array)
        elif before is None:
            self.values[what] = np.array(array, np.float64)
        else:
            before += array if share == 1 else array * np.float64(share)

    def whole(self) -> Mapping[str, Array]:
        """The merged outputs by name."""
        return {k: np.concatenate(v) if isinstance(v, list) else np.asarray(v) for k, v in self.values.items()}


class _Stored:
    """What a cache holds of one model and its samples."""

    def __init__(self, cache: Cache, model: Model, samples: Samples) -> None:
        self._cache, self._of = cache, (model.digest, samples_print(samples))

    def get(self, tap: Tap) -> Mapping[str, Array] | None:
        """The merged outputs of a tap, where they are stored."""
        return self._cache.get(self._key(tap))

    def put(self, tap: Tap, merged: Mapping[str, Array]) -> None:
        """Store the merged outputs of a tap."""
        self._cache.put(self._key(tap), merged)
        self._cache.trim()

    def _key(self, tap: Tap) -> str:
        return fingerprint(*self._of, repr(tap.key))


def _batch(
    analysis: Analysis,
    shapes: Shapes,
    samples: Samples,
    passes: Sequence[Sequence[Tap]],
    asked: int | None,
    example: int,
    threads: int,
) -> int:
    """How many samples a run takes: as the model says, as was asked for, or as memory allows, if the model takes it."""
    numbers = sum(int(np.prod(shape)) for shape in shapes.shape.values() if shape is not None)
    need = max(4 * numbers // example + sum(tap.passing for tap in group) for group in passes)
    size = samples.fixed_batch or asked or max(1, min(LARGEST_BATCH, PASSING // max(need, 1), len(samples)))
    return _runs(analysis.model, samples, size, threads)


def _merged(
    model: Model,
    shapes: Shapes,
    samples: Samples,
    passes: Sequence[Sequence[Tap]],
    size: int,
    threads: int,
    watch: Watch,
) -> Iterator[tuple[Tap, Mapping[str, Array]]]:
    """Every tap with its outputs, merged over all samples."""
    runs = [list(_feeds(_first(samples, group[0].samples), size)) for group in passes]
    total, done = sum(map(len, runs)), 0
    for group, feeds in zip(passes, runs, strict=True):
        graph = Graph(model, shapes)
        outputs = [(tap, tap.add(graph), _Merged()) for tap in group]
        session = _session(graph.done(), threads)
        for feed, share, rows in feeds:
            watch(WHAT, done, total)
            done += 1
            results = _run(session, feed)
            for _, named, merged in outputs:
                for what, (name, how) in named.items():
                    merged.take(what, how, np.asarray(results[name]), share, rows)
        for tap, _, merged in outputs:
            yield tap, merged.whole()
    watch(WHAT, total, total)


def _first(samples: Samples, count: int | None) -> Samples:
    if count is None or count >= len(samples):
        return samples
    arrays = {name: array[:count] for name, array in samples.arrays.items()}
    return replace(samples, arrays=arrays, labels=None)


def _feeds(samples: Samples, size: int) -> Iterator[tuple[dict[str, Array], float, int]]:
    """Each feed, the part of its sums that counts, and how many of its rows do.

    The last sample repeats in the last feed of a fixed batch: a feed of that sample alone takes the repetitions off.
    """
    left = len(samples)
    feed: dict[str, Array] = {}
    for feed in samples.batches(size):
        yield feed, 1.0, min(left, size)
        left -= size
    if samples.fixed_batch is not None and left < 0:
        last = {name: np.repeat(array[-1:], size, axis=0) for name, array in feed.items()}
        yield last, left / size, 0


def _runs(model: Model, samples: Samples, size: int, threads: int) -> int:
    """The batch size that the original runs with, tried in a child process: what was asked for, or 1."""
    reason = ""
    with Isolated(threads=threads) as process:
        for tried in dict.fromkeys((size,) if samples.fixed_batch else (size, 1)):
            try:
                process.run(model.to_bytes(), [next(iter(samples.batches(tried)))])
            except RunFailed as failure:
                reason = reason or failure.reason
            else:
                return tried
    raise PassFailed(f"the original model does not run on {samples.source}: {reason}")


def _session(model: Model, threads: int) -> Session:
    try:
        return Session(model.to_bytes(), Options(threads=threads))
    except RunFailed as failure:
        raise PassFailed(f"ONNX Runtime does not load the model with statistics added: {failure.reason}") from failure


def _run(session: Session, feed: Mapping[str, Array]) -> Mapping[str, Any]:
    try:
        return session.run(feed)
    except RunFailed as failure:
        raise PassFailed(f"the model with statistics added does not run: {failure.reason}") from failure
