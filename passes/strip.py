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

    The result must equal the original itself, so the plan that `verify` masks the original with is empty.
    """

    name: ClassVar[str] = "strip"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis"})
    gives: ClassVar[frozenset[str]] = frozenset({"stripped", "model", "plan"})

    size: tuple[str, ...] = option((), "Example size of a symbolic dimension, such as height=320.", "NAME=N")

    def run(self, unit: Unit) -> Unit:
        """Find and remove, until there is nothing left to remove."""
        from onnxprune.lossless import shrink
        from onnxprune.model import parse_sizes
        from onnxprune.plan import Plan

        assert unit.analysis is not None
        found = shrink(unit.analysis, parse_sizes(self.size), unit.watch)
        return replace(
            unit,
            stripped=found,
            model=found.model if found.removed else unit.source,
            plan=Plan.of(unit.analysis.groups, {}),
        )
