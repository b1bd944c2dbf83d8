"""sense: what the model loses when groups lose indices, where the allocation needs to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from onnxprune.errors import PassFailed, UsageError
from onnxprune.passmanager import option
from onnxprune.repairs import METHODS
from onnxprune.unit import Unit

if TYPE_CHECKING:
    from onnxprune.analysis import Analysis
    from onnxprune.journal import Memo
    from onnxprune.model import Model
    from onnxprune.objective import Far, Objective
    from onnxprune.plan import Plan

__all__ = ["Sense"]

FAR: Mapping[str, Far] = {"linear": "unexplained", "repaired": "moved"}  # of an objective; others: divergence
OBJECTIVES = ("auto", "outputs", "linear", "repaired", "metric")


@dataclass(frozen=True)
class Sense:
    """Gives loss curves, or a trial of any counts, to allocations that choose by what a cut does to the outputs."""

    name: ClassVar[str] = "sense"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis", "candidates", "scores"})
    gives: ClassVar[frozenset[str]] = frozenset()

    allocation: str = option("auto", "How much to take from where; see docs/allocation.md.", "NAME")
    objective: str = option("auto", "What a trial loses: how far outputs are, what no linear map of them tells, how "
                            "far they are once repaired, or the metric of --evaluate.", choices=OBJECTIVES)  # fmt: skip
    recover: str = option("auto", "Repair: reconstruct, norm, merge, none, or what data allow.", choices=METHODS)
    target: tuple[str, ...] = option(
        (), "What may stay: macs=0.5, latency=4ms, size=2MB, memory=0.5, params=0.3; metric>=0.9.", "BUDGET=F"
    )
    evaluate: str = option("", "Labelled data for top-1 accuracy, or module:function that measures.", "PATH")
    preprocess: str = option("", "A TOML file that says how to preprocess stored images.", "FILE")
    round_to: str = option("auto", "Multiple to keep: what the runtime's kernels like on this machine, or N.", "auto|N")
    keep_min: int = option(1, "Indices of each group that stay at least.", "N", minimum=1)
    tie: tuple[str, ...] = option((), "Groups of that name and of one size keep equal counts.", "PATTERN")
    seed: int = option(0, "Seed of everything that is random.", "N", minimum=0)
    threads: int = option(1, "Threads of ONNX Runtime and of repairs.", "N", minimum=1)

    def __post_init__(self) -> None:
        if self.objective == "metric" and not self.evaluate:
            raise UsageError("--objective metric needs --evaluate, which says what the metric is and of what data")

    @property
    def tries(self) -> bool:
        """Whether anything is tried, of which a journal could be kept."""
        from onnxprune.allocators import needs_of

        return bool(needs_of(self.allocation) or (self.allocation == "auto" and self.target))

    def run(self, unit: Unit) -> Unit:
        """Measure what the allocation needs; nothing, for most."""
        needs, samples, points = self._needs(unit)
        if not needs or not unit.candidates:
            return unit
        from onnxprune.allocators import candidates, multiple_of
        from onnxprune.objective import curves_of
        from onnxprune.runtime.failure import RunFailed
        from onnxprune.runtime.machine import conv_block

        assert unit.analysis is not None
        analysis, groups = unit.analysis, unit.candidates
        if unit.samples is None:
            raise UsageError(f"--allocation {self.allocation} tries what cuts do to the outputs, and there are no "
                             "samples: give --calibration, or choose global or uniform")  # fmt: skip
        try:
            if "trial" in needs:
                unit = replace(unit, trial=self._objective(unit, needs["trial"], samples))
            if "guard" in needs:
                unit = replace(unit, guard=self._objective(unit, needs["guard"], samples))
            if "curves" in needs:
                chosen = candidates(analysis, groups, multiple_of(self.round_to), block=conv_block(),
                                    keep_min=self.keep_min, tie=self.tie)  # fmt: skip
                objective = self._objective(unit, needs["curves"], samples)
                curves = curves_of(objective, chosen, points, watch=unit.watch)
                unit = replace(unit, curves=curves, notes=(*unit.notes, objective.told))
        except RunFailed as failure:
            raise PassFailed(f"the model does not run on the calibration samples: {failure.reason}") from failure
        return unit

    def _needs(self, unit: Unit) -> tuple[Mapping[str, str], int, int]:
        """What is to be measured, and of what loss; on how many samples at most, and points of each curve.

        `auto` tries cuts where there are targets and data, and what that takes is in proportion.
        """
        from onnxprune.allocators import needs_of
        from onnxprune.objective import MOST, POINTS, affordable

        effort: tuple[int, int] | None = MOST, POINTS
        needs = dict(needs_of(self.allocation))
        if self.allocation == "auto" and unit.has_data and not unit.shift and self.target:
            assert unit.analysis is not None
            needs = dict(needs_of("best"))
            effort = affordable(unit.analysis, len(unit.candidates or ()))
            if effort is None:
                del needs["curves"]
        if self.objective != "auto":
            needs = {what: loss if what == "guard" else self.objective for what, loss in needs.items()}
        elif self.recover not in ("auto", "reconstruct", "joint"):  # a trial as what will be written
            needs = {what: "outputs" if loss == "repaired" else loss for what, loss in needs.items()}
        return needs, *(effort or (MOST, POINTS))

    def _objective(self, unit: Unit, loss: str, most: int) -> Objective:
        from onnxprune import cut
        from onnxprune.evaluation import evaluation
        from onnxprune.objective import Objective, repaired_on
        from onnxprune.recovery import stand_in

        assert unit.analysis is not None
        assert unit.scores is not None
        assert unit.samples is not None
        evaluate, judged = None, unit.samples
        made: Callable[[Analysis, Plan], Model] = cut.mask
        if loss == "metric":
            evaluate = evaluation(self.evaluate, unit.source.inputs, Path(self.preprocess) if self.preprocess else None)
        elif loss == "repaired":
            fitted, judged = unit.samples.halves(self.seed)
            made = repaired_on(fitted, self.threads, self.seed)
        analysis = unit.analysis if evaluate is not None else stand_in(unit.analysis, unit.shift)
        return Objective(analysis, unit.scores.values, judged, evaluate=evaluate, most=most, made=made,
                         far=FAR.get(loss, "divergence"), threads=self.threads, seed=self.seed,
                         memo=self._memo(unit, loss, most))  # fmt: skip

    def _memo(self, unit: Unit, loss: str, most: int) -> Memo:
        """What was tried before; where there is a journal, also by runs of the same model, samples and loss."""
        from onnxprune.calibration import samples_print
        from onnxprune.fingerprints import data_print, versions
        from onnxprune.journal import Memo

        if unit.journal is None:
            return Memo()
        assert unit.analysis is not None
        assert unit.samples is not None
        measured = [data_print(name) for name in (self.evaluate, self.preprocess)] if loss == "metric" else []
        about = {"model": unit.analysis.model.digest, "allow": sorted(unit.analysis.allow),
                 "samples": samples_print(unit.samples), "stand-in": bool(unit.shift), "loss": loss,
                 "most": most, "metric": measured, "seed": self.seed, "versions": versions()}  # fmt: skip
        return Memo(unit.journal, about)
