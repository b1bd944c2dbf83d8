"""Where a model's time goes, told by the nodes of the model as it was written, not as the runtime fused it.

The profiler names a kernel after the node of the *optimised* graph that it ran. What that node was made from is read
off its name, in this order:

1. the name of a node: it was not touched;
2. `<tensor>_nchwc`: the blocked form of the nodes that end in that tensor. If an activation or an addition was fused
   into a convolution, that tensor is the output of the last of them, and the node meant is the nearest one before it
   whose operator the kernel has, and which has no blocked kernel of its own;
3. `<node>/<fusion>`, `fused <node>`, `<node>_quant` and the like, also with the `_token_<n>` that makes names unique.

What matches none of these (layout conversions such as ReorderInput, mostly) is not dropped: it is the row `other`. A
node that was fused into another has no time of its own: its time is in the row of the other.
"""

from __future__ import annotations

import json
import re
import tempfile
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import numpy as np

from onnxprune.runtime.session import CPU, Array, Options, Session

__all__ = ["LayerTime", "LayerTimes", "NodeLike", "attribute", "interleaved_layer_times", "layer_times", "origin"]

_SUFFIX = "_kernel_time"
_UNIQUE = re.compile(r"_token_\d+$")
_FUSED_BEFORE = ("fused ", "fused_")
_FUSED_AFTER = ("_quant", "_nhwc", "_transformed", "_fused")
_WALK = 8
"""How many nodes back the convolution behind a blocked kernel is looked for."""


class NodeLike(Protocol):
    """A node of the model as it was written; names are unique and not empty."""

    @property
    def name(self) -> str:
        """The node's name."""

    @property
    def op_type(self) -> str:
        """The operator."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tensors it reads; an empty string is one left out."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The tensors it makes."""


@dataclass(frozen=True, slots=True)
class LayerTime:
    """The mean milliseconds per run of the kernels that came from one node, and their share of all kernels' time.

    `kernels` are the operators that were run for it, `Conv` or `Gemm` for a `MatMul`, say.
    """

    name: str
    op_type: str
    ms: float
    share: float
    kernels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """One row per node that took time, in the model's order, and all the rest.

    `other_ms` is the time of kernels that belong to no node, told apart by operator in `other`; `overhead_ms` the time
    of a run outside kernels. The rows, `other_ms` and `overhead_ms` add up to `run_ms`.
    """

    rows: tuple[LayerTime, ...]
    other_ms: float
    other: Mapping[str, float]
    overhead_ms: float
    run_ms: float
    runs: int

    @property
    def other_share(self) -> float:
        """The share of the kernels' time that belongs to no node."""
        kernels = self.run_ms - self.overhead_ms
        return self.other_ms / kernels if kernels else 0.0


def layer_times(
    model: bytes | Path,
    nodes: Sequence[NodeLike],
    feeds: Mapping[str, Array],
    *,
    runs: int = 20,
    warmup: int = 3,
    threads: int = 1,
    provider: str = CPU,
) -> LayerTimes:
    """The time per node over `runs` profiled runs, after `warmup` that are not counted; RunFailed if it does not run.

    `nodes` are those of the very `model` that is run, which must name each of them. Profiling itself costs a few
    microseconds per node: compare rows with each other, and models by `timing.measure`.
    """
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder:
        session = Session(model, Options(threads, (provider,), profile_prefix=Path(folder, "profile")))
        for _ in range(warmup + runs):
            session.run(feeds)
        return attribute(_events(session), nodes, warmup)


def interleaved_layer_times(
    models: Sequence[tuple[bytes, Sequence[NodeLike]]],
    feeds: Mapping[str, Array],
    *,
    runs: int = 20,
    threads: int = 1,
    provider: str = CPU,
    seed: int = 0,
) -> list[LayerTimes]:
    """The time per node of several models, each with its nodes: what else the machine does slows all of them alike.

    In each of `runs` rounds every model runs once, in random order, after a run that warms its caches and is not
    counted. The times are lower quartiles, which a run that was disturbed does not move; so rows need not add up.
    """
    order = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder:
        sessions = [
            Session(model, Options(threads, (provider,), profile_prefix=Path(folder, f"profile{k}")))
            for k, (model, _) in enumerate(models)
        ]
        for _ in range(runs):
            for k in order.permutation(len(sessions)):
                sessions[k].run(feeds)
                sessions[k].run(feeds)
        events = [_events(session) for session in sessions]
    return [
        attribute(own, nodes, warmup=1, every=2, quantile=0.25) for own, (_, nodes) in zip(events, models, strict=True)
    ]


def _events(session: Session) -> list[dict[str, Any]]:
    """What the profiler has seen, which ends with this."""
    found: list[dict[str, Any]] = json.loads(session.end_profiling().read_text(encoding="utf-8"))
    return found


