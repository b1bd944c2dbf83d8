"""shrink: remove what the plan removes, physically."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from onnxprune.unit import Unit

__all__ = ["Shrink"]


@dataclass(frozen=True)
class Shrink:
    """Cuts every weight along the plan and corrects the numbers that count or index what was cut."""

    name: ClassVar[str] = "shrink"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis", "plan"})
    gives: ClassVar[frozenset[str]] = frozenset({"model"})

    def run(self, unit: Unit) -> Unit:
        """Make the smaller model."""
        from onnxprune import cut

        assert unit.analysis is not None
        assert unit.plan is not None
        return replace(unit, model=cut.shrink(unit.analysis, unit.plan))
