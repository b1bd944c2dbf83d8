"""What a criterion says: one number for every index of every group, the higher the more it matters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from onnxprune.dependency import Group
from onnxprune.dimensions import Vector

__all__ = ["Scores"]


@dataclass(frozen=True)
class Scores:
    """`values[atom id]`, float64 of shape `(group size,)`; `missing` names the groups of which nothing can be said.

    `by[atom id]` is the criterion that a group's scores come from, where others have filled in.
    """

    criterion: str
    values: Mapping[int, Vector]
    missing: tuple[str, ...] = ()
    by: Mapping[int, str] = field(default_factory=dict)

    @staticmethod
    def of(criterion: str, groups: Iterable[Group], values: Mapping[int, Vector]) -> Scores:
        """The scores of `groups` among `values`; a group without one is missing."""
        groups = tuple(groups)
        found = {group.atom.id: values[group.atom.id] for group in groups if group.atom.id in values}
        missing = tuple(group.name for group in groups if group.atom.id not in values)
        return Scores(criterion, MappingProxyType(found), missing, MappingProxyType(dict.fromkeys(found, criterion)))

    def filled(self, other: Scores) -> Scores:
        """These scores, and those of `other` for the groups that are missing here."""
        values = {**other.values, **self.values}
        missing = tuple(name for name in self.missing if name in other.missing)
        by = MappingProxyType({**other.by, **self.by})
        return Scores(self.criterion, MappingProxyType(values), missing, by)
