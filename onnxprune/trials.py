"""What a model is tried on: random inputs of several sizes, and other sizes where it does not run on those.

Sizes that are right for an analysis need not be sizes that the model takes: a window may not fit, a reflection may ask
for a longer signal, two axes without names may have to be equal. So there is a ladder of sizes to try in turn. A
*switch* is an input of one number that the graph compares with constants, such as a sampling rate: each side of the
comparison gets an input of its own, for it may be a model of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from onnxprune.data import Samples
from onnxprune.model import Array, Model, example_sizes, input_shapes, switches, symbols, vocabulary
from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.feeds import InputSpec, random_feeds

__all__ = ["BATCHES", "Feed", "Tried", "batch_of", "feeds_for", "one_feed", "sizes_of", "tried"]

BATCHES = (1, 3)
Feed: TypeAlias = Mapping[str, Array]


def feeds_for(
    model: Model,
    sizes: Mapping[str, int],
    samples: Samples | None = None,
    seed: int = 0,
    batches: Sequence[int] = BATCHES,
    others: Mapping[str, int] | None = None,
) -> list[dict[str, Array]]:
    """Inputs to compare two models on: random ones for each batch size (one, where the batch is fixed), and samples.

    `sizes` gives example sizes of symbolic dimensions other than the batch. `others` gives a second set, which one
    more input takes: what is right for one length alone is wrong. So does each position of a switch.
    """
    free = [name for name, (_, axis) in symbols(model).items() if axis == 0]
    turns = tuple(batches) if free else tuple(batches[:1])
    chosen = [{**sizes, **dict.fromkeys(free, batch)} for batch in turns]
    if others is not None:
        chosen.append({**others, **dict.fromkeys(free, turns[0])})
    feeds = _random(model, chosen, seed)
    for setting in _settings(model):
        feeds.extend(_random(model, chosen[:1], seed + len(feeds), setting))
    if samples is not None:
        feeds.extend(next(iter(samples.take(batch, seed).batches(batch))) for batch in turns)
    return feeds


def one_feed(
    model: Model, sizes: Mapping[str, int], samples: Samples | None = None, seed: int = 0, batch: int = 1
) -> dict[str, Array]:
    """One input, to measure on: samples where there are any, else random numbers."""
    return feeds_for(model, sizes, samples, seed, batches=(batch,))[0 if samples is None else -1]


def sizes_of(model: Model, feed: Feed) -> dict[str, int]:
    """The sizes that symbolic dimensions have in an input."""
    return {name: int(feed[tensor].shape[axis]) for name, (tensor, axis) in symbols(model).items()}


@dataclass(frozen=True)
class Tried:
    """The inputs on which a model runs, and a sentence for everything that was tried and could not be had.

    Where it runs on none, `reason` is what the runtime said of the first.
    """

    feeds: list[Feed]
    left_out: tuple[str, ...] = ()
    reason: str = ""


def tried(model: Model, feeds: Sequence[Feed], run: Callable[[Feed], object], seed: int = 0) -> Tried:
    """Leave out the inputs on which `run` fails; what is then missing is looked for up the ladder of sizes."""
    kept, refused = _sorted_out(feeds, run)
    notes: dict[str, None] = {}
    higher = _higher(model, run, seed, {}) if refused and refused[0][0] is feeds[0] else []
    if not kept and not higher:
        return Tried([], (), refused[0][1])
    if higher:
        asked, had = _listed(sizes_of(model, feeds[0])), _listed(sizes_of(model, higher[0]))
        notes[f"the original does not run with {asked}, so it was verified with {had}: {refused[0][1]}"] = None
        kept = [*higher, *kept]
    for feed, reason in refused:
        if not higher and not any(sizes_of(model, feed) == sizes_of(model, other) for other in kept):
            what = f"an input of batch {batch_of(feed)}"
            if any(batch_of(feed) == batch_of(other) for other in kept):
                what = f"inputs with {_listed(sizes_of(model, feed))}"
            notes[f"the original does not run on {what}, so nothing was verified there: {reason}"] = None
    for setting in _settings(model):
        if not any(_has(feed, setting) for feed in kept):
            found = _higher(model, run, seed, setting)
            kept = [*kept, *found]
            if not found:
                notes[f"the original runs on no input that was tried with {_listed(setting)}, so nothing was verified "
                      "there"] = None  # fmt: skip
    return Tried(kept, tuple(notes))


def batch_of(feed: Feed) -> int:
    """The size of the first axis of the first input."""
    first = next(iter(feed.values()), None)
    return int(first.shape[0]) if first is not None and first.ndim else 1


def _sorted_out(feeds: Sequence[Feed], run: Callable[[Feed], object]) -> tuple[list[Feed], list[tuple[Feed, str]]]:
    kept, refused = [], []
    for feed in feeds:
        try:
            run(feed)
            kept.append(feed)
        except RunFailed as failure:
            refused.append((feed, failure.reason))
    return kept, refused


def _higher(model: Model, run: Callable[[Feed], object], seed: int, setting: Mapping[str, int]) -> list[Feed]:
    """The inputs of the first rung on whose first input the model runs."""
    for rung in example_sizes(model, BATCHES):
        first, *more = _random(model, rung, seed, setting)
        kept, _ = _sorted_out([first], run)
        if kept:
            return [*kept, *_sorted_out(more, run)[0]]
    return []


def _random(
    model: Model, chosen: Sequence[Mapping[str, int]], seed: int, setting: Mapping[str, int] | None = None
) -> list[dict[str, Array]]:
    """A random input for each set of sizes, with the switches set."""
    bounds = vocabulary(model)
    feeds = []
    for turn, own in enumerate(size for k, size in enumerate(chosen) if size not in chosen[:k]):
        shapes = input_shapes(model, own)
        specs = [InputSpec(info.name, info.dtype, shapes[info.name]) for info in model.inputs]
        feed = random_feeds(specs, bounds=bounds, seed=seed + turn)
        for name, value in (setting or {}).items():
            feed[name] = np.full_like(feed[name], value)
        feeds.append(feed)
    return feeds


def _settings(model: Model) -> list[dict[str, int]]:
    return [{name: value} for name, values in switches(model).items() for value in values]


def _has(feed: Feed, setting: Mapping[str, int]) -> bool:
    return all(feed[name].item() == value for name, value in setting.items())


def _listed(values: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items()) or "the shapes that it declares"
