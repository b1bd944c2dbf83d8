"""A model run piece by piece on all samples: each piece goes on from what the last one left.

Layers are repaired one after another, and the input of each depends on all repairs before it. Running the whole model
again for every layer would be quadratic; here the tensors that later pieces still read are kept, batch by batch, and
every node runs once. What does not fit into memory is kept in files (`spilling`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.model import Model
from onnxprune.model.segment import Segments
from onnxprune.recovery.spilling import Shelf
from onnxprune.runtime.session import Options, Session

__all__ = ["Stepper"]

Array: TypeAlias = npt.NDArray[Any]
Feed: TypeAlias = Mapping[str, Array]


class Stepper:
    """Runs `model` on `batches` up to each of `stops`, sets of tensors that are wanted, in their order.

    `dtypes` are the element types of the model's tensors. What a stop wants is known to all later ones.
    """

    def __init__(
        self,
        model: Model,
        batches: Sequence[Feed],
        stops: Sequence[frozenset[str]],
        dtypes: Mapping[str, np.dtype[Any]],
        threads: int = 1,
    ) -> None:
        self._segments = Segments(model)
        self._dtypes = dtypes
        self._options = Options(threads=threads)
        self._given, self._shelf = batches, Shelf()
        self._pieces: list[tuple[list[int], frozenset[str]]] = []  # nodes, and what to keep after them
        segments, known = self._segments, set(self._segments.inputs)
        read_later: list[set[str]] = []
        for wanted in stops:
            nodes = segments.needed(wanted, known)
            live = [k for k in nodes if segments.depends_on_inputs(k)]
            read = {name for k in nodes for name in segments.reads[k]} | set(wanted)
            read_later.append(read & known)
            known.update(name for k in live for name in segments.makes[k])
            self._pieces.append((nodes, frozenset(known)))
        later: set[str] = set()
        for position in range(len(stops) - 1, -1, -1):
            nodes, made = self._pieces[position]
            self._pieces[position] = (nodes, made & (later | stops[position]))
            later |= read_later[position]
        self._position = 0

    def step(self, weights: Mapping[str, Array] | None = None) -> Sequence[Mapping[str, Array]]:
        """Run up to the next stop, with these values of constant tensors; what is known then, for each batch.

        Errors: `RunFailed`.
        """
        nodes, kept = self._pieces[self._position]
        self._position += 1
        segments = self._segments
        made = {name for k in nodes for name in segments.makes[k]}
        read = {name for k in nodes for name in segments.reads[k]}
        values = [_Batch(self._shelf, number, given) for number, given in enumerate(self._given)]
        if made & kept:
            inputs = {name: self._dtypes[name] for name in sorted(read - made) if name in values[0]}
            outputs = {name: self._dtypes[name] for name in sorted(made & kept)}
            session = Session(segments.model_of(nodes, inputs, outputs, weights), self._options)
            for number, batch in enumerate(values):
                for name, array in session.run({name: batch[name] for name in inputs}).items():
                    self._shelf.put((number, name), array)
        self._shelf.drop([key for key in self._shelf if key[1] not in kept])
        return values


class _Batch(Mapping[str, Array]):
    """The tensors of one batch: what was fed, and what is on the shelf."""

    def __init__(self, shelf: Shelf, number: int, given: Feed) -> None:
        self._shelf, self._number, self._given = shelf, number, given

    def __getitem__(self, name: str) -> Array:
        return self._given[name] if name in self._given else self._shelf[self._number, name]

    def __iter__(self) -> Iterator[str]:
        yield from self._given
        yield from (name for number, name in self._shelf if number == self._number)

    def __len__(self) -> int:
        return sum(1 for _ in self)
