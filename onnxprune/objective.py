"""What a model loses when only so many indices of each group stay: a function of counts, for allocators that search.

Which indices stay follows from scores: the best. For each trial the model is masked, not gated and not cut: a session
of a masked model is made in a tenth of the time that it runs, gates between layers would double that time, for they
keep the runtime from fusing them, and odd widths are slower than whole ones.

The loss is the divergence of the outputs from the original's on calibration samples, or how far their scores have
moved, or what no linear map of them tells of the original's, or, with an evaluation, what its first metric loses. It is
never below 0.

A trial is known by the indices that stay. So whoever asks, curve, search or agent, gets from a memo what was tried
before, by this run or, where the memo has a journal, by one that was stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np

from onnxprune import cut
from onnxprune.allocators import Candidate, Curve, choose
from onnxprune.analysis import Analysis
from onnxprune.cost import Costs
from onnxprune.data import Samples
from onnxprune.dimensions import Vector
from onnxprune.divergence import Divergence, divergence_of
from onnxprune.errors import PassFailed
from onnxprune.evaluation import Evaluate
from onnxprune.journal import Memo
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.portions import there
from onnxprune.recovery import with_weights
from onnxprune.recovery.reconstruct import repaired
from onnxprune.resuming import Resuming
from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.session import Options, Session
from onnxprune.silenced import silenced
from onnxprune.stamp import place_of
from onnxprune.watching import Watch

__all__ = ["MOST", "POINTS", "Objective", "affordable", "counts_of", "curves_of", "repaired_on"]

MOST = 128  # samples
FITTED, BATCH, ROWS = 128, 32, 32  # samples that a repair in a trial is fitted to, in batches at most, rows of each;
# of fewer samples more rows each, as many in all
WORK = 1.3e12  # multiply-accumulates of curves that nobody asked for: a quarter of a minute or so on one core
LONGEST = 2.5e12  # of the coarsest curves, without which a large model would have none
POINTS = 9  # counts of a group at which a curve is measured, at most

Far: TypeAlias = Literal["divergence", "moved", "unexplained"]
"""In which sense outputs are far from the original's: see the methods of `Divergence`, of which `of` is the first."""


class Objective:
    """Maps counts (kept indices by atom; an absent atom is whole) to a loss; the same counts are run once.

    `measure` says what the loss is: `KL` (nats), `relative` (of the outputs' root mean square, or where that is asked
    for of the scores'), `unexplained variance` (a share), or a metric's name. `trials` counts what was tried. `made`
    makes the model of a plan that is run; a masked one is as good as a cut one. `memo` is asked before anything is run;
    its `about` says on what losses depend, beside the indices that stay. Errors: `PassFailed` where a trial does not
    run.
    """

    def __init__(
        self,
        analysis: Analysis,
        scores: Mapping[int, Vector],
        samples: Samples,
        *,
        evaluate: Evaluate | None = None,
        most: int = MOST,
        far: Far = "divergence",
        threads: int = 1,
        seed: int = 0,
        made: Callable[[Analysis, Plan], Model] = cut.mask,
        memo: Memo | None = None,
    ) -> None:
        self._analysis, self._scores, self._evaluate, self._made = analysis, scores, evaluate, made
        self._threads = threads
        self._divergence: Divergence = divergence_of(analysis, samples, most=most, threads=threads, seed=seed)
        self._resuming = Resuming(analysis, self._divergence.feeds, threads)
        self._memo = Memo() if memo is None else memo
        self._groups = {group.atom.id: group for group in analysis.groups}
        of = self._divergence
        self._far, self.measure = {
            "divergence": (of.of, of.measure),
            "moved": (of.moved, "relative"),
            "unexplained": (of.unexplained, "unexplained variance"),
        }[far]
        self._before = 0.0
        if evaluate is not None:
            found = evaluate(lambda feed: self._divergence.run({}, feed))
            self.measure, self._before = next(iter(found.items()))

    @property
    def trials(self) -> int:
        """How many different cuts were tried so far, in this run or, as the journal says, in an earlier one."""
        return self._memo.computed + self._memo.remembered

    @property
    def told(self) -> str:
        """What was tried so far, as a sentence of the report."""
        earlier = f", {self._memo.remembered} of them in an earlier run" if self._memo.remembered else ""
        return f"allocation: tried {self.trials} cuts, by their {self.measure}{earlier}"

    def __call__(self, counts: Mapping[int, int]) -> float:
        """The loss when so many indices of each group stay."""
        kept = {atom: count for atom, count in counts.items() if count < self._groups[atom].size}
        if not kept:
            return 0.0
        masks = choose({atom: self._scores[atom] for atom in kept}, kept)
        named = {place_of(self._groups[atom]): np.packbits(mask).tobytes().hex() for atom, mask in masks.items()}
        return self._memo(lambda: self._tried(Plan.of(self._analysis.groups, masks)), kept=named)

    def _tried(self, plan: Plan) -> float:
        try:
            return max(self._loss(self._made(self._analysis, plan)), 0.0)
        except RunFailed as failure:
            raise PassFailed(f"a cut that the allocation tries does not run: {failure.reason}") from failure

    def _loss(self, model: Model) -> float:
        if self._evaluate is None:
            found = self._resuming.outputs(model)
            return self._far(lambda _: next(found))
        session = Session(model.to_bytes(), Options(threads=self._threads))
        return self._before - next(iter(self._evaluate(session.run).values()))


