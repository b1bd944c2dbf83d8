"""What goes with each index of a group along one axis, side by side: one row for each index, signed numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onnxprune.dimensions import Atom, Dimension, Pick, Sum
from onnxprune.model import Array

__all__ = ["members", "rows"]

Indices = npt.NDArray[np.int64]


def members(dim: Dimension, atom: Atom) -> Indices:
    """The indices of an axis that go with each index of `atom`, (atom size, number), in the order of the axis.

    Each index of an atom occurs equally often in a dimension, so nothing is left over.
    """
    places, owners = _occurrences(dim, atom.id)
    order = np.lexsort((places, owners))
    return places[order].reshape(atom.size, -1)


def rows(values: Array, axis: int, dim: Dimension, atom: Atom) -> Array:
    """All numbers that go with each index of `atom` along `axis`, float64 of shape (atom size, numbers)."""
    found = members(dim, atom)
    taken = np.take(np.moveaxis(values, axis, 0), found.ravel(), axis=0)
    return np.asarray(taken.reshape(atom.size, -1), dtype=np.float64)


def _occurrences(dim: Dimension, atom: int) -> tuple[Indices, Indices]:
    """(index of the axis, index of the atom) of every occurrence."""
    none = np.zeros(0, np.int64)
    if isinstance(dim, Atom):
        every = np.arange(dim.size, dtype=np.int64)
        return (every, every) if dim.id == atom else (none, none)
    if isinstance(dim, Pick):
        every = np.arange(dim.size, dtype=np.int64)
        return (every, np.asarray(dim.indices, np.int64)) if dim.atom.id == atom else (none, none)
    places, owners = [none], [none]
    if isinstance(dim, Sum):
        start = 0
        for part in dim.parts:
            inner, owner = _occurrences(part, atom)
            places.append(inner + start)
            owners.append(owner)
            start += part.size
    else:
        grid = np.arange(dim.size, dtype=np.int64).reshape([factor.size for factor in dim.factors])
        for axis, factor in enumerate(dim.factors):
            inner, owner = _occurrences(factor, atom)
            taken = np.take(grid, inner, axis=axis)
            shape = [-1 if k == axis else 1 for k in range(grid.ndim)]
            places.append(taken.ravel())
            owners.append(np.broadcast_to(owner.reshape(shape), taken.shape).ravel())
    return np.concatenate(places), np.concatenate(owners)
