"""A dimension has a type: what the indices of an axis mean, as an expression of atoms, products and sums.

* `Atom`: n indices that can be kept or removed one by one.
* `Product`: a row-major merge of its factors, `index = i_a * |b| + i_b` (Reshape, grouped Conv, heads x head size).
* `Sum`: its parts one after the other (Concat, Split, Pad).

An expression is a value: frozen, hashable, without any knowledge of models. What is asked of one is always
answered from its structure alone: the keep mask of an axis, the number of indices that stay, the share that one
atom has in a vector of per-index scores. Which dimensions are the same is decided in `unification`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Atom",
    "Dimension",
    "Mask",
    "Pick",
    "Product",
    "Sum",
    "Vector",
    "atoms",
    "count",
    "countable",
    "keep_mask",
    "project",
]

Mask: TypeAlias = npt.NDArray[np.bool_]
Vector: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Atom:
    """`size` indices that are kept or removed one by one; `id` is unique within one analysis."""

    id: int
    size: int

    def __str__(self) -> str:
        return f"a{self.id}[{self.size}]"


@dataclass(frozen=True, slots=True)
class Product:
    """The row-major merge of `factors`, outermost first."""

    factors: tuple[Dimension, ...]
    size: int = field(init=False)

    def __post_init__(self) -> None:
        size = 1
        for factor in self.factors:
            size *= factor.size
        object.__setattr__(self, "size", size)

    def __str__(self) -> str:
        return " x ".join(f"({f})" if isinstance(f, Sum) else str(f) for f in self.factors)


@dataclass(frozen=True, slots=True)
class Sum:
    """The concatenation of `parts`, first part first."""

    parts: tuple[Dimension, ...]
    size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", sum(part.size for part in self.parts))

    def __str__(self) -> str:
        return " + ".join(map(str, self.parts))


@dataclass(frozen=True, slots=True)
class Pick:
    """Indices `indices` of `atom`, in this order: a permutation of it, or a part.

    All picks of an atom that stand in one sum hold, together, each of its indices equally often.
    """

    atom: Atom
    indices: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many indices there are."""
        return len(self.indices)

    def __str__(self) -> str:
        return f"{self.atom}[...{len(self.indices)}]"


Dimension: TypeAlias = Atom | Pick | Product | Sum


def atoms(dim: Dimension) -> Iterator[Atom]:
    """Every atom of `dim`, in order, as often as it occurs."""
    if isinstance(dim, Atom):
        yield dim
    elif isinstance(dim, Pick):
        yield dim.atom
    else:
        for child in dim.factors if isinstance(dim, Product) else dim.parts:
            yield from atoms(child)


def keep_mask(dim: Dimension, keep: Mapping[int, Mask]) -> Mask:
    """The keep mask, shape `(dim.size,)`, that the masks of its atoms imply; an atom without a mask is kept whole."""
    if isinstance(dim, Atom):
        mask = keep.get(dim.id)
        return np.ones(dim.size, dtype=np.bool_) if mask is None else mask
    if isinstance(dim, Pick):
        return keep_mask(dim.atom, keep)[list(dim.indices)]
    if isinstance(dim, Sum):
        return np.concatenate([keep_mask(part, keep) for part in dim.parts])
    mask = np.ones(1, dtype=np.bool_)
    for factor in dim.factors:
        mask = np.logical_and.outer(mask, keep_mask(factor, keep)).ravel()
    return mask


def count(dim: Dimension, counts: Mapping[int, int]) -> int:
    """How many indices of `dim` stay when `counts[atom.id]` of each atom stay (all, where it is absent)."""
    if isinstance(dim, Atom):
        return counts.get(dim.id, dim.size)
    if isinstance(dim, (Pick, Sum)):
        plain = countable(dim)
        return sum(count(part, counts) for part in plain.parts) if isinstance(plain, Sum) else count(plain, counts)
    total = 1
    for factor in dim.factors:
        total *= count(factor, counts)
    return total


def countable(dim: Dimension) -> Atom | Product | Sum:
    """A dimension of the same size for all counts, without picks: together they are their atoms, so many times."""
    if isinstance(dim, (Atom, Product)):
        return dim
    picked: dict[Atom, int] = {}
    parts: list[Dimension] = []
    for part in dim.parts if isinstance(dim, Sum) else (dim,):
        if isinstance(part, Pick):
            picked[part.atom] = picked.get(part.atom, 0) + part.size
        else:
            parts.append(part)
    if not picked and isinstance(dim, Sum):
        return dim
    parts.extend(atom for atom, size in picked.items() for _ in range(size // atom.size))
    only = parts[0] if len(parts) == 1 else None
    return only if isinstance(only, (Atom, Product)) else Sum(tuple(parts))


def project(dim: Dimension, values: Vector, totals: dict[int, Vector], combine: np.ufunc = np.add) -> None:
    """Combine `values`, one per index of `dim`, into the total of every index of every atom, in one walk.

    `totals[atom.id]`, shape `(atom.size,)`, is made where it is absent. An index of an atom receives the sum of the
    values of all indices of the axis that go when it goes; with `combine=np.maximum`, the largest of them.
    """
    if isinstance(dim, Atom):
        total = totals.get(dim.id)
        totals[dim.id] = values.astype(np.float64) if total is None else combine(total, values)
    elif isinstance(dim, Pick):
        start_value = np.zeros(dim.atom.size) if dim.atom.id not in totals else totals[dim.atom.id].copy()
        combine.at(start_value, list(dim.indices), values)
        totals[dim.atom.id] = start_value
    elif isinstance(dim, Sum):
        start = 0
        for part in dim.parts:
            project(part, values[start : start + part.size], totals, combine)
            start += part.size
    else:
        grid = values.reshape([factor.size for factor in dim.factors])
        for axis, factor in enumerate(dim.factors):
            others = tuple(i for i in range(grid.ndim) if i != axis)
            project(factor, combine.reduce(grid, axis=others), totals, combine)
