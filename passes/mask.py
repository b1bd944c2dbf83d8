"""mask: set single weights, or small patterns of them, to zero; shapes stay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from onnxprune.errors import GateNotMet, UsageError
from onnxprune.passmanager import option
from onnxprune.schedules import SCHEDULES, share
from onnxprune.unit import Unit

if TYPE_CHECKING:
    from onnxprune.criteria import Criterion
    from onnxprune.sparsity import Granularity, Masking, Target

__all__ = ["Mask"]

DEFAULT_SPARSITY = 0.5
NORMALISATIONS = ("mean", "none", "max", "standardise", "per-parameter", "lamp")


@dataclass(frozen=True)
class Mask:
    """Sets the least important weights of every layer to zero, in the form that `granularity` says.

    What follows takes the masked model as what there is: `strip` removes what died, `verify` proves that it had.
    """

    name: ClassVar[str] = "mask"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis"})
    gives: ClassVar[frozenset[str]] = frozenset({"masking", "analysis"})

    granularity: str = option("element", "element, N:M (2:4), vector:N, block:RxC, kernel, stripe or pattern.", "FORM")
    sparsity: float | None = option(None, "Fraction of the weights to set to zero (0.5; N:M states its own).", "F")
    criterion: str = option("auto", "What makes an index or a weight important; see docs/criteria.md.", "NAME")
    allocation: str = option("auto", "How much from which layer: uniform, global, erk, loss, or what suits.", "NAME")
    normalise: str = option("lamp", "What makes layers comparable for a global allocation.", choices=NORMALISATIONS)
    compare: str = option(
        "auto", "Masks: what a weight is weighed against, its layer or its output.", choices=("auto", "layer", "output")
    )
    include: tuple[str, ...] = option((), "Mask only layers or weights of that name, or op:TYPE.", "PATTERN")
    exclude: tuple[str, ...] = option((), "Leave alone layers or weights of that name, or op:TYPE.", "PATTERN")
    skip: tuple[str, ...] = option((), "Masks: leave alone the first or last layer (default: neither).", "first,last")
    embeddings: bool = option(False, "Masks: set weights of embeddings to zero, too.")
    best_effort: bool = option(False, "Write what can be had if a target cannot be reached.")
    steps: int = option(1, "Prune in so many steps, with scores and repair anew after each.", "N", minimum=1)
    schedule: str = option("cubic", "How far each step goes: linear, or cubic (far at first).", choices=SCHEDULES)
    seed: int = option(0, "Seed of everything that is random.", "N", minimum=0)
    threads: int = option(1, "Threads of ONNX Runtime and of repairs.", "N", minimum=1)

    def __post_init__(self) -> None:
        from onnxprune.sparsity import granularity_of

        form = granularity_of(self.granularity)
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise UsageError(f"--sparsity {self.sparsity:g}: expected the fraction to set to zero, at least 0, below 1")
        if self.sparsity is not None and form.stated((1, 64, 64, 9)) is not None:
            raise UsageError(f"--sparsity {self.sparsity:g}: {form.text} says how much goes; give one of them")

    def run(self, unit: Unit) -> Unit:
        """Choose, judge, mask, and analyse what came of it."""
        from onnxprune.calibration import Cache, gather
        from onnxprune.criteria import criterion_of, resolved
        from onnxprune.dependency import analyse
        from onnxprune.layers import left_alone
        from onnxprune.recovery import stand_in
        from onnxprune.regrowth import regrown
        from onnxprune.sparsity import chosen, granularity_of, mask, skipped

        assert unit.analysis is not None
        back = unit.original if unit.regrow else None
        known = back or unit.analysis
        targets = chosen(known, self.include, self.exclude, skipped(self.skip), self.embeddings)
        criterion, form = (
            criterion_of(resolved(self.criterion, unit.has_data, "weights", (x for t in targets for x in t.layers))),
            granularity_of(self.granularity),
        )
        judged = unit.analysis if criterion.data == "weights" else stand_in(unit.analysis, unit.shift)
        evidence = gather(criterion, judged, unit.samples, known=unit.statistics, threads=self.threads, seed=self.seed,
                          watch=unit.watch, cache=Cache.of_user())  # fmt: skip
        if back is not None:
            evidence = replace(evidence, analysis=regrown(back, unit.analysis))
        found = mask(
            known, targets, evidence, criterion, form,
            DEFAULT_SPARSITY if self.sparsity is None else self.sparsity,
            allocation=_suiting(form, criterion) if self.allocation == "auto" else self.allocation,
            normalise=self.normalise, share=share(unit.step, self.steps, self.schedule), watch=unit.watch,
            per_output=(criterion.compare if self.compare == "auto" else self.compare) == "output",
        )  # fmt: skip
        if unit.masking is not None and back is None:
            found = found.following(unit.masking)
        self._judge(unit, found)
        analysis = known
        if found.model is known.model:
            same = unit.step == 1 and not (unit.reordering and unit.reordering.orders)
            found = replace(found, model=unit.source if same else known.model)
        else:
            analysis = analyse(found.model, known.shapes.sizes, prober=known.prober)
        others = left_alone(known, tuple(layer for target in targets for layer in target.layers))
        return replace(
            unit, analysis=analysis, original=unit.original or known, statistics=evidence.statistics, masking=found,
            targets={"sparsity": (found.asked, found.reached)},
            notes=(*unit.notes, *self._notes(found, targets, others, criterion.name)),
        )  # fmt: skip

    def _judge(self, unit: Unit, found: Masking) -> None:
        """Nothing was masked though something was to be: not met, unless that is fine."""
        if any(not weight.why_not for weight in found.weights) or self.best_effort:
            return
        reasons = "; ".join(dict.fromkeys(weight.why_not for weight in found.weights)) or "no layer has a weight"
        raise GateNotMet(
            f"nothing of {unit.source.source!r} can be masked at {self.granularity}: {reasons}. Nothing was written"
        )

    def _notes(self, found: Masking, targets: tuple[Target, ...], others: tuple[str, ...], criterion: str) -> list[str]:
        notes = []
        if found.updated:
            notes.append(f"{criterion} also changed the weights that stay")
        whole = [weight for weight in found.weights if weight.why_not]
        for reason in dict.fromkeys(weight.why_not for weight in whole):
            names = [weight.weight for weight in whole if weight.why_not == reason]
            notes.append(f"left whole, because {reason}: {_some(names)}")
        mixed = [target.weight for target in targets if not target.alike]
        if mixed and self.granularity != "element":
            notes.append(f"masked in the form of the first of several layers that read them: {_some(mixed)}")
        if others and not self.include and not self.exclude:
            notes.append(f"not masked, because no layer multiplies with them: {_some(list(others))}")
        return notes


def _suiting(form: Granularity, criterion: Criterion) -> str:
    """Where every layer has an N of its own, the N that lose least together; else small layers stay denser."""
    from onnxprune.sparsity import Lanes

    return "loss" if isinstance(form, Lanes) and form.kept is None and criterion.elements is not None else "erk"


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
