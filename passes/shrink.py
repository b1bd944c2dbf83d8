"""shrink: remove what the plan removes, physically."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from onnxprune.unit import Unit

__all__ = ["Shrink"]

OVERRIDABLE = (
    "weights that are graph inputs as well were cut: a caller that feeds one of them must feed it in its new shape"
)


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
        model = cut.shrink(unit.analysis, unit.plan)
        source, notes = unit.source.weights, unit.notes
        if any(name in model.weights and model.weights[name].shape != source[name].shape
               for name in unit.source.overridable):  # fmt: skip
            notes = tuple(dict.fromkeys((*notes, OVERRIDABLE)))
        return replace(unit, model=model, notes=notes)
