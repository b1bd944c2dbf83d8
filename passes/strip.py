"""strip: remove what changes no output, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from onnxprune.passmanager import option
from onnxprune.unit import Unit

__all__ = ["Strip"]


@dataclass(frozen=True)
class Strip:
    """Removes what is dead: unread, zero, constant and duplicate channels, and what no output depends on.

    The result must equal the original itself (or the one whose weights were masked), so the plan that `verify` masks it
    with is empty. Where masks are made of runs of indices (2:4), nothing is removed: the runs would shift.
    """

    name: ClassVar[str] = "strip"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis"})
    gives: ClassVar[frozenset[str]] = frozenset({"stripped", "model", "plan"})

    size: tuple[str, ...] = option((), "Example size of a symbolic dimension, such as height=320.", "NAME=N")

    def run(self, unit: Unit) -> Unit:
        """Find and remove, until there is nothing left to remove."""
        from onnxprune.lossless import Shrunk, shrink
        from onnxprune.model import parse_sizes
        from onnxprune.plan import Plan

        assert unit.analysis is not None
        found, notes = shrink(unit.analysis, parse_sizes(self.size), unit.watch), unit.notes
        if unit.masking is not None and unit.masking.granularity.aligned and found.removed:
            form, dead = unit.masking.granularity.text, sum(g.size - found.plan.kept(g) for g in unit.analysis.groups)
            found = Shrunk(unit.analysis, Plan.of(unit.analysis.groups, {}))
            if dead:
                notes = (*notes, f"{dead} indices are dead now, and stay: removing them would break the runs of {form} "
                         "('onnxprune shrink' removes them)")  # fmt: skip
        model = found.model if found.removed else unit.reference
        return replace(unit, stripped=found, model=model, plan=Plan.of(unit.analysis.groups, {}), notes=notes)
