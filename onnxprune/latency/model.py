"""How long a cut model takes, predicted from how many indices of each group stay.

1. *Table.* The model is cut at a design of widths and profiled, interleaved with the original, because a machine does
   not run at one speed: the original's own time in each group of models is the measure of the others'. For each node,
   the times at all its widths are fitted by what it moves and what it multiplies, in whole blocks (`features`). What
   runs between the nodes, mostly changes of layout, is fitted by everything that is moved.
2. *Correction.* A profiler adds time to each node, and nodes in a profile do not overlap as they do in a free run. So
   the sums of the parts are scaled to whole models, measured without a profile, by processor time, interleaved with the
   original (`runtime.timing`): a coefficient for each part.
3. *Error.* Some of the whole models take no part in step 2, and say how far off the prediction is at other widths.

The result is a sum of terms, like any other cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from onnxprune import cut
from onnxprune.allocators import Candidate
from onnxprune.analysis import Analysis
from onnxprune.calibration import Cache, fingerprint
from onnxprune.cost import Term
from onnxprune.latency.design import design
from onnxprune.latency.features import PARTS, Features
from onnxprune.latency.fitting import fitted
from onnxprune.model import Array, Model
from onnxprune.plan import Plan
from onnxprune.runtime.layers import LayerTimes, interleaved_layer_times
from onnxprune.runtime.machine import conv_block, this_machine
from onnxprune.runtime.session import CPU
from onnxprune.runtime.timing import measure
from onnxprune.watching import Watch, nobody

__all__ = ["LatencyModel", "latency_model"]

PROFILED = 16  # models whose nodes are timed, beside the original
WHOLE, HELD_OUT = 12, 3  # models that are timed as a whole; of these, those that only judge
TOGETHER = 4  # models in memory at once, beside the original
RUNS = (6, 25)  # of each profiled model, at least and at most
PROFILE_MS = 120.0  # that each profiled model should run
SESSIONS = (3, 10)  # of each whole model, at least and at most: two sessions of one model differ more than its rounds
SESSION_MS = 40.0
ROUNDS = 5  # in a session
VERSION = 4  # of what is stored

Counts = Mapping[int, int]


@dataclass(frozen=True)
class LatencyModel:
    """`terms` add up to the milliseconds of a cut model; `base_ms` is what the original was measured to take.

    `error` is the largest relative error at widths that took no part in the fit. All of it holds for `machine`, with
    one number of threads and one provider.
    """

    terms: tuple[Term, ...]
    base_ms: float
    error: float
    machine: str

    def predict(self, counts: Counts) -> float:
        """Milliseconds when `counts` of each atom stay; an absent atom is whole."""
        return sum(term.value(counts) for term in self.terms)


def latency_model(
    analysis: Analysis,
    candidates: Sequence[Candidate],
    feed: Mapping[str, Array],
    *,
    threads: int = 1,
    provider: str = CPU,
    seed: int = 0,
    watch: Watch | None = None,
    cache: Cache | None = None,
) -> LatencyModel:
    """Measure and fit; from the cache, where the same was measured on the same machine before.

    `feed` is one input of batch one. `RunFailed` where the model does not run on it.
    """
    table = _Table(analysis, feed, threads, provider, seed, watch or nobody)
    features = Features(analysis, conv_block())
    key = _key(analysis, candidates, feed, threads, provider, seed)
    stored = None if cache is None else cache.get(key)
    if stored is None:
        stored = _measured(table, candidates, features)
        if cache is not None:
            cache.put(key, stored)
    parts = _parts(features, stored["nodes"], stored["coefficients"])
    terms = tuple(
        replace(term, coefficient=term.coefficient * float(scale))
        for part, scale in zip(parts, stored["scales"], strict=True)
        for term in part
    )
    return LatencyModel(terms, float(stored["base_ms"]), float(stored["error"]), str(this_machine()))


def _key(
    analysis: Analysis,
    candidates: Sequence[Candidate],
    feed: Mapping[str, Array],
    threads: int,
    provider: str,
    seed: int,
) -> str:
    widths = sorted((c.atom, c.size, c.step, c.minimum, c.tied) for c in candidates)
    shapes = sorted((name, array.shape, array.dtype.name) for name, array in feed.items())
    sizes = sorted(analysis.shapes.sizes.items())
    setting = f"{VERSION} {this_machine()} {threads} {provider} {seed} {widths} {shapes} {sizes}"
    return fingerprint("latency", setting, analysis.model.to_bytes())


class _Table:
    """Models cut at some widths, and how long they take."""

    def __init__(
        self,
        analysis: Analysis,
        feed: Mapping[str, Array],
        threads: int,
        provider: str,
        seed: int,
        watch: Watch,
    ) -> None:
        self.analysis, self.feed, self.seed = analysis, feed, seed
        self._threads, self._provider, self._watch = threads, provider, watch
        self.places = {node.name: node.index for node in analysis.model.with_node_names().nodes}

    def cut_to(self, counts: Counts) -> Model:
        """The model with the first indices of each group; which ones stay makes no difference to time."""
        groups = {group.atom.id: group for group in self.analysis.groups}
        keep = {atom: np.arange(groups[atom].size) < kept for atom, kept in counts.items()}
        return cut.shrink(self.analysis, Plan.of(self.analysis.groups, keep))

    def profile(self, designs: Sequence[Counts], ms: float) -> list[tuple[dict[str, float], float]]:
        """The time of each node, by name, and between them: of the original first, which takes about `ms`, then of each
        design. What a cut has added (a factor behind a mean, say) is no node of the original: its time is between.

        The original takes part in every group of models that are profiled side by side, and its own time there is the
        measure of what the others take.
        """
        runs = int(np.clip(PROFILE_MS / ms, *RUNS))
        groups: list[list[tuple[dict[str, float], float]]] = []
        for done in range(0, len(designs), TOGETHER):
            self._watch("measure layers", done, len(designs))
            several = [self.analysis.model, *map(self.cut_to, designs[done : done + TOGETHER])]
            named = [model.with_node_names() for model in several]
            found = interleaved_layer_times([(model.to_bytes(), model.nodes) for model in named], self.feed, runs=runs,
                                            threads=self._threads, provider=self._provider,
                                            seed=self.seed + done)  # fmt: skip
            groups.append([self._between(times) for times in found])
        pace = [sum(group[0][0].values()) for group in groups]
        usual = float(np.median(pace))
        paced = [
            [
                ({name: ms * usual / own for name, ms in nodes.items()}, between * usual / own)
                for nodes, between in group
            ]
            for group, own in zip(groups, pace, strict=True)
        ]
        return [paced[0][0], *(times for group in paced for times in group[1:])]

    def _between(self, times: LayerTimes) -> tuple[dict[str, float], float]:
        own = {row.name: row.ms for row in times.rows if row.name in self.places}
        added = sum(row.ms for row in times.rows if row.name not in self.places)
        return own, times.other_ms + times.overhead_ms + added

    def whole(self, designs: Sequence[Counts]) -> tuple[float, npt.NDArray[np.float64]]:
        """The original's milliseconds, and those of each design by their ratio to it."""
        ratios, base, sessions = [], [], SESSIONS[0]
        for done in range(0, len(designs), TOGETHER):
            self._watch("measure whole models", done, len(designs))
            models = [self.analysis.model.to_bytes()]
            models += [self.cut_to(counts).to_bytes() for counts in designs[done : done + TOGETHER]]
            timing = measure(models, self.feed, rounds=ROUNDS * sessions, sessions=sessions, threads=self._threads,
                             provider=self._provider, seed=self.seed + done)  # fmt: skip
            base.append(timing.models[0].latency_ms)
            ratios += [1 / pair.speedup for pair in timing.pairs]
            sessions = int(np.clip(SESSION_MS / base[0], *SESSIONS))
        original = float(np.median(base))
        return original, original * np.asarray(ratios)


