"""Several models side by side: latency with a confidence interval, memory, size, and time per layer on request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from onnxprune.calibration import Cache
from onnxprune.data import Samples
from onnxprune.errors import PassFailed, UsageError
from onnxprune.jsontext import json_text
from onnxprune.model import Array, Model, infer, symbols
from onnxprune.prediction import predictions
from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.isolated import Isolated
from onnxprune.runtime.layers import LayerTimes, layer_times
from onnxprune.runtime.machine import this_machine
from onnxprune.runtime.memory import Memory, peak_memory
from onnxprune.runtime.timing import Timing, measure
from onnxprune.trials import one_feed
from onnxprune.weights import parameters

__all__ = ["SCHEMA_VERSION", "Bench", "BenchRow", "bench"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class BenchRow:
    """One model: bytes on disk, parameters, median latencies in milliseconds, speed-up over the first model.

    `latency_ms` is processor time with one thread on the CPU provider, else wall time (see `Bench.clock`).
    `speedup` stands without a claim where `significant` is false; `why` says what the interval was held against.
    `predicted_ms` is what the latency model of the first model says, where that was asked for and can be said.
    """

    model: str
    bytes: int
    params: int
    latency_ms: float
    wall_ms: float
    p10_ms: float
    p90_ms: float
    speedup: float
    speedup_ci: tuple[float, float]
    significant: bool
    why: str
    peak_memory: int | None
    predicted_ms: float | None = None


@dataclass(frozen=True)
class Bench:
    """Rows in the order of the models, the first being the baseline, and how they were measured.

    `layers`, in the same order, is empty unless times per layer were asked for.
    """

    rows: tuple[BenchRow, ...]
    clock: str
    control_ratio: float
    control_spread: tuple[float, float]
    contention: float | None
    rounds: int
    sessions: int
    threads: int
    provider: str
    machine: str
    layers: tuple[LayerTimes, ...] = ()

    def to_json(self) -> str:
        """The result as JSON."""
        return json_text({"schema_version": SCHEMA_VERSION, **asdict(self)})


def bench(
    models: Sequence[Model],
    *,
    rounds: int = 40,
    sessions: int = 3,
    threads: int = 1,
    provider: str = "CPUExecutionProvider",
    seed: int = 0,
    seconds: float | None = None,
    batch: int = 1,
    memory: bool = True,
    per_layer: bool = False,
    predict: bool = False,
    samples: Samples | None = None,
    sizes: Mapping[str, int] | None = None,
    on_round: Callable[[int, int], None] | None = None,
    watch: Callable[[str, int, int], None] | None = None,
) -> Bench:
    """Measure `models` against the first one, interleaved in this process, on one input of `batch` samples.

    `sizes` are example sizes of symbolic dimensions by name, each for the models that have it; `seconds` ends the
    timing early. With `predict`, the latency of the first model and of those pruned from it is predicted, too; `watch`
    is told how far the measurements for that are. Errors: `PassFailed` where a model does not run, `UsageError` for a
    number that is too small or a name that is a dimension of no model.
    """
    for name, value in (("rounds", rounds), ("sessions", sessions), ("threads", threads), ("batch", batch)):
        if value < 1:
            raise UsageError(f"{name} is {value}: expected at least 1")
    if not models:
        raise UsageError("no model to measure: give at least one")
    known = {name for model in models for name in symbols(model)}
    for name in sizes or {}:
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise UsageError(f"no model has a symbolic dimension {name!r}; there are: {there}")
    feeds = [_feed(model, sizes, samples, seed, batch) for model in models]
    try:
        timing = measure(
            [model.to_bytes() for model in models],
            feeds,
            rounds=rounds,
            sessions=min(sessions, rounds),
            threads=threads,
            seed=seed,
            seconds=seconds,
            provider=provider,
            on_round=on_round,
        )
        predicted: list[float | None] = [None] * len(models)
        if predict:
            own = {name: size for name, size in (sizes or {}).items() if name in symbols(models[0])}
            predicted = predictions(models, feeds[0], own, threads=threads, provider=provider, seed=seed, watch=watch,
                                    cache=Cache.of_user())  # fmt: skip
        peaks: list[Memory | None] = [
            peak_memory(m.to_bytes(), f, threads=threads, provider=provider) if memory else None
            for m, f in zip(models, feeds, strict=True)
        ]
        layers = []
        for model, feed in zip(models, feeds, strict=True) if per_layer else ():
            named = model.with_node_names()
            layers.append(layer_times(named.to_bytes(), named.nodes, feed, threads=threads, provider=provider))
    except RunFailed as failure:
        raise PassFailed(_which(models, feeds, threads, provider) or failure.reason) from failure
    rows = tuple(_row(model, timing, k, peaks[k], predicted[k]) for k, model in enumerate(models))
    return Bench(
        rows,
        timing.clock,
        timing.control.ratio,
        timing.control.spread,
        timing.contention,
        timing.rounds,
        timing.sessions,
        threads,
        provider,
        str(this_machine()),
        tuple(layers),
    )


def _which(models: Sequence[Model], feeds: Sequence[Mapping[str, Array]], threads: int, provider: str) -> str:
    """Which of the models does not run, and what the runtime says of it."""
    with Isolated(threads, providers=(provider,)) as process:
        for model, feed in zip(models, feeds, strict=True):
            try:
                process.run(model.to_bytes(), [feed])
            except RunFailed as failure:
                shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feed.items())
                return f"{model.source!r} does not run in ONNX Runtime ({provider}) on {shapes}: {failure.reason}"
    return ""


def _feed(
    model: Model, sizes: Mapping[str, int] | None, samples: Samples | None, seed: int, batch: int
) -> dict[str, Array]:
    own = {name: size for name, size in (sizes or {}).items() if name in symbols(model)}
    return one_feed(model, infer(model, own).sizes, samples, seed, batch)


def _row(model: Model, timing: Timing, index: int, peak: Memory | None, predicted: float | None) -> BenchRow:
    own = timing.models[index]
    pair = next((p for p in timing.pairs if p.index == index), None)
    return BenchRow(
        model.source,
        model.size_bytes,
        parameters(model),
        own.latency_ms,
        own.wall_ms,
        own.p10_ms,
        own.p90_ms,
        1.0 if pair is None else pair.speedup,
        (1.0, 1.0) if pair is None else pair.speedup_ci,
        False if pair is None else pair.significant,
        "the baseline" if pair is None else pair.why,
        None if peak is None else peak.peak,
        predicted,
    )
