"""select: which groups may be pruned at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar

from onnxprune.errors import UsageError
from onnxprune.passmanager import option
from onnxprune.unit import Unit

if TYPE_CHECKING:
    from onnxprune.dependency import Group

__all__ = ["Select"]


@dataclass(frozen=True)
class Select:
    """Chooses groups by name: a pattern matches a group's own name or the name of a weight that it cuts."""

    name: ClassVar[str] = "select"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis"})
    gives: ClassVar[frozenset[str]] = frozenset({"candidates"})

    granularity: str = option(
        "channel", "What is removed: indices of any group, or only whole heads.", choices=("channel", "head")
    )
    include: tuple[str, ...] = option((), "Prune only groups whose name, or a weight of theirs, matches.", "PATTERN")
    exclude: tuple[str, ...] = option((), "Leave alone groups whose name, or a weight of theirs, matches.", "PATTERN")

    def run(self, unit: Unit) -> Unit:
        """Filter the groups; a pattern that matches nothing is a mistake of the user's."""
        assert unit.analysis is not None
        groups = unit.analysis.groups
        for pattern in (*self.include, *self.exclude):
            if not any(_matches(group, pattern) for group in groups):
                names = ", ".join(group.name for group in groups[:8])
                raise UsageError(
                    f"the pattern {pattern!r} matches no prunable group or weight of {unit.source.source!r}; "
                    f"groups are {names or 'none'}{', ...' if len(groups) > 8 else ''} (see 'onnxprune inspect')"
                )
        if self.granularity == "head":
            groups = tuple(group for group in groups if group.kind == "head")
            if not groups:
                raise UsageError(
                    f"{unit.source.source!r} has no attention heads that can be pruned (see 'onnxprune inspect')"
                )
        chosen = [g for g in groups if not self.include or any(_matches(g, p) for p in self.include)]
        chosen = [g for g in chosen if not any(_matches(g, p) for p in self.exclude)]
        return replace(unit, candidates=tuple(chosen))


def _matches(group: Group, pattern: str) -> bool:
    return fnmatchcase(group.name, pattern) or any(fnmatchcase(site.tensor, pattern) for site in group.sites)
