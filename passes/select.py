"""select: which groups may be pruned at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar

from onnxprune.errors import UsageError
from onnxprune.passmanager import option
from onnxprune.unit import Unit

if TYPE_CHECKING:
    from onnxprune.dependency import Group

__all__ = ["Select"]

GRANULARITIES = ("channel", "head")  # all others have pipelines of their own, which api.prune chooses


@dataclass(frozen=True)
class Select:
    """Chooses groups by pattern: by their own names, or, where none matches, by the names of the weights they cut.

    So the name that `inspect` shows means that group alone, although the next group cuts the weight of that name too.
    """

    name: ClassVar[str] = "select"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis"})
    gives: ClassVar[frozenset[str]] = frozenset({"candidates"})

    granularity: str = option(
        "channel",
        "What goes: channel (any group), head or branch; or, with shapes as they are, element, N:M (2:4), vector:N, "
        "block:RxC, kernel, stripe, pattern.",
        "FORM",
    )
    include: tuple[str, ...] = option(
        (), "Prune only groups of that name, or else those that cut it; masks: layers.", "PATTERN"
    )
    exclude: tuple[str, ...] = option(
        (), "Leave alone groups of that name, or else those that cut it; masks: layers.", "PATTERN"
    )

    allow_inexact: tuple[str, ...] = option(
        (), "Open what norms, reductions or softmax fix: norm, reduce, softmax. Not exact.", "KIND[,KIND]"
    )

    def __post_init__(self) -> None:
        if self.granularity not in GRANULARITIES:
            raise UsageError(
                f"--granularity {self.granularity!r}: a pipeline with a pass 'select' has {', '.join(GRANULARITIES)}; "
                "residual branches have the pipeline 'branch', masks of weights have 'mask'"
            )
        from onnxprune.rules.facts import inexact_kinds

        inexact_kinds(self.allow_inexact)  # one that there is not is told before anything runs

    def run(self, unit: Unit) -> Unit:
        """Filter the groups; a pattern that matches nothing is a mistake of the user's."""
        from onnxprune.dependency import analyse
        from onnxprune.rules.facts import inexact_kinds

        assert unit.analysis is not None
        if self.allow_inexact:
            known, kinds = unit.analysis, inexact_kinds(self.allow_inexact)
            again = analyse(unit.source, known.shapes.sizes, allow=kinds, prober=known.prober)
            unit = replace(unit, analysis=again)
        assert unit.analysis is not None
        included = self._matching(unit, self.include) if self.include else set(unit.analysis.groups)
        chosen = included - self._matching(unit, self.exclude)
        if self.granularity == "head":
            chosen = {group for group in chosen if group.kind == "head"}
            if not chosen:
                raise UsageError(
                    f"{unit.source.source!r} has no attention heads to choose from (see 'onnxprune inspect')"
                )
        return replace(unit, candidates=tuple(group for group in unit.analysis.groups if group in chosen))

    def _matching(self, unit: Unit, patterns: Sequence[str]) -> set[Group]:
        assert unit.analysis is not None
        groups = unit.analysis.groups
        found: set[Group] = set()
        for pattern in patterns:
            named = {g for g in groups if fnmatchcase(g.name, pattern)}
            named = named or {g for g in groups if any(fnmatchcase(site.tensor, pattern) for site in g.sites)}
            if not named:
                names = ", ".join(group.name for group in groups[:8])
                raise UsageError(
                    f"the pattern {pattern!r} matches no prunable group or weight of {unit.source.source!r}; "
                    f"groups are {names or 'none'}{', ...' if len(groups) > 8 else ''} (see 'onnxprune inspect')"
                )
            found |= named
        return found
