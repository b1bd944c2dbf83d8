"""How fast models are beside each other, and whether the difference is more than chance.

Measured blockwise by the wall, the ratio of two models has a standard deviation of 16 %; the way it is done here, under
1 %. All models run in one process and one thread. In every round each runs once, in random order, after an untimed call
that warms its caches; what is read is the processor time of the thread, which other processes disturb least. Rounds are
spread over several fresh sessions of each model, because two sessions of one model differ by 1.5 %. The first model
takes part twice: the ratio of its two arms (the control) shows what chance alone makes of 1.0.

Of two models one is called faster only if at least `MIN_ROUNDS` rounds in `MIN_SESSIONS` sessions were made, if the
effect is at least `MIN_EFFECT`, if its interval leaves out 1, and if it lies outside the control's interval.
"""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.runtime.clocks import SYSTEM, Clock, thread_time_is_fine
from onnxprune.runtime.ratios import Samples, interval, median_ratio
from onnxprune.runtime.session import CPU, Array, Options, Session

__all__ = [
    "MIN_EFFECT",
    "MIN_ROUNDS",
    "MIN_SESSIONS",
    "Arm",
    "Control",
    "ModelTiming",
    "Pair",
    "Timing",
    "interleave",
    "measure",
]

MIN_ROUNDS, MIN_SESSIONS, MIN_EFFECT = 30, 3, 0.03

_BLOCK = 1e-3
"""Seconds that one timed block lasts at least: faster models are called several times in it."""

_MOST_CALLS = 1000

Arm: TypeAlias = Callable[[], Callable[[], object]]
"""Opens a fresh session of one model and returns the function that runs it once."""


@dataclass(frozen=True, slots=True)
class ModelTiming:
    """One model's milliseconds per call: median, 10th and 90th percentile by the primary clock, median by the wall."""

    latency_ms: float
    wall_ms: float
    p10_ms: float
    p90_ms: float
    sessions: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A model against the first one. `speedup` is first / this, so above 1 this one is faster; `speedup_ci` its 95 %
    interval; `why` says in words why the difference is `significant` or is not."""

    index: int
    speedup: float
    speedup_ci: tuple[float, float]
    significant: bool
    why: str


@dataclass(frozen=True, slots=True)
class Control:
    """The first model against itself: the ratio of its two arms and the ratio's 95 % interval."""

    ratio: float
    spread: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Timing:
    """A whole measurement; `models` in the order asked for, `pairs` for every model but the first.

    `clock` is what latencies and speed-ups were read from: "cpu" (processor time of the one thread) or "wall".
    `contention` is the median of wall over processor time, 1.0 on a quiet machine; None where several threads or
    another device did the work, so that this thread's own time says nothing.
    """

    models: tuple[ModelTiming, ...]
    pairs: tuple[Pair, ...]
    control: Control
    clock: Literal["cpu", "wall"]
    contention: float | None
    rounds: int
    sessions: int
    threads: int
    provider: str
    seconds: float


def measure(
    models: Sequence[bytes | str | os.PathLike[str]],
    feeds: Mapping[str, Array] | Sequence[Mapping[str, Array]],
    *,
    rounds: int = 40,
    sessions: int = 3,
    threads: int = 1,
    seed: int = 0,
    seconds: float | None = None,
    provider: str = CPU,
    on_round: Callable[[int, int], None] | None = None,
    clock: Clock = SYSTEM,
) -> Timing:
    """The models' latencies in this process, each paired with the first; `feeds` serve all, or one mapping per model.

    `rounds` is the total over all `sessions`, rounded up to a multiple of them. After `seconds` no further round is
    begun, but every session makes at least one. With several threads, or another provider than the processor, the wall
    is read instead of processor time, and the result says so. `on_round(done, all)` is called between rounds.
    RunFailed if a model does not run.
    """
    each = [feeds] * len(models) if isinstance(feeds, Mapping) else list(feeds)
    if len(each) != len(models):
        raise ValueError(f"{len(models)} models and {len(each)} sets of feeds: give one set, or one per model")
    options = Options(threads, (provider,))
    arms = [_arm(model, feed, options) for model, feed in zip(models, each, strict=True)]
    by_cpu = threads == 1 and provider == CPU and thread_time_is_fine()
    return interleave(
        arms,
        rounds=rounds,
        sessions=sessions,
        seed=seed,
        seconds=seconds,
        by="cpu" if by_cpu else "wall",
        threads=threads,
        provider=provider,
        on_round=on_round,
        clock=clock,
    )


def _arm(model: bytes | str | os.PathLike[str], feeds: Mapping[str, Array], options: Options) -> Arm:
    def open_session() -> Callable[[], object]:
        session = Session(model, options)
        return lambda: session.run(feeds)

    return open_session