def attribute(
    events: Sequence[Mapping[str, Any]],
    nodes: Sequence[NodeLike],
    warmup: int = 0,
    *,
    every: int = 1,
    quantile: float | None = None,
) -> LayerTimes:
    """The rows that the profiler's events (durations in microseconds) come to, without the first `warmup` runs.

    Of the others one of `every` counts. The times are means over runs, or a `quantile` of each.
    """
    runs = sorted((e for e in events if e["cat"] == "Session" and e["name"] == "model_run"), key=lambda e: int(e["ts"]))
    counted = runs[warmup::every]
    if not counted:
        raise ValueError(f"{len(runs)} runs were profiled, {warmup} of them to warm up: none is left")
    starts = [int(e["ts"]) for e in counted]
    ends = [int(e["ts"]) + int(e["dur"]) for e in counted]
    kernels_run = [e for e in events if _is_kernel(e) and _run_of(e, starts, ends) is not None]
    names = _Names(nodes, {str(e["name"]).removesuffix(_SUFFIX) for e in kernels_run})
    times: defaultdict[str, list[float]] = defaultdict(lambda: [0.0] * len(counted))
    kernels: defaultdict[str, dict[str, None]] = defaultdict(dict)
    other: defaultdict[str, list[float]] = defaultdict(lambda: [0.0] * len(counted))
    inside = [0.0] * len(counted)
    for event in _outermost(kernels_run):
        operator = str(event["args"].get("op_name", ""))
        node = names.origin(str(event["name"]).removesuffix(_SUFFIX), operator)
        run, ms = _run_of(event, starts, ends), event["dur"] * 1e-3
        assert run is not None
        inside[run] += ms
        if node is None:
            other[operator][run] += ms
        else:
            times[node][run] += ms
            kernels[node][operator] = None

    def middle(ms: Sequence[float]) -> float:
        return fmean(ms) if quantile is None else float(np.quantile(ms, quantile))

    found = {name: middle(ms) for name, ms in times.items()}
    others = {operator: middle(ms) for operator, ms in other.items()}
    total = sum(found.values()) + sum(others.values())
    rows = tuple(
        LayerTime(n.name, n.op_type, found[n.name], found[n.name] / total if total else 0.0, tuple(kernels[n.name]))
        for n in nodes
        if n.name in found
    )
    run_ms = [int(e["dur"]) * 1e-3 for e in counted]
    overhead = middle([whole - own for whole, own in zip(run_ms, inside, strict=True)])
    return LayerTimes(rows, sum(others.values()), others, overhead, middle(run_ms), len(counted))


def origin(kernel: str, operator: str, nodes: Sequence[NodeLike], others: Iterable[str] = ()) -> str | None:
    """The name of the node that the kernel called `kernel`, of the operator `operator`, came from; None if unknown.

    `others` are the names of the kernels that run beside it: a node that one of them stands for is not meant here.
    """
    return _Names(nodes, set(others)).origin(kernel, operator)


class _Names:
    """The nodes by name and by the tensors that they make."""

    def __init__(self, nodes: Sequence[NodeLike], kernels: Set[str] = frozenset()) -> None:
        self._kernels = kernels
        self._by_name = {node.name: node for node in nodes}
        self._maker = {output: node for node in nodes for output in node.outputs if output}

    def origin(self, kernel: str, operator: str) -> str | None:
        for name in dict.fromkeys((kernel, _UNIQUE.sub("", kernel))):
            found = self._exact(name) or self._blocked(name, operator) or self._fused(name)
            if found is not None:
                return found
        return None

    def _exact(self, name: str) -> str | None:
        return name if name in self._by_name else None

    def _blocked(self, name: str, operator: str) -> str | None:
        """Case 2: breadth first towards the inputs, to the nearest node with the kernel's operator."""
        last = self._maker.get(name.removesuffix("_nchwc")) if name.endswith("_nchwc") else None
        if last is None:
            return None
        waiting, seen = deque([last]), {last.name}
        while waiting and len(seen) <= _WALK:
            node = waiting.popleft()
            if node.op_type == operator and (node is last or not self._has_own_kernel(node)):
                return node.name
            for tensor in node.inputs:
                before = self._maker.get(tensor)
                if before is not None and before.name not in seen:
                    seen.add(before.name)
                    waiting.append(before)
        return last.name

    def _has_own_kernel(self, node: NodeLike) -> bool:
        return any(f"{output}_nchwc" in self._kernels for output in node.outputs)

    def _fused(self, name: str) -> str | None:
        """Case 3: the longest part before a slash that is a node, after the runtime's own words are taken off."""
        for before in _FUSED_BEFORE:
            name = name.removeprefix(before)
        for after in _FUSED_AFTER:
            if self._exact(name.removesuffix(after)):
                return name.removesuffix(after)
        while name:
            if name in self._by_name:
                return name
            name = name.rpartition("/")[0]
        return None


def _run_of(event: Mapping[str, Any], starts: Sequence[int], ends: Sequence[int]) -> int | None:
    """Which of the runs, given by when they started and ended, an event is part of."""
    run = bisect_right(starts, int(event["ts"])) - 1
    return run if run >= 0 and int(event["ts"]) <= ends[run] else None


def _is_kernel(event: Mapping[str, Any]) -> bool:
    return bool(event["cat"] == "Node" and str(event["name"]).endswith(_SUFFIX))


def _outermost(kernels: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The kernels that run inside no other: those of a Loop's body are part of the Loop's own time."""
    found: list[Mapping[str, Any]] = []
    end: dict[Any, int] = {}
    for event in sorted(kernels, key=lambda e: (int(e["ts"]), -int(e["dur"]))):
        start, thread = int(event["ts"]), event["tid"]
        if start + int(event["dur"]) > end.get(thread, -1):
            found.append(event)
            end[thread] = start + int(event["dur"])
    return found
