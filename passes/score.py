"""score: how important each index of each group is, by the criterion that the user chose."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, TypedDict

from onnxprune.passmanager import option
from onnxprune.unit import Unit, Watch

__all__ = ["Score"]

AGGREGATIONS = ("mean", "sum", "max", "product", "first")
NORMALISATIONS = ("mean", "none", "max", "standardise", "per-parameter", "lamp")
FALLBACK = "l2"  # needs nothing but weights, so it scores every group


class _Own(TypedDict):
    """What statistics and runs of the model are computed with."""

    threads: int
    seed: int
    watch: Watch


@dataclass(frozen=True)
class Score:
    """Scores every index from all weights that leave or enter with it."""

    name: ClassVar[str] = "score"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis", "candidates"})
    gives: ClassVar[frozenset[str]] = frozenset({"scores"})

    criterion: str = option("l2", "What makes an index important: l2, wanda, ...; see docs/criteria.md.", "NAME")
    aggregate: str = option("mean", "How the sites of a group become one score.", choices=AGGREGATIONS)
    normalise: str = option("mean", "What each site's scores are divided by.", choices=NORMALISATIONS)
    seed: int = option(0, "Seed of everything that is random.", "N", minimum=0)
    threads: int = option(1, "Threads of ONNX Runtime.", "N", minimum=1)

    def run(self, unit: Unit) -> Unit:
        """Score all groups; those without a score of this criterion are scored by l2, and the report says so."""
        from onnxprune.calibration import Cache, gather
        from onnxprune.criteria import criterion_of, score
        from onnxprune.divergence import divergence_of

        assert unit.analysis is not None
        own: _Own = {"threads": self.threads, "seed": self.seed, "watch": unit.watch}
        evidence = gather(
            criterion_of(self.criterion), unit.analysis, unit.samples, known=unit.statistics, cache=Cache.of_user(),
            runs=lambda analysis, samples: divergence_of(analysis, samples, **own), **own,
        )  # fmt: skip
        unit = replace(unit, statistics=evidence.statistics)
        scores = score(evidence, self.criterion, aggregate=self.aggregate, normalise=self.normalise)
        if not scores.missing:
            return replace(unit, scores=scores)
        note = f"{self.criterion} says nothing of {len(scores.missing)} groups, which are scored by {FALLBACK}: "
        names = ", ".join(scores.missing[:4]) + (", ..." if len(scores.missing) > 4 else "")
        filled = scores.filled(score(evidence, FALLBACK))
        return replace(unit, scores=filled, notes=(*unit.notes, note + names))
