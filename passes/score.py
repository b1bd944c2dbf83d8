"""score: how important each index of each group is, by the criterion that the user chose."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from onnxprune.passmanager import option
from onnxprune.unit import Unit

__all__ = ["Score"]


@dataclass(frozen=True)
class Score:
    """Scores every index from all weights that leave or enter with it."""

    name: ClassVar[str] = "score"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis", "candidates"})
    gives: ClassVar[frozenset[str]] = frozenset({"scores"})

    criterion: str = option("l2", "What makes an index important: l1, l2, linf, bn-scale, random.", "NAME")
    seed: int = option(0, "Seed of everything that is random.", "N")

    def run(self, unit: Unit) -> Unit:
        """Score all groups; those without a score of this criterion are scored by l2, and the report says so."""
        from onnxprune.criteria import score

        assert unit.analysis is not None
        return replace(unit, scores=score(unit.analysis, self.criterion, seed=self.seed))
