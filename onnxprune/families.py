"""Single indices that were told apart, put together again: what makes a permuted axis prunable.

A Gather by known numbers, or a flip, needs every index of an axis for itself: its rule says that the axis is a sum of
units, atoms of one index. A unit alone can never be cut, for an axis could be emptied. But units that occur in exactly
the same sums, equally often in each, can share one decision per index: they are a *family*, one atom again, and each
sum holds the family in an order of its own (`Pick`).

1. A unit that stands alone, as a whole axis or as a factor of a product, stays as it is.
2. A unit that is fixed stays as it is.
3. Every sum that holds one unit of a family holds all of them, so no sum is emptied while one index of it stays.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from onnxprune.dimensions import Atom, Dimension, Pick, Product, Sum

__all__ = ["Families"]


class Families:
    """The families among all `dims` of a model, and the expressions with families in the place of units.

    `free` says whether a unit may be cut at all (cases 1 and 2 are the caller's to know).
    """

    def __init__(self, dims: Iterable[Dimension], free: Callable[[Atom], bool]) -> None:
        self._member: dict[int, tuple[Atom, int]] = {}  # unit id -> (family, index in it)
        self._done: dict[Dimension, Dimension] = {}
        self._find(dims, free)

    def _find(self, dims: Iterable[Dimension], free: Callable[[Atom], bool]) -> None:
        sums: dict[Sum, int] = {}
        alone: set[int] = set()
        for dim in dims:
            _collect(dim, sums, alone)
        occurrences: dict[Atom, list[tuple[int, int]]] = defaultdict(list)
        for found, number in sums.items():
            units = Counter(part for part in found.parts if isinstance(part, Atom) and part.size == 1)
            for unit, times in units.items():
                occurrences[unit].append((number, times))
        families: dict[tuple[tuple[int, int], ...], list[Atom]] = defaultdict(list)
        for unit, found_in in occurrences.items():
            if unit.id not in alone and free(unit):
                families[tuple(found_in)].append(unit)
        for members in families.values():
            if len(members) > 1:
                family = Atom(members[0].id, len(members))
                self._member |= {unit.id: (family, index) for index, unit in enumerate(members)}

    def rewrite(self, dim: Dimension) -> Dimension:
        """`dim` with its units replaced by picks of their families; an ordered whole family is the family itself."""
        if not self._member or isinstance(dim, Atom):
            return dim
        known = self._done.get(dim)
        if known is None:
            known = self._done[dim] = self._rewritten(dim)
        return known

    def _rewritten(self, dim: Dimension) -> Dimension:
        if isinstance(dim, Product):
            return Product(tuple(self.rewrite(factor) for factor in dim.factors))
        if not isinstance(dim, Sum):
            return dim
        parts: list[Dimension] = []
        run: list[int] = []
        family: Atom | None = None
        for part in dim.parts:
            member = self._member.get(part.id) if isinstance(part, Atom) else None
            if run and (member is None or member[0] is not family):
                assert family is not None
                parts.append(_picked(family, run))
                run = []
            if member is None:
                parts.append(self.rewrite(part))
            else:
                family = member[0]
                run.append(member[1])
        if run:
            assert family is not None
            parts.append(_picked(family, run))
        return parts[0] if len(parts) == 1 else Sum(tuple(parts))


def _picked(family: Atom, indices: list[int]) -> Dimension:
    if indices == list(range(family.size)):
        return family
    return Pick(family, tuple(indices))


def _collect(dim: Dimension, sums: dict[Sum, int], alone: set[int]) -> None:
    """Every sum inside `dim`, and the units that stand outside of sums."""
    if isinstance(dim, Atom):
        if dim.size == 1:
            alone.add(dim.id)
    elif isinstance(dim, Product):
        for factor in dim.factors:
            _collect(factor, sums, alone)
    elif isinstance(dim, Sum) and dim not in sums:
        sums[dim] = len(sums)
        for part in dim.parts:
            if not isinstance(part, Atom):
                _collect(part, sums, alone)