def _measured(table: _Table, candidates: Sequence[Candidate], features: Features) -> dict[str, npt.NDArray[np.float64]]:
    """Steps 1 to 3, as arrays: which nodes have which coefficients, the scales of the parts, the error."""
    whole = design(candidates, WHOLE, table.seed + 1)
    base_ms, ms = table.whole(whole)
    cuts = design(candidates, PROFILED, table.seed)
    profiles = table.profile(cuts, base_ms)
    designs: list[Counts] = [{}, *cuts]
    by_node = [{table.places[name]: ms for name, ms in times.items()} for times, _ in profiles]
    nodes = sorted({node for times in by_node for node in times})
    rows = []
    for node in nodes:
        matrix = _sums(features.of(node), designs)
        seen = np.array([times.get(node, 0.0) for times in by_node])
        rows.append(fitted(matrix[seen > 0], seen[seen > 0]))
    matrix = _sums(((Term("", 1.0, ()),), features.everything(), (), ()), designs)
    rows.append(fitted(matrix, np.maximum([between for _, between in profiles], 1e-6)))
    coefficients = np.stack(rows)
    known: list[Counts] = [{}] * -(-len(whole) // TOGETHER)  # as often as it was measured
    sums = _sums(_parts(features, np.asarray(nodes, np.float64), coefficients), [*known, *whole])
    times = np.concatenate([np.full(len(known), base_ms), ms])
    judging = np.zeros(len(times), np.bool_)
    judging[-HELD_OUT:] = True
    scales = fitted(sums[~judging], times[~judging])
    error = np.abs(sums[judging] @ scales / times[judging] - 1).max()
    scales = fitted(sums, times)
    return {
        "nodes": np.asarray(nodes, np.float64), "coefficients": coefficients, "scales": scales,
        "base_ms": np.asarray(base_ms), "error": np.asarray(error),
    }  # fmt: skip


def _sums(parts: Sequence[Sequence[Term]], designs: Sequence[Counts]) -> npt.NDArray[np.float64]:
    """What each part comes to at each design, (designs, parts)."""
    return np.array([[float(sum(t.value(counts) for t in part)) for part in parts] for counts in designs])


def _parts(
    features: Features, nodes: npt.NDArray[np.float64], coefficients: npt.NDArray[np.float64]
) -> list[list[Term]]:
    """The terms of each part, in milliseconds before their correction; the last coefficients are between nodes."""
    parts: list[list[Term]] = [[] for _ in PARTS]
    for node, row in zip(nodes, coefficients[:-1], strict=True):
        for part, terms, factor in zip(parts, features.of(int(node)), row, strict=False):
            part += [replace(term, coefficient=term.coefficient * float(factor)) for term in terms if factor]
    starting, moving, *_ = coefficients[-1]
    parts[0].append(Term("", float(starting), ()))
    parts[-1] += [
        replace(term, coefficient=term.coefficient * float(moving)) for term in features.everything() if moving
    ]
    return parts
