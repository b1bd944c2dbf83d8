"""Who reads a dimension: for each group, the layers that contract it, and which columns each index takes with it.

What an index is worth shows where it is read: its going leaves a hole in the output of each layer that multiplies it
with weights. Whoever weighs or repairs that hole needs the columns of the layer's matrix (G, O, I x K) that belong to
each index. They are read off the types of the weight's axes, so heads x width, a channel behind a Flatten, half of a
concatenation and the inputs of a grouped convolution are no cases of their own.

What a layer carries along and does not add up over (the channels of a depthwise convolution) it does not consume.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.dependency import Analysis
from onnxprune.dimensions import Atom, Dimension, Pick, Sum, atoms
from onnxprune.layers import Layer

__all__ = ["Consumer", "consumers_of", "owners"]

Indices: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Consumer:
    """`layer` adds up over the group; `columns[g]`, shape (size, s), are the columns of each index in group g of it.

    Columns count as those of `layer.matrix` reshaped to (G, O, I x K). `axis` is the axis of the stored weight.
    """

    layer: Layer
    axis: int
    columns: tuple[Indices, ...]


def owners(dim: Dimension, atom: Atom) -> Indices:
    """For each index of `dim`, the index of `atom` with which it goes; -1 where it goes with none."""
    if isinstance(dim, Atom):
        return np.arange(dim.size) if dim == atom else np.full(dim.size, -1)
    if isinstance(dim, Pick):
        return np.asarray(dim.indices) if dim.atom == atom else np.full(dim.size, -1)
    if isinstance(dim, Sum):
        return np.concatenate([owners(part, atom) for part in dim.parts])
    found = np.full(1, -1)
    for factor in dim.factors:
        own = owners(factor, atom)
        found = np.where(found[:, None] >= 0, found[:, None], own[None, :]).ravel()
    return found


def consumers_of(analysis: Analysis, layers: Iterable[Layer]) -> Mapping[int, tuple[Consumer, ...]]:
    """The consumers of every group, by atom id, in the order of the graph; a group that no layer reads is absent."""
    wanted = {group.atom.id: group.atom for group in analysis.groups}
    found: dict[int, list[Consumer]] = defaultdict(list)
    for layer in layers:
        for axis, dim in enumerate(analysis.dims(layer.weight)):
            inside = {atom.id for atom in atoms(dim)} & wanted.keys()
            places = _input_axis(analysis, layer, axis) if inside else None
            for atom in sorted(inside) if places is not None else ():
                columns = _columns(owners(dim, wanted[atom])[places], wanted[atom].size)
                if columns is not None:
                    found[atom].append(Consumer(layer, axis, columns))
    return {atom: tuple(consumers) for atom, consumers in found.items()}


def _input_axis(analysis: Analysis, layer: Layer, axis: int) -> Indices | None:
    """The index along `axis` of the stored weight of every column (G, I x K); None where rows differ in it."""
    shape = analysis.model.weights[layer.weight].shape
    along = np.arange(shape[axis]).reshape([-1 if k == axis else 1 for k in range(len(shape))])
    groups, outputs, inputs, positions = layer.shape
    places = layer.matrix(np.broadcast_to(along, shape)).reshape(groups, outputs, inputs * positions)
    return np.asarray(places[:, 0]) if (places == places[:, :1]).all() else None


def _columns(owner: Indices, size: int) -> tuple[Indices, ...] | None:
    """The columns of each index in each group; None where an index has none in some group, or more than another."""
    found = []
    for row in owner:
        if (np.bincount(row[row >= 0], minlength=size) * size != np.count_nonzero(row >= 0)).any() or (row < 0).all():
            return None
        order = np.argsort(row, kind="stable")
        found.append(order[np.count_nonzero(row < 0) :].reshape(size, -1))
    return tuple(found)
