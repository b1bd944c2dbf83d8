"""Statistics as numpy makes them of what the model's tensors hold: the slow way, for tests."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxprune.criteria import Evidence, criterion_of
from onnxprune.dependency import Analysis, Group
from onnxprune.dimensions import Vector, keep_mask
from onnxprune.model import Array
from onnxprune.runtime.session import Session
from onnxprune.statistics import Gram, IndexMoments, Maps, Moments, Pooled, Statistics

__all__ = ["evidence", "from_the_end", "goes_with", "one_by_one", "samples", "tensors_of"]


def samples(analysis: Analysis, count: int, seed: int = 0) -> dict[str, Array]:
    """Random inputs, the batch being the first axis of each."""
    generator = np.random.default_rng(seed)
    sizes = {info.name: [dim.size for dim in analysis.dims(info.name)[1:]] for info in analysis.model.inputs}
    return {name: generator.normal(size=(count, *size)).astype(np.float32) for name, size in sizes.items()}


def tensors_of(analysis: Analysis, feeds: Mapping[str, Array], names: set[str]) -> dict[str, Array]:
    """What the tensors `names` hold, the samples first: where they are merged with positions, those come second."""
    inside = sorted(names - feeds.keys())
    session = Session(analysis.model.with_outputs({name: analysis.shapes.dtype[name] for name in inside}).to_bytes())
    found = session.run(feeds) if inside else {}
    count = len(next(iter(feeds.values())))
    arrays = {name: np.asarray(found[name] if name in found else feeds[name]) for name in names}
    return {name: a if len(a) == count else a.reshape(count, -1, *a.shape[1:]) for name, a in arrays.items()}


def from_the_end(analysis: Analysis, tensor: str, axis: int) -> int:
    """An axis of a tensor, whether samples and positions are one axis of it or two."""
    rank = len(analysis.dims(tensor))
    return axis % rank - rank


def evidence(
    analysis: Analysis, criterion: str, feeds: Mapping[str, Array], labels: Array | None = None, seed: int = 0
) -> Evidence:
    """What a criterion asks for, answered."""
    requests = list(criterion_of(criterion).needs(analysis))
    assert not any(isinstance(request, Gram) for request in requests)
    values = tensors_of(analysis, feeds, {r.tensor for r in requests if not isinstance(r, Gram)})
    answers: dict[Moments | Pooled | Maps | Gram, IndexMoments | Array] = {}
    for request in requests:
        assert not isinstance(request, Gram)
        array = values[request.tensor].astype(np.float64)
        last = np.moveaxis(array, from_the_end(analysis, request.tensor, request.axis), 1)
        flat = last.swapaxes(0, 1).reshape(last.shape[1], -1)
        if isinstance(request, Moments):
            answers[request] = IndexMoments(
                flat.shape[1], flat.sum(1), np.abs(flat).sum(1), np.square(flat).sum(1),
                np.sum(flat == 0, axis=1).astype(np.float64), np.abs(flat).max(1),
            )  # fmt: skip
        elif isinstance(request, Pooled):
            answers[request] = last.reshape(*last.shape[:2], -1).mean(axis=2)
        else:
            answers[request] = last[: request.samples].astype(np.float32)
    count = len(next(iter(feeds.values())))
    return Evidence(analysis, Statistics(answers, samples=count), seed, labels)


def goes_with(analysis: Analysis, group: Group, tensor: str, axis: int) -> list[list[int]]:
    """The indices of an axis that go when an index of a group goes, from keep masks."""
    dim = analysis.dims(tensor)[axis]
    every = np.arange(group.size)
    return [np.flatnonzero(~keep_mask(dim, {group.atom.id: every != k})).tolist() for k in range(group.size)]


def one_by_one(alike: Array, weight: Vector) -> Vector:
    """The lighter one of the most alike pair goes, until one is left."""
    left, scores = list(range(len(alike))), np.full(len(alike), 1 - min(0.0, float(alike.min())))
    while len(left) > 1:
        value, i, j = max((alike[i, j], -i, -j) for i in left for j in left if i < j)
        gone = -i if weight[-i] < weight[-j] else -j
        scores[gone] = 1 - value
        left.remove(gone)
    return scores
