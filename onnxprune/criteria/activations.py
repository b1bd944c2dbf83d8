"""Where a group's activations are read: the tensors that carry it in front of its consumers, found by type.

A tensor is read along an axis where a layer multiplies it with its weights, or where a contraction of two activations
adds it up. What stands there has passed the nonlinearity, the norm and the residual addition: it is what the rest of
the model sees of a group. Where pooling left one number of each index, the tensor in front of it is taken instead: the
papers speak of maps. An axis is of use if its type holds an atom of a group; `shared` takes what was measured
along it to the group's indices, whether the axis is the group itself or heads x width, a concatenation, a shuffle or
what a Flatten made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from onnxprune.criteria.criterion import Sites
from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.sites import SiteScore
from onnxprune.dependency import Analysis
from onnxprune.dimensions import Dimension, Vector, atoms, project
from onnxprune.layers import layers_of
from onnxprune.model import Node
from onnxprune.rules.facts import Reads
from onnxprune.statistics import IndexMoments, Maps, Moments, Pooled

__all__ = ["Activation", "activations", "by_moments", "judged", "maps", "moments", "pooled", "shared"]

SAMPLES, SINGLES = 16, 256  # of how many samples maps are looked at, and of how many single numbers
_POOLS = frozenset({"AveragePool", "DequantizeLinear", "Flatten", "GlobalAveragePool", "GlobalMaxPool", "Identity",
                    "MaxPool", "QuantizeLinear", "ReduceMax", "ReduceMean", "ReduceSum", "Reshape", "Squeeze",
                    "Transpose"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Activation:
    """Activation `tensor` is read along `axis`, whose indices have the type `dim`.

    `single`: each index has one number for each sample.
    """

    tensor: str
    axis: int
    dim: Dimension
    single: bool

    @property
    def moments(self) -> Moments:
        """The request for the moments of its indices."""
        return Moments(self.tensor, self.axis)

    @property
    def pooled(self) -> Pooled:
        """The request for the mean of its indices in every sample."""
        return Pooled(self.tensor, self.axis)

    @property
    def maps(self) -> Maps:
        """The request for the values of its indices, in a few samples; in many where that are single numbers."""
        return Maps(self.tensor, self.axis, SINGLES if self.single else SAMPLES)


def activations(analysis: Analysis) -> tuple[Activation, ...]:
    """Every place where an activation that carries a group is read, once, in the order of the graph."""
    model, wanted = analysis.model, {group.atom.id for group in analysis.groups}
    constant = {name for index in model.computed(model.weights) for name in model.nodes[index].outputs}
    places = [(layer.node, layer.data, layer.data_axis) for layer in layers_of(analysis) if layer.data]
    for statement in analysis.notes(Reads):
        if isinstance(statement.fact, Reads):
            operand, axis = statement.fact.operand, statement.fact.axis
            places.extend((statement.node, *place) for place in _met(analysis, statement.node, operand, axis))
    makers = {name: node for node in model.nodes for name in node.outputs}
    found: dict[tuple[str, int], Activation] = {}
    for _, tensor, axis in sorted(places, key=lambda place: place[0]):
        dims = analysis.dims(tensor)
        if tensor in model.weights or tensor in constant or not dims:
            continue
        if any(atom.id in wanted for atom in atoms(dims[axis])):
            activation = _unpooled(analysis, tensor, axis % len(dims), wanted, makers)
            found.setdefault((activation.tensor, activation.axis), activation)
    return tuple(found.values())


def _met(analysis: Analysis, node: int, operand: int, axis: int) -> Iterator[tuple[str, int]]:
    """What is added up along `axis` of `operand`: that one itself, and every axis of another that is the same."""
    inputs = analysis.model.nodes[node].inputs
    dim = analysis.dims(inputs[operand])[axis]
    yield inputs[operand], axis
    for k, other in enumerate(inputs):
        if k != operand and other:
            yield from ((other, at) for at, found in enumerate(analysis.dims(other)) if found == dim)


def _unpooled(analysis: Analysis, tensor: str, axis: int, wanted: set[int], makers: Mapping[str, Node]) -> Activation:
    """What is read, or the nearest tensor in front of pools that has positions and carries the same groups."""
    single = Activation(tensor, axis, analysis.dims(tensor)[axis], True)
    held = {atom.id for atom in atoms(single.dim)} & wanted
    batch = {atom for info in analysis.model.inputs for dim in analysis.dims(info.name)[:1] for atom in atoms(dim)}
    while True:
        dims = analysis.dims(tensor)
        others = (atom for k, dim in enumerate(dims) if k != axis for atom in atoms(dim))
        if any(atom.size > 1 and atom not in batch for atom in others):
            return Activation(tensor, axis, dims[axis], False)
        maker = makers.get(tensor)
        if maker is None or maker.op_type not in _POOLS:
            return single
        tensor = maker.inputs[0]
        inside = [{atom.id for atom in atoms(dim)} & wanted for dim in analysis.dims(tensor)]
        if held not in inside:
            return single
        axis = inside.index(held)


def moments(analysis: Analysis) -> Iterator[Moments]:
    """The moments of everything that is read."""
    return (found.moments for found in activations(analysis))


def pooled(analysis: Analysis) -> Iterator[Pooled]:
    """The means of every sample of everything that is read."""
    return (found.pooled for found in activations(analysis))


def maps(analysis: Analysis) -> Iterator[Maps]:
    """The values, in a few samples, of everything that is read."""
    return (found.maps for found in activations(analysis))


def judged(evidence: Evidence, along: Callable[[Activation], Vector | None]) -> Sites:
    """What `along` says of each index of each place, as sites of groups; None where it has nothing to say."""
    wanted = {group.atom.id for group in evidence.groups}
    sites: dict[int, list[SiteScore]] = {}
    for activation in activations(evidence.analysis):
        values = along(activation)
        for atom, score in shared(activation.dim, values).items() if values is not None else ():
            if atom in wanted:
                sites.setdefault(atom, []).append(SiteScore(activation.tensor, activation.axis, score))
    return sites


def shared(dim: Dimension, values: Vector) -> dict[int, Vector]:
    """The mean of `values`, one for each index of an axis, over all indices that go with an index of each atom."""
    totals: dict[int, Vector] = {}
    numbers: dict[int, Vector] = {}
    project(dim, values, totals)
    project(dim, np.ones(dim.size), numbers)
    return {atom: total / np.maximum(numbers[atom], 1) for atom, total in totals.items()}


def by_moments(judge: Callable[[IndexMoments], Vector]) -> Callable[[Evidence], Sites]:
    """A criterion's `judge` from what it makes of the moments of one activation."""

    def criterion(evidence: Evidence) -> Sites:
        def along(activation: Activation) -> Vector | None:
            if not evidence.statistics.has(activation.moments):
                return None
            return judge(evidence.statistics.moments(activation.tensor, activation.axis))

        return judged(evidence, along)

    return criterion
