"""Indices of groups in another order, at all their sites: another file of the same function, at no cost when it runs.

    run(model) == run(permuted)

An order is to a permutation what a keep mask is to a cut: that of an axis is read off its type. A group can be put in
another order if nothing depends on where its indices stand: no axis takes them in an order of its own (a `Pick`), no
operand holds their numbers (`Indexes`), and the model does not compute a weight that has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxprune.dependency import Analysis, Group
from onnxprune.dimensions import Atom, Dimension, Pick, Product, atoms
from onnxprune.model import Edit, Model
from onnxprune.rules.facts import Indexes

__all__ = ["Order", "movable", "permuted"]

Order = npt.NDArray[np.intp]
"""New index j of a group is its old index `order[j]`."""


def movable(analysis: Analysis) -> tuple[Group, ...]:
    """The groups whose indices can be put in any order."""
    bound: set[int] = set()
    for tensor in analysis.axes:
        for dim in analysis.dims(tensor):
            bound.update(atom.id for atom in _picked(dim))
    for statement in analysis.notes(Indexes):
        assert isinstance(statement.fact, Indexes)
        bound.update(atom.id for atom in atoms(analysis.type_of(statement.fact.dim)))
    for name in analysis.model.folded:
        bound.update(atom.id for dim in analysis.dims(name) for atom in atoms(dim))
    return tuple(group for group in analysis.groups if group.atom.id not in bound)


def permuted(analysis: Analysis, orders: Mapping[int, Order]) -> Model:
    """The model with the indices of some movable groups, by atom id, in another order."""
    edit = Edit(analysis.model)
    for name in analysis.model.weights:
        moved = [axis for axis, dim in enumerate(analysis.dims(name)) if any(a.id in orders for a in atoms(dim))]
        if moved and name not in analysis.model.folded:
            array: npt.NDArray[Any] = analysis.model.array(name)
            for axis in moved:
                array = np.take(array, order_of(analysis.dims(name)[axis], orders), axis=axis)
            edit.replace(name, array)
    return edit.done()


def order_of(dim: Dimension, orders: Mapping[int, Order]) -> Order:
    """The old position of what is at each new position of an axis."""
    if isinstance(dim, (Atom, Pick)):
        assert isinstance(dim, Atom) or dim.atom.id not in orders
        return orders.get(dim.id, np.arange(dim.size)) if isinstance(dim, Atom) else np.arange(dim.size)
    if isinstance(dim, Product):
        order = np.zeros(1, np.intp)
        for factor in dim.factors:
            order = np.add.outer(order * factor.size, order_of(factor, orders)).ravel()
        return order
    starts = np.cumsum([0, *(part.size for part in dim.parts)])
    return np.concatenate([start + order_of(part, orders) for start, part in zip(starts, dim.parts, strict=False)])


def _picked(dim: Dimension) -> Iterator[Atom]:
    if isinstance(dim, Pick):
        yield dim.atom
    elif not isinstance(dim, Atom):
        for child in dim.factors if isinstance(dim, Product) else dim.parts:
            yield from _picked(child)
