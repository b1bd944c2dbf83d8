"""Models that differ from one in some places, run from there on: what lies in front of the first place is made once.

An allocator tries hundreds of models that are one with other weights in one group. All that such a model makes before
it reads one of those is what the original makes; it is kept for the samples, and the rest runs from there. Of a chain
of layers, each cut in turn, half of the work is left. What a model has in common with the original is seen from its
nodes and constants alone, so it may have been made in any way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.analysis import Analysis
from onnxprune.model import Model
from onnxprune.model.segment import Segments
from onnxprune.runtime.session import Options, Session

__all__ = ["Resuming"]

Array: TypeAlias = npt.NDArray[Any]
Feed: TypeAlias = Mapping[str, Array]
HELD = 256 << 20  # bytes that are kept of what lies in front; what would take more is run as a whole


class Resuming:
    """Runs models that have the inputs and outputs of `analysis`' on the same batches, in the main graph's nodes."""

    def __init__(self, analysis: Analysis, batches: Sequence[Feed], threads: int = 1) -> None:
        self._segments, self._batches = Segments(analysis.model), list(batches)
        self._dtypes: Mapping[str, np.dtype[Any]] = analysis.shapes.dtype
        self._options = Options(threads=threads)
        self._kept: list[dict[str, Array]] = [{} for _ in self._batches]

    def outputs(self, other: Model) -> Iterator[Mapping[str, Any]]:
        """What a model makes of each batch, in their order. Errors: `RunFailed`."""
        segments = Segments(other)
        wanted = [info.name for info in other.outputs]
        known = (segments.same_as(self._segments) & segments.live & self._dtypes.keys()) - segments.inputs
        nodes = segments.needed(wanted, known)
        front = {name for k in nodes for name in segments.reads[k]}.union(wanted) & known
        if not front or not segments.stands_alone(nodes) or not self._keep(front):
            yield from map(Session(other.to_bytes(), self._options).run, self._batches)
            return
        own = {name for k in nodes for name in segments.makes[k]}
        read = {name for k in nodes for name in segments.reads[k]}.union(wanted) & segments.inputs
        inputs = {name: self._dtypes[name] for name in sorted(front | read)}
        made = {name: self._dtypes[name] for name in wanted if name in own}
        session = Session(segments.model_of(nodes, inputs, made), self._options) if made else None
        for batch, kept in zip(self._batches, self._kept, strict=True):
            there = {name: kept[name] if name in kept else batch[name] for name in inputs}
            found = {} if session is None else session.run(there)
            yield {name: found[name] if name in found else there[name] for name in wanted}

    def _keep(self, front: set[str]) -> bool:
        """Have these tensors of the original at hand, and no others; False where they are too large."""
        if not self._kept[0].keys() >= front:
            segments = self._segments
            known = segments.inputs | self._kept[0].keys()
            nodes = segments.needed(front, known)
            read = {name for k in nodes for name in segments.reads[k]} & known
            own = {name for k in nodes for name in segments.makes[k]}
            inputs = {name: self._dtypes[name] for name in sorted(read)}
            session = Session(
                segments.model_of(nodes, inputs, {name: self._dtypes[name] for name in sorted(front & own)}),
                self._options,
            )
            held = 0
            for number, batch in enumerate(self._batches):
                kept = self._kept[number]
                made = session.run({name: kept[name] if name in kept else batch[name] for name in inputs})
                self._kept[number] = {**kept, **made}
                held += sum(np.asarray(array).nbytes for array in made.values())
                if held * len(self._batches) > HELD * (number + 1):
                    self._kept = [{} for _ in self._batches]
                    return False
        self._kept = [{name: kept[name] for name in front} for kept in self._kept]
        return True