def interleave(
    arms: Sequence[Arm],
    *,
    rounds: int,
    sessions: int,
    seed: int,
    seconds: float | None = None,
    by: Literal["cpu", "wall"] = "cpu",
    threads: int = 1,
    provider: str = CPU,
    on_round: Callable[[int, int], None] | None = None,
    clock: Clock = SYSTEM,
) -> Timing:
    """The protocol itself, for anything that can be opened and called; see `measure` for the options."""
    if not arms or sessions < 1 or rounds < sessions:
        raise ValueError(f"{len(arms)} models in {rounds} rounds and {sessions} sessions: at least one round of each")
    order = np.random.default_rng(seed)
    per_session = math.ceil(rounds / sessions)
    began = clock.wall()
    cpu: list[npt.NDArray[np.float64]] = []  # per session: (rounds, arms), seconds per call
    wall: list[npt.NDArray[np.float64]] = []
    for index in range(sessions):
        until = math.inf if seconds is None else began + seconds * (index + 1) / sessions
        calls = [arm() for arm in (*arms, arms[0])]  # the last is the control
        repeats = [_calls_per_block(call, clock) for call in calls[:-1]]
        repeats.append(repeats[0])
        times: list[npt.NDArray[np.float64]] = []
        while len(times) < per_session and (not times or clock.wall() < until):
            times.append(_round(calls, repeats, order, clock))
            if on_round is not None:
                on_round(index * per_session + len(times), sessions * per_session)
        cpu.append(np.stack([t[0] for t in times]))
        wall.append(np.stack([t[1] for t in times]))
        del calls
    return _result(cpu, wall, by, threads, provider, seed, clock.wall() - began)


def _calls_per_block(call: Callable[[], object], clock: Clock) -> int:
    """How many calls make a block that is long enough to time, from the fastest of three."""
    call()
    fastest = math.inf
    for _ in range(3):
        start = clock.wall()
        call()
        fastest = min(fastest, clock.wall() - start)
    return min(_MOST_CALLS, max(1, math.ceil(_BLOCK / max(fastest, 1e-9))))


def _round(
    calls: Sequence[Callable[[], object]], repeats: Sequence[int], order: np.random.Generator, clock: Clock
) -> npt.NDArray[np.float64]:
    """Seconds per call, shape (2, arms): processor time and wall, each arm after an untimed call, in random order."""
    times = np.empty((2, len(calls)))
    collects = gc.isenabled()
    gc.disable()
    try:
        for arm in order.permutation(len(calls)):
            call, count = calls[arm], repeats[arm]
            call()
            wall, cpu = clock.wall(), clock.cpu()
            for _ in range(count):
                call()
            times[:, arm] = (clock.cpu() - cpu) / count, (clock.wall() - wall) / count
    finally:
        if collects:
            gc.enable()
    return times


def _result(
    cpu: Samples,
    wall: Samples,
    by: Literal["cpu", "wall"],
    threads: int,
    provider: str,
    seed: int,
    seconds: float,
) -> Timing:
    primary = cpu if by == "cpu" else wall
    count, rounds = primary[0].shape[1] - 1, sum(len(session) for session in primary)

    def arm(index: int) -> Samples:
        return [session[:, index] for session in primary]

    control = Control(median_ratio(arm(0), arm(count)), interval(arm(0), arm(count), seed))
    all_primary, all_wall = np.concatenate(list(primary)), np.concatenate(list(wall))
    pairs = [_pair(i, arm(0), arm(i), control, rounds, seed) for i in range(1, count)]
    contention = np.median(all_wall / np.maximum(all_primary, 1e-12)) if by == "cpu" else None
    return Timing(
        models=tuple(_model(all_primary[:, i], all_wall[:, i], len(primary)) for i in range(count)),
        pairs=tuple(pairs),
        control=control,
        clock=by,
        contention=None if contention is None else float(contention),
        rounds=rounds,
        sessions=len(primary),
        threads=threads,
        provider=provider,
        seconds=seconds,
    )


def _model(times: npt.NDArray[np.float64], wall: npt.NDArray[np.float64], sessions: int) -> ModelTiming:
    p10, median, p90 = (float(q) for q in np.quantile(times, [0.1, 0.5, 0.9]) * 1e3)
    return ModelTiming(median, float(np.median(wall)) * 1e3, p10, p90, sessions)


def _pair(index: int, first: Samples, other: Samples, control: Control, rounds: int, seed: int) -> Pair:
    speedup, between = median_ratio(first, other), interval(first, other, seed)
    reason = _no_claim(speedup, between, control, rounds, len(first))
    word = "faster" if speedup > 1 else "slower"
    return Pair(index, speedup, between, not reason, reason or f"{word} by more than chance")


def _no_claim(speedup: float, between: tuple[float, float], control: Control, rounds: int, sessions: int) -> str:
    """Why the difference may not be called one; empty if it may."""
    effect = abs(math.log(speedup))
    chance = max(abs(math.log(end)) for end in control.spread)
    if rounds < MIN_ROUNDS or sessions < MIN_SESSIONS:
        return f"{rounds} rounds in {sessions} sessions are too few; {MIN_ROUNDS} in {MIN_SESSIONS} are needed"
    if effect < math.log1p(MIN_EFFECT):
        return f"the difference is under {MIN_EFFECT:.0%}"
    if between[0] <= 1.0 <= between[1]:
        return f"the interval {between[0]:.3f} to {between[1]:.3f} holds 1"
    if effect <= chance:
        return f"the model differs from itself as much: {control.spread[0]:.3f} to {control.spread[1]:.3f}"
    return ""