def repaired_on(samples: Samples, threads: int = 1, seed: int = 0) -> Callable[[Analysis, Plan], Model]:
    """A way to make the model of a plan: masked, then every layer behind refitted on a part of the samples.

    It takes about ten times as long as a trial without. What indices are worth depends on the repair, and after a deep
    cut the outputs before it tell next to nothing of those after it.
    """
    fitted = samples.take(FITTED, seed + 1)
    rows = ROWS * FITTED // max(len(fitted), 1)

    def made(analysis: Analysis, plan: Plan) -> Model:
        batches, pruned = list(fitted.batches(there(analysis, BATCH))), silenced(analysis, plan)
        found = repaired(analysis, pruned, batches, limit=rows, within=False, seed=seed, threads=threads)
        return with_weights(pruned.model, found.pruned_values)

    return made


def affordable(analysis: Analysis, groups: int) -> tuple[int, int] | None:
    """Samples, and points of each curve, with which curves of so many groups are no long wait; None where none are."""
    macs = Costs.of(analysis).total("macs")
    efforts = ((MOST, POINTS), (64, POINTS), (64, 5), (32, 5))
    least = efforts[-1] if macs * groups * efforts[-1][0] * efforts[-1][1] <= LONGEST else None
    return next((e for e in efforts if macs * groups * e[0] * e[1] <= WORK), least)


def curves_of(
    objective: Callable[[Mapping[int, int]], float],
    candidates: Sequence[Candidate],
    points: int = POINTS,
    watch: Watch | None = None,
) -> dict[int, Curve]:
    """The curve of each candidate's atom, the others being whole; of tied atoms together, the same under each.

    It is measured at multiples of the candidate's step, spread evenly, at most `points` of them (Li et al., arXiv
    1608.08710, section 3.2).
    """
    wanted = [(candidate, kept) for candidate in candidates for kept in counts_of(candidate, points)]
    measured: dict[int, list[tuple[int, float]]] = {candidate.atom: [] for candidate in candidates}
    for done, (candidate, kept) in enumerate(wanted):
        if watch is not None:
            watch(f"measure curves ({candidate.name})", done, len(wanted))
        measured[candidate.atom].append((kept, objective(dict.fromkeys(candidate.atoms, kept))))
    curves = {candidate.atom: Curve.of(candidate.size, measured[candidate.atom]) for candidate in candidates}
    return {atom: curves[candidate.atom] for candidate in candidates for atom in candidate.atoms}


def counts_of(candidate: Candidate, points: int) -> list[int]:
    """The counts at which a candidate is measured: the lowest that it may have, and others below all of it."""
    every = candidate.options[:-1]
    if len(every) <= points:
        return every
    return [every[round(k * (len(every) - 1) / (points - 1))] for k in range(points)]
