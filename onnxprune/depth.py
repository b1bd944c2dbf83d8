"""How deep a residual network may be cut: what it loses without some of its branches, and what that saves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from math import inf
from types import MappingProxyType, TracebackType

from onnxprune.allocators import Allocation
from onnxprune.analysis import Analysis
from onnxprune.branches import Branch, drop
from onnxprune.cost import Costs
from onnxprune.data import Samples
from onnxprune.dependency import analyse
from onnxprune.divergence import divergence_of
from onnxprune.errors import GateNotMet
from onnxprune.model import Model
from onnxprune.recovery import Shift, stand_in
from onnxprune.resuming import Resuming
from onnxprune.runtime.timing import measure
from onnxprune.targets import MEASURED_TOLERANCE, Bound
from onnxprune.trials import feeds_for, one_feed
from onnxprune.verification import Verifier
from onnxprune.watching import Watch, nobody

__all__ = ["Depth"]

MOST = 128  # samples
ROUNDS, SESSIONS = 20, 4  # of a latency that is measured

Loss = Callable[[Sequence[Branch]], float]
Reached = Mapping[str, tuple[float, float]]


class Depth:
    """Tries a model without some branches: on samples by the divergence of its outputs, without by their change.

    Errors: `RunFailed` where the model does not run on the samples.
    """

    def __init__(
        self,
        source: Model,
        analysis: Analysis,
        samples: Samples | None,
        shift: Shift,
        threads: int = 1,
        provider: str = "CPUExecutionProvider",
        seed: int = 0,
    ) -> None:
        self.watch: Watch = nobody
        self._source, self._analysis, self._samples = source, analysis, samples
        self._threads, self._provider, self._seed = threads, provider, seed
        self._judged = stand_in(analysis, shift)
        shapes = analysis.shapes
        self._verifier = Verifier(
            analysis, feeds_for(source, shapes.sizes, samples, seed, others=shapes.other_sizes), threads, seed=seed
        )
        self._divergence = (
            None if samples is None else divergence_of(self._judged, samples, most=MOST, threads=threads, seed=seed)
        )
        self._resuming = Resuming(self._judged, [] if self._divergence is None else self._divergence.feeds, threads)

    def __enter__(self) -> Depth:
        self._verifier.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._verifier.__exit__(kind, error, trace)

    def loss(self, dropped: Sequence[Branch]) -> float:
        """What the model loses without these branches."""
        if self._divergence is None:
            return self._verifier.change_of(drop(self._analysis, dropped)).relative
        found = self._resuming.outputs(drop(self._judged, dropped))
        return self._divergence.of(lambda _: next(found))

    def dropped(
        self, branches: Sequence[Branch], count: int, loss: Loss, bounds: Mapping[str, Bound]
    ) -> tuple[list[Branch], dict[str, float], Reached]:
        """At most `count` branches that go, or the fewest that meet `bounds`; what each costs, and what is reached.

        The next to go is always the one that adds least to the loss. What a branch adds is taken not to fall as others
        go, so that it is tried again only when it comes up (Minoux's accelerated greedy, 1978).
        """
        dropped: list[Branch] = []
        effects = {branch.name: 0.0 for branch in branches}
        now, reached = 0.0, self._reached(dropped, bounds)
        heap = [(-inf, place, -1) for place in range(len(branches))]
        heapify(heap)
        tried = 0
        while heap and len(dropped) < count and not (bounds and _held(reached)):
            _, place, known = heappop(heap)
            branch = branches[place]
            if known < len(dropped):
                tried += 1
                self.watch(f"rank branches ({branch.name})", min(tried, len(branches)), len(branches))
                added = loss([*dropped, branch]) - now
                effects[branch.name] = added
                heappush(heap, (added, place, len(dropped)))
                continue
            dropped.append(branch)
            now += effects[branch.name]
            reached = self._reached(dropped, bounds)
        while heap and not tried:  # nothing goes, but the report ranks them
            _, place, _ = heappop(heap)
            effects[branches[place].name] = loss([branches[place]])
        return dropped, effects, reached

    def judged(self, reached: Reached, bounds: Mapping[str, Bound], best_effort: bool) -> Allocation:
        """The allocation, of no counts, that says whether what was asked for is met; `GateNotMet` where it is not."""
        met = not bounds or _held(reached)
        said = ", ".join(f"{name}={asked:.4g} was asked and {name}={got:.4g} reached" for name, (asked, got) in
                         reached.items())  # fmt: skip
        reason = "" if met else f"{said}: every residual branch that may go is gone"
        if not met and not best_effort:
            raise GateNotMet(f"{reason}. Nothing was written; ask for less, or take what can be had with --best-effort")
        return Allocation(MappingProxyType({}), MappingProxyType({k: v for k, (_, v) in reached.items()}), met, reason)

    def _reached(self, dropped: Sequence[Branch], bounds: Mapping[str, Bound]) -> Reached:
        """By budget that is bounded, the share that may stay and the share that stays without these branches."""
        if not bounds:
            return {}
        made = drop(self._analysis, dropped)
        before = Costs.of(self._analysis)
        after = Costs.of(analyse(made, self._analysis.shapes.sizes, prober=self._analysis.prober))
        found = {}
        for name, bound in bounds.items():
            if name == "latency":
                found[name] = self._latency(made, bound, len(dropped))
            else:
                whole = before.total(name)
                found[name] = bound.of(whole), after.total(name) / whole if whole else 0.0
        return found

    def _latency(self, made: Model, bound: Bound, number: int) -> tuple[float, float]:
        feed = one_feed(self._source, self._analysis.shapes.sizes, self._samples, self._seed)
        timing = measure(
            [self._source.to_bytes(), made.to_bytes()], feed, rounds=ROUNDS, sessions=SESSIONS, threads=self._threads,
            provider=self._provider, seed=self._seed + number,
            on_round=lambda done, total: self.watch(f"measure latency ({number} branches less)", done, total),
        )  # fmt: skip
        return bound.of(timing.models[0].latency_ms), 1 / timing.pairs[0].speedup


def _held(reached: Reached) -> bool:
    """Whether no bound is exceeded; a latency is measured, and may be measured a little above."""
    return all(got <= asked * (1 + (MEASURED_TOLERANCE / 2 if name == "latency" else 1e-9))
               for name, (asked, got) in reached.items())  # fmt: skip
