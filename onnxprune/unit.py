"""What flows through a pipeline: one frozen value that each pass replaces and none edits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from onnxprune.watching import Watch, nobody

if TYPE_CHECKING:
    from onnxprune.aiming import Shot
    from onnxprune.allocators import Allocation, Curve
    from onnxprune.branches import Branch
    from onnxprune.criteria import Scores
    from onnxprune.data import Samples
    from onnxprune.dependency import Analysis, Group
    from onnxprune.journal import Journal
    from onnxprune.latency import LatencyModel
    from onnxprune.lossless import Shrunk
    from onnxprune.model import Model
    from onnxprune.objective import Objective
    from onnxprune.plan import Plan
    from onnxprune.recovery import Repair, Shift, Together
    from onnxprune.runtime.change import Change
    from onnxprune.runtime.timing import Timing
    from onnxprune.sparsity import Masking, Reordering
    from onnxprune.statistics import Statistics
    from onnxprune.verification import Verdict

NAMED = 3  # layers that are named, of each reason

__all__ = ["Attempt", "Dropping", "Evaluation", "Lever", "Recovery", "Unit"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation measured, before and after, by name of the metric; the first is the main one."""

    before: Mapping[str, float]
    after: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Dropping:
    """A residual branch into the Add `node`, how much it matters by the criterion, and whether it was dropped."""

    name: str
    node: str
    effect: float
    dropped: bool


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a repair did: how far the outputs on held-out samples were from the original's, and how far they are now.

    Both are None without samples. `repairs` are the layers that were refitted, `folded` counts indices that were merged
    into another; `taken` is false where nothing was better off, so that nothing was changed. `left` says by name of
    each layer behind a cut or a mask that cannot be refitted why. `together` is what
    refitting all of them at once did.
    """

    method: str
    before: Change | None
    after: Change | None
    repairs: tuple[Repair, ...] = ()
    folded: int = 0
    taken: bool = True
    left: Mapping[str, str] = field(default_factory=dict)
    together: Together | None = None

    @property
    def told(self) -> tuple[str, ...]:
        """What a repair achieved, in sentences."""
        before, after = self.before, self.after
        if before is None or after is None:
            return (f"folded {self.folded} indices into others that are like them",) if self.folded else ()
        change = f"from {before.relative:.3g} to {after.relative:.3g}"
        if not self.taken:
            return (f"not repaired: the relative error on held-out samples would have gone {change}",)
        layers = sum(repair.kept for repair in self.repairs)
        told = [f"repaired {layers} layers: the relative error of the outputs on held-out samples went {change}"]
        if self.together is not None:
            told.extend(self.together.told)
        if self.left:
            told.append(f"not repaired: {_left(self.left)}")
        return tuple(told)

    @property
    def left_with(self) -> Change | None:
        """How far the outputs on held-out samples are from the original's in the end."""
        return self.after if self.taken else self.before


def _left(left: Mapping[str, str]) -> str:
    """How many layers were changed and not refitted, and which, by reason."""
    by: dict[str, list[str]] = {}
    for name, reason in left.items():
        by.setdefault(reason, []).append(name)
    parts = []
    for reason, names in by.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        parts.append(f"{', '.join(repr(name) for name in names[:NAMED])}{more}: {reason}")
    return f"{len(left)} {'layer' if len(left) == 1 else 'layers'} ({'; '.join(parts)})"


@dataclass(frozen=True, slots=True)
class Attempt:
    """An allocation whose model was measured: the plan, and what was aimed for and measured."""

    allocation: Allocation
    plan: Plan
    shot: Shot


@dataclass(frozen=True, slots=True)
class Lever:
    """The search for the least latency that a metric allows: the share aimed for, and what earlier ones came to.

    `held` and `lost` are the lowest share at which the metric held and the highest at which it did not; `best` is all
    that is known of the run that held.
    """

    aim: float
    held: float | None = None
    lost: float | None = None
    runs: int = 0
    best: Unit | None = None


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Everything that is known about one run; a field is None until a pass gives it."""

    source: Model
    analysis: Analysis | None = None
    samples: Samples | None = None
    shift: Shift = field(default_factory=dict)  # of norms, which makes the model one that synthetic samples suit
    candidates: tuple[Group, ...] | None = None
    statistics: Statistics | None = None  # what a criterion asked of the samples
    scores: Scores | None = None
    curves: Mapping[int, Curve] | None = None  # what each group loses alone
    trial: Objective | None = None  # what the model loses at any counts
    guard: Objective | None = None  # the same once repaired, for the answer of a search
    latency: LatencyModel | None = None  # what is spent where
    allocation: Allocation | None = None
    plan: Plan | None = None
    reordering: Reordering | None = None  # channels in another order; `analysis` is of the model that has them so
    masking: Masking | None = None  # what was set to zero without a change of shapes; `analysis` is of its model
    original: Analysis | None = None  # what a repair aims at, where `analysis` is of a changed model
    recovery: Recovery | None = None
    stripped: Shrunk | None = None  # what was removed without a change to any output
    model: Model | None = None
    verdict: Verdict | None = None
    evaluation: Evaluation | None = None
    timing: Timing | None = None
    branches: tuple[Dropping, ...] = ()
    faults: frozenset[int] = frozenset()  # atoms that a verification found at fault
    notes: tuple[str, ...] = ()  # what a user should know, in sentences
    redo: str | None = None  # the pass to go back to, because of new faults
    targets: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # asked and reached, by budget
    aims: Mapping[str, float] = field(default_factory=dict)  # what was asked of the predicted costs, by budget
    step: int = 1  # of a pruning in several steps
    regrow: bool = False  # whether what went in an earlier step may come back
    attempts: tuple[Attempt, ...] = ()  # at a target that can only be measured
    lever: Lever | None = None  # where only a metric bounds what goes
    options: tuple[tuple[str, Mapping[str, Any]], ...] = ()  # each pass of the pipeline, and what it was asked for
    seconds: Mapping[str, float] = field(default_factory=dict)
    watch: Watch = nobody
    journal: Journal | None = None  # of trials, which a run that is started again does not repeat

    @property
    def dropped(self) -> tuple[Branch, ...]:
        """The residual branches that go, of the model as it is analysed now."""
        from onnxprune.branches import branches_of

        gone = {branch.name for branch in self.branches if branch.dropped}
        if not gone or self.analysis is None:
            return ()
        return tuple(branch for branch in branches_of(self.analysis) if branch.name in gone)

    @property
    def has_data(self) -> bool:
        """Whether there are calibration samples that say what real inputs are like: random ones do not."""
        return self.samples is not None and not self.samples.noise

    @property
    def reference(self) -> Model:
        """What the model that is made has to equal: the original, or the masked one."""
        return self.source if self.masking is None else self.masking.model
