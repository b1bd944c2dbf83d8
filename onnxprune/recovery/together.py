"""A repaired model refitted once more, all layers together, in the shapes that it will have; and put back from there.

Slopes cost three runs of a model, so they are taken on the small one: what a plan leaves, or what is left of the
branches. Its weights then go to their places in the original's shapes, where the theorem is proven.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from onnxprune import cut
from onnxprune.analysis import Analysis
from onnxprune.branches import Branch, drop
from onnxprune.cost import Costs
from onnxprune.data import Samples
from onnxprune.dependency import analyse
from onnxprune.dimensions import keep_mask
from onnxprune.plan import Plan
from onnxprune.portions import there_and_back
from onnxprune.recovery.evidence import parted
from onnxprune.recovery.joint import EPOCHS, Feed, Joint, Mask, Student, jointly
from onnxprune.recovery.refitting import with_weights
from onnxprune.recovery.restoring import restored
from onnxprune.runtime.change import Change, change
from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.isolated import Isolated
from onnxprune.silenced import silenced
from onnxprune.trials import batch_of, sizes_of

__all__ = ["Together", "together"]

WORK = 2.5e11  # multiply-accumulates that nobody is kept waiting for without asking: 15 seconds or so of one core
MOST = 8  # samples that are run at once: more make fewer steps of a pass, and keep less of the accuracy
FEW = 3  # epochs below which it is not worth the while


@dataclass(frozen=True)
class Together:
    """What came of it: `analysis` is of the model in the original's shapes, refitted where that was better.

    `joint` is None where nothing was tried, and `why_not` says why in a sentence, "" where there is nothing to say.
    `after` is how far the outputs on held-out samples are from the original's then.
    """

    analysis: Analysis
    joint: Joint | None = None
    after: Change | None = None
    why_not: str = ""

    @property
    def told(self) -> tuple[str, ...]:
        """What a user should know of it, in sentences."""
        if self.joint is None:
            return (self.why_not,) if self.why_not else ()
        went = f"the error of what layers read on held-out samples went from {self.joint.before:.3g} to"
        if not self.joint.better:
            return (f"layers were not refitted together: {went} {self.joint.after:.3g}",)
        told = [f"refitted all layers together, {self.joint.epochs} passes: {went} {self.joint.after:.3g}"]
        if self.joint.stopped:
            ended = ", ".join(self.joint.stopped)
            told.append(
                f"no slopes lead back through {ended}: what lies in front was fitted to what is read there alone"
            )
        return tuple(told)


def together(
    original: Analysis,
    repaired: Analysis,
    plan: Plan | None,
    dropped: Sequence[Branch],
    samples: Samples,
    *,
    masked: bool,
    asked: bool,
    seed: int = 0,
    threads: int = 1,
    watch: Callable[[int, int], None] | None = None,
) -> Together:
    """Refit `repaired`, a model in the original's shapes of which `plan` takes indices and `dropped` branches.

    What is `asked` for takes `EPOCHS` passes over the samples; else as many as are no long wait, or none.
    Where slopes cannot be computed nothing is changed, and why is said.
    """
    batches = list(samples.batches(MOST))
    sizes = sizes_of(original.model, batches[0])
    cuts = plan is not None and bool(plan.keep)
    if dropped:
        made = drop(silenced(repaired, plan), dropped)
    else:
        made = cut.shrink(repaired, plan) if plan is not None and cuts else repaired.model
    small = analyse(made, sizes, prober=repaired.prober)
    if (fewer := there_and_back(small, MOST)) < MOST:
        batches = list(samples.batches(fewer))
        sizes = sizes_of(original.model, batches[0])
        small = analyse(made, sizes, prober=repaired.prober)
    epochs = EPOCHS if asked else _affordable(small, batches)
    if not epochs:
        return Together(repaired, why_not="refitting all layers together takes long with this model and was left out: "
                        "--recover joint does it")  # fmt: skip
    student = Student(small, _kept(repaired, None if dropped else plan), masked or bool(dropped))
    whole = analyse(original.model, sizes, allow=original.allow, prober=original.prober)
    try:
        joint = jointly(whole, student, batches, epochs=epochs, seed=seed, threads=threads, watch=watch)
    except RunFailed as failure:  # both models ran on these batches: it is the graph of slopes that does not
        return Together(repaired, why_not=f"layers were not refitted together: no slopes: {failure.reason}")
    if joint is None or not joint.better:
        return Together(repaired, joint)
    if cuts and not dropped:
        assert plan is not None
        again = restored(repaired, plan, with_weights(made, joint.values))
    else:
        model = with_weights(repaired.model, joint.values)
        again = analyse(model, repaired.shapes.sizes, allow=repaired.allow, prober=repaired.prober)
    held = [batches[k] for k in parted(len(batches))[1]]
    with Isolated(threads=threads) as process:
        wanted = process.run(original.model.to_bytes(), held)
        found = process.run(with_weights(made, joint.values).to_bytes(), held)
    return Together(again, joint, change(wanted, found))


def _affordable(small: Analysis, batches: Sequence[Feed]) -> int:
    samples = sum(batch_of(batches[k]) for k in parted(len(batches))[0])
    one = max(3 * Costs.of(small).macs() * samples, 1)  # there, and twice as much back
    epochs = min(EPOCHS, int(WORK / one))
    return epochs if epochs >= FEW else 0


def _kept(analysis: Analysis, plan: Plan | None) -> Callable[[str], Sequence[Mask | None]]:
    """Of each axis of a tensor what a plan leaves."""

    def kept(name: str) -> Sequence[Mask | None]:
        if plan is None:
            return ()
        masks = [keep_mask(dim, plan.keep) for dim in analysis.dims(name)]
        return [None if mask.all() else mask for mask in masks]

    return kept
