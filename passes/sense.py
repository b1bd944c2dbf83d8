"""sense: what the model loses when groups lose indices, where the allocation needs to know."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from onnxprune.errors import PassFailed, UsageError
from onnxprune.passmanager import option
from onnxprune.unit import Unit

if TYPE_CHECKING:
    from onnxprune.journal import Memo

__all__ = ["Sense"]

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
    evaluate: str = option("", "Labelled data for top-1 accuracy, or module:function that measures.", "PATH")
    preprocess: str = option("", "A TOML file that says how to preprocess stored images.", "FILE")
    round_to: str = option("auto", "Multiple to keep: what the runtime's kernels like on this machine, or N.", "auto|N")
    keep_min: int = option(1, "Indices of each group that stay at least.", "N", minimum=1)
    tie: tuple[str, ...] = option((), "Groups of that name and of one size keep equal counts.", "PATTERN")
    seed: int = option(0, "Seed of everything that is random.", "N", minimum=0)
    threads: int = option(1, "Threads of ONNX Runtime.", "N", minimum=1)

    def __post_init__(self) -> None:
        if self.objective == "metric" and not self.evaluate:
            raise UsageError("--objective metric needs --evaluate, which says what the metric is and of what data")

    @property
    def tries(self) -> bool:
        """Whether anything is tried, of which a journal could be kept."""
        from onnxprune.allocators import need_of

        return bool(need_of(self.allocation))

    def run(self, unit: Unit) -> Unit:
        """Measure what the allocation needs; nothing, for most."""
        from onnxprune.allocators import need_of

        need = need_of(self.allocation)
        if not need or not unit.candidates:
            return unit
        from onnxprune import cut
        from onnxprune.allocators import candidates, loss_of, multiple_of
        from onnxprune.evaluation import evaluation
        from onnxprune.objective import Objective, curves_of, repaired_on
        from onnxprune.recovery import stand_in
        from onnxprune.runtime.failure import RunFailed
        from onnxprune.runtime.machine import conv_block

        assert unit.analysis is not None
        assert unit.scores is not None
        if unit.samples is None:
            raise UsageError(f"--allocation {self.allocation} tries what cuts do to the outputs, and there are no "
                             "samples: give --calibration, or choose global or uniform")  # fmt: skip
        loss = loss_of(self.allocation) if self.objective == "auto" else self.objective
        evaluate = None
        if loss == "metric":
            spec = Path(self.preprocess) if self.preprocess else None
            evaluate = evaluation(self.evaluate, unit.source.inputs, spec)
        try:
            made = repaired_on(unit.samples, self.threads, self.seed) if loss == "repaired" else cut.mask
            judged = unit.analysis if evaluate is not None else stand_in(unit.analysis, unit.shift)
            found = Objective(
                judged, unit.scores.values, unit.samples, evaluate=evaluate, linear=loss == "linear",
                threads=self.threads, seed=self.seed, made=made, memo=self._memo(unit, loss),
            )  # fmt: skip
            if need == "trial":
                return replace(unit, trial=found)
            chosen = candidates(unit.analysis, unit.candidates, multiple_of(self.round_to), block=conv_block(),
                                keep_min=self.keep_min, tie=self.tie)  # fmt: skip
            curves = curves_of(found, chosen, watch=unit.watch)
        except RunFailed as failure:
            raise PassFailed(f"the model does not run on the calibration samples: {failure.reason}") from failure
        return replace(unit, curves=curves, notes=(*unit.notes, found.told))

    def _memo(self, unit: Unit, loss: str) -> Memo:
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
                 "metric": measured, "seed": self.seed,
                 "versions": versions()}  # fmt: skip
        return Memo(unit.journal, about)
