"""recover: repair what pruning broke, on calibration samples or from weights alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from onnxprune.errors import PassFailed, UsageError
from onnxprune.passmanager import option
from onnxprune.repairs import FITTED, METHODS
from onnxprune.unit import Recovery, Unit

if TYPE_CHECKING:
    from onnxprune.analysis import Analysis
    from onnxprune.model import Array

    Values = Mapping[str, Array]

__all__ = ["Recover"]

BATCH = 32  # samples that are run at once, at most
NO_DATA = (
    "without calibration data importance is judged by weights alone and nothing is repaired: give --calibration, a few "
    "hundred inputs without labels, to keep far more accuracy"
)
NORMS = "; its batch norms tell what real inputs are like, so --calibration synthetic helps, too, and needs none"


@dataclass(frozen=True)
class Recover:
    """Gives the weights that stay new values, so that the pruned model is nearer to the original.

    `reconstruct` refits every layer behind a cut by least squares (He et al. 2017), `joint` then all of them together
    by slopes, `norm` scale and bias alone, `merge` folds what goes into what is like it, without data. What is repaired
    is the original with silent weights, so what follows is proven of it as ever. A repair is taken only if held-out
    samples are better off.
    """

    name: ClassVar[str] = "recover"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis"})
    gives: ClassVar[frozenset[str]] = frozenset({"analysis"})

    recover: str = option(
        "auto", "Repair: reconstruct, joint, norm, merge, none, or what the data allow.", choices=METHODS
    )
    from_noise: bool = option(False, "Repair on random samples, too, although that makes most models worse.")
    seed: int = option(0, "Seed of everything that is random.", "N", minimum=0)
    threads: int = option(1, "Threads of ONNX Runtime and of repairs.", "N", minimum=1)

    def run(self, unit: Unit) -> Unit:
        """Repair the model of `unit.analysis` under its plan, or with the masks that it has already."""
        from onnxprune.dependency import analyse
        from onnxprune.recovery import norms_of, with_weights
        from onnxprune.remedies import warned

        assert unit.analysis is not None
        original = unit.original or unit.analysis
        analysis = original if unit.masking is None else unit.analysis
        unit = replace(unit, analysis=analysis, recovery=None)
        method, note = self._method(unit)
        cut_something = bool(unit.plan and unit.plan.keep) or analysis.model is not original.model or bool(unit.dropped)
        if method == "none" or not cut_something:
            more = NORMS if note and cut_something and norms_of(original) else ""
            return replace(unit, notes=(*unit.notes, *(f"{said}{more}" for said in note if cut_something)))
        values, recovery = self._repaired(unit, method, original)
        notes = (*unit.notes, *note)
        if not recovery.taken or not values:
            return replace(unit, recovery=recovery, notes=(*notes, *recovery.told, *warned(unit, recovery.left_with)))
        model = with_weights(analysis.model, values)
        again = analyse(model, analysis.shapes.sizes, allow=analysis.allow, prober=analysis.prober)
        if self.recover in ("auto", "joint") and method == "reconstruct" and not unit.shift:
            again, recovery = self._together(unit, original, again, recovery)
        masking = None if unit.masking is None else unit.masking.repaired(again.model)
        notes = (*notes, *recovery.told, *warned(unit, recovery.left_with))
        return replace(unit, analysis=again, original=original, masking=masking, recovery=recovery, notes=notes)

    def _together(
        self, unit: Unit, original: Analysis, again: Analysis, recovery: Recovery
    ) -> tuple[Analysis, Recovery]:
        from onnxprune.recovery import together

        assert unit.samples is not None
        found = together(
            original, again, unit.plan, unit.dropped, unit.samples,
            masked=unit.masking is not None, asked=self.recover == "joint", seed=self.seed, threads=self.threads,
            watch=lambda n, of: unit.watch("refit layers together", n, of),
        )  # fmt: skip
        return found.analysis, replace(recovery, after=found.after or recovery.after, together=found)

    def _method(self, unit: Unit) -> tuple[str, tuple[str, ...]]:
        """What to do, and what a user should know of that."""
        noise = unit.samples is not None and not unit.has_data and not self.from_noise
        if self.recover in FITTED and (unit.samples is None or noise):
            what = "random samples make it worse (--from-noise does it all the same)" if noise else "there are none"
            raise UsageError(f"--recover {self.recover} fits the model to calibration samples, and {what}: "
                             "give --calibration data.npz, or --recover merge")  # fmt: skip
        if self.recover == "merge" and (unit.masking is not None or unit.dropped):
            raise UsageError("--recover merge folds channels into each other, and here no channel is left out; give "
                             "--calibration for --recover reconstruct")  # fmt: skip
        if self.recover != "auto":
            return "reconstruct" if self.recover == "joint" else self.recover, ()
        if unit.samples is not None and not noise:
            return "reconstruct", ()
        return "none", (NO_DATA,)

    def _repaired(self, unit: Unit, method: str, original: Analysis) -> tuple[Values, Recovery]:
        from onnxprune.branches import drop
        from onnxprune.dependency import analyse
        from onnxprune.portions import there
        from onnxprune.recovery import folded, put_back, refitted, stand_in
        from onnxprune.runtime.failure import RunFailed
        from onnxprune.silenced import silenced

        assert unit.analysis is not None
        if method == "merge":
            assert unit.plan is not None
            values, number = folded(unit.analysis, unit.plan)
            return values, Recovery(method, None, None, folded=number, taken=number > 0)
        assert unit.samples is not None
        watch, pruned = unit.watch, silenced(stand_in(unit.analysis, unit.shift), unit.plan)
        if unit.dropped:
            pruned = analyse(drop(pruned, unit.dropped), pruned.shapes.sizes, prober=pruned.prober)
        try:
            found = refitted(
                stand_in(original, unit.shift), pruned, list(unit.samples.batches(there(original, BATCH))), method,
                None if unit.masking is None else unit.masking.choices,
                seed=self.seed, threads=self.threads, watch=lambda n, of: watch("repair layers", n, of),
            )  # fmt: skip
        except RunFailed as failure:
            raise PassFailed(f"the model does not run on the calibration samples: {failure.reason}") from failure
        return put_back(found.values, unit.shift), Recovery(
            method, found.before, found.after, found.repairs, taken=found.better, left=found.left
        )
