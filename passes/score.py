"""score: how important each index of each group is, by the criterion that the user chose."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, TypedDict

from onnxprune.errors import UsageError
from onnxprune.passmanager import option
from onnxprune.unit import Unit
from onnxprune.watching import Watch

if TYPE_CHECKING:
    from onnxprune.analysis import Analysis
    from onnxprune.criteria import Scores

__all__ = ["Score"]

AGGREGATIONS = ("mean", "sum", "max", "product", "first")
NORMALISATIONS = ("mean", "none", "max", "standardise", "per-parameter", "lamp")
GONE = 1e-9  # how far below nothing the scores of what is gone are put
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

    criterion: str = option("auto", "What makes an index or a weight important; see docs/criteria.md.", "NAME")
    aggregate: str = option("mean", "How the sites of a group become one score.", choices=AGGREGATIONS)
    normalise: str = option("mean", "What each site's scores are divided by.", choices=NORMALISATIONS)
    seed: int = option(0, "Seed of everything that is random.", "N", minimum=0)
    threads: int = option(1, "Threads of ONNX Runtime and of repairs.", "N", minimum=1)

    def run(self, unit: Unit) -> Unit:
        """Score all groups; those without a score of this criterion are scored by l2, and the report says so."""
        from onnxprune.calibration import Cache, gather
        from onnxprune.criteria import criterion_of, resolved, score
        from onnxprune.divergence import divergence_of
        from onnxprune.recovery import stand_in
        from onnxprune.regrowth import regrown
        from onnxprune.silenced import silenced

        assert unit.analysis is not None
        original = unit.original or unit.analysis
        criterion = resolved(self.criterion, unit.has_data, "channels")
        if unit.regrow and criterion_of(criterion).data == "runs":
            raise UsageError(f"--regrow: {criterion!r} runs the model as it is, in which what is gone has no effect; "
                             "choose a criterion such as obd or l2")  # fmt: skip
        judged = unit.analysis
        if criterion_of(criterion).data != "weights":
            judged = stand_in(judged, unit.shift)
        now = silenced(judged, unit.plan if unit.step > 1 else None)
        own: _Own = {"threads": self.threads, "seed": self.seed, "watch": unit.watch}
        evidence = gather(
            criterion_of(criterion), now, unit.samples, known=unit.statistics, cache=Cache.of_user(),
            runs=lambda analysis, samples: divergence_of(analysis, samples, **own), **own,
        )  # fmt: skip
        unit = replace(unit, statistics=evidence.statistics if now is judged else None)
        if unit.regrow and now is not judged:
            evidence = replace(evidence, analysis=regrown(original, now))
        scores = score(evidence, criterion, aggregate=self.aggregate, normalise=self.normalise)
        notes = unit.notes
        if scores.missing:
            note = f"{criterion} says nothing of {len(scores.missing)} groups, which are scored by {FALLBACK}: "
            names = ", ".join(scores.missing[:4]) + (", ..." if len(scores.missing) > 4 else "")
            scores, notes = scores.filled(score(evidence, FALLBACK)), (*notes, note + names)
        if now is not judged:
            scores = _lasting(unit, evidence.analysis, scores, unit.regrow)
        return replace(unit, scores=scores, notes=notes)


def _lasting(unit: Unit, now: Analysis, scores: Scores, regrow: bool) -> Scores:
    """Scores of the model as it is pruned so far, by the groups of the original; what is gone is worth nothing.

    Of what is gone the best comes first, so that it comes back first where a group is given more again. With `regrow`
    it has a score of its own.
    """
    import numpy as np

    from onnxprune.criteria import Scores
    from onnxprune.silenced import same_atoms

    assert unit.analysis is not None
    assert unit.plan is not None
    assert unit.scores is not None
    places, values = same_atoms(unit.analysis, now), {}
    for group in unit.analysis.groups:
        known, found = unit.scores.values[group.atom.id], scores.values.get(places.get(group.atom.id, -1))
        keep = unit.plan.keep.get(group.atom.id)
        if found is None or len(found) != group.size:
            found = known
        if keep is not None and not regrow:
            rank = np.argsort(np.argsort(known)) / group.size
            found = np.where(keep, found, min(0.0, found[keep].min()) - GONE * (2 - rank))
        values[group.atom.id] = found
    made = Scores.of(scores.criterion, unit.analysis.groups, values)
    return replace(made, by=unit.scores.by)
