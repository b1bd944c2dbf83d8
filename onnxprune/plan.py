"""What is removed: for each group, which of its indices stay. The constructor is the only guard there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from onnxprune.dependency import Group
from onnxprune.dimensions import Mask
from onnxprune.errors import UsageError

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """`keep[atom id]` is the keep mask, shape `(group size,)`, of a group; a group without one stays whole.

    Made by `Plan.of`, which refuses what no model may become: an emptied group, a group that does not exist, a mask
    of another size. A group that keeps everything is left out, so that an empty plan changes nothing.
    """

    keep: Mapping[int, Mask]

    @staticmethod
    def of(groups: Sequence[Group], keep: Mapping[int, Mask]) -> Plan:
        """Check masks against the groups they are for; `UsageError` names the group and what is wrong."""
        sizes = {group.atom.id: group for group in groups}
        kept: dict[int, Mask] = {}
        for atom, mask in keep.items():
            group = sizes.get(atom)
            if group is None:
                raise UsageError(f"a plan for atom {atom}, which is no prunable group of this model")
            if mask.shape != (group.size,) or mask.dtype != np.bool_:
                raise UsageError(
                    f"group {group.name!r} needs a keep mask of {group.size} truth values, "
                    f"found {mask.dtype}{mask.shape}"
                )
            if not mask.any():
                raise UsageError(f"group {group.name!r} would be emptied: at least one index must stay")
            if not mask.all():
                fixed = mask.copy()
                fixed.flags.writeable = False
                kept[atom] = fixed
        return Plan(MappingProxyType(kept))

    def kept(self, group: Group) -> int:
        """How many indices of `group` stay."""
        mask = self.keep.get(group.atom.id)
        return group.size if mask is None else int(mask.sum())

    def without(self, atoms: frozenset[int]) -> Plan:
        """The plan that leaves some groups whole."""
        return Plan(MappingProxyType({atom: mask for atom, mask in self.keep.items() if atom not in atoms}))

    @property
    def counts(self) -> dict[int, int]:
        """How many indices stay, by atom id."""
        return {atom: int(mask.sum()) for atom, mask in self.keep.items()}
