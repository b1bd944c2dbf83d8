"""Weights set to zero, in place: shapes stay, and every number that is not masked stays what it is.

A masked number is the real zero, so that of a quantized weight is stored as its zero point. A weight that several
layers read is judged by all of them together. A criterion that solves (SparseGPT and its kin) also changes the weights
that stay; then `Masking.updated` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnxprune.criteria import NORMALISATIONS, Criterion, Evidence, Select, SiteScore, Solve
from onnxprune.dependency import Analysis
from onnxprune.dimensions import Mask
from onnxprune.errors import UsageError
from onnxprune.layers import Layer
from onnxprune.model import Array, Edit, Model
from onnxprune.sparsity.allocation import RANKING, Share, allocated
from onnxprune.sparsity.choosing import Target
from onnxprune.sparsity.granularity import Granularity
from onnxprune.sparsity.progress import selected
from onnxprune.statistics import Gram, GramMatrix
from onnxprune.watching import Watch
from onnxprune.weights import Weights

__all__ = ["Choice", "Masked", "Masking", "mask"]


@dataclass(frozen=True, slots=True)
class Masked:
    """What happened to one weight: the sparsity asked for, its numbers and how many were and are not zero.

    `why_not` says why it was left whole; empty where it was masked.
    """

    weight: str
    layers: tuple[str, ...]
    op_type: str
    asked: float
    numbers: int
    nonzero_before: int
    nonzero_after: int
    why_not: str = ""

    @property
    def sparsity(self) -> float:
        """The share of zeros."""
        return 1 - self.nonzero_after / self.numbers


@dataclass(frozen=True)
class Masking:
    """A masked model, and what happened to each weight that was chosen."""

    model: Model
    granularity: Granularity
    weights: tuple[Masked, ...]
    updated: bool = False
    choices: Mapping[str, Choice] = field(default_factory=dict)

    @property
    def asked(self) -> float:
        """The share of zeros that was asked for, over all weights that were masked."""
        found = [w for w in self.weights if not w.why_not]
        return sum(w.asked * w.numbers for w in found) / max(1, sum(w.numbers for w in found))

    @property
    def reached(self) -> float:
        """The share of zeros in the weights that were masked."""
        found = [w for w in self.weights if not w.why_not]
        return 1 - sum(w.nonzero_after for w in found) / max(1, sum(w.numbers for w in found))

    def repaired(self, model: Model) -> Masking:
        """The masking of a model whose weights were changed since."""
        weights = Weights(model)
        after = tuple(w if w.why_not else replace(w, nonzero_after=weights.nonzeros(w.weight)) for w in self.weights)
        return replace(self, model=model, weights=after, updated=True)

    def following(self, earlier: Masking) -> Masking:
        """The masking as one of the model before `earlier`, a step on the same way."""
        before = {w.weight: w.nonzero_before for w in earlier.weights}
        weights = tuple(replace(w, nonzero_before=before[w.weight]) for w in self.weights)
        return replace(self, weights=weights, updated=self.updated or earlier.updated)

    def stated(self, made: Model) -> dict[str, tuple[str, int]]:
        """What the masks of a model that was made of this one come to: by weight, the form and what is not zero."""
        weights = Weights(made)
        masked = [w.weight for w in self.weights if not w.why_not and w.weight in made.weights]
        return {name: (self.granularity.text, weights.nonzeros(name)) for name in masked}


@dataclass(frozen=True, slots=True)
class Choice:
    """How a criterion that solves chose the mask of a weight, so that it can choose anew from other statistics."""

    solve: Solve
    select: Select
    sparsity: float


@dataclass(frozen=True, slots=True)
class _Selection:
    """How a solver chooses what stays: see `criteria.Select`."""

    granularity: Granularity
    per_output: bool
    span: int
    share: float = 1.0

    def __call__(self, importance: Array, sparsity: float, /) -> Mask:
        return selected(self.granularity, importance, sparsity, self.per_output, self.share)


@dataclass(frozen=True)
class _Job:
    """Everything that masking one weight needs."""

    weights: Weights
    evidence: Evidence
    criterion: Criterion
    granularity: Granularity
    per_output: bool
    share: float = 1.0

    def importance(self, target: Target) -> Array:
        """The importance of every weight, in the form of the first layer, added up over all layers."""
        judge, real = self.criterion.elements, self.evidence.weights.real(target.weight)
        assert judge is not None
        own = target.layer
        found = judge(own, own.matrix(real), self.evidence)
        for other in target.layers[1:]:
            stored = other.stored(judge(other, other.matrix(real), self.evidence))
            found = found + own.matrix(stored)
        return found

    def solved(self, target: Target, sparsity: float) -> Array:
        """The new real weights, in the shape that they are stored in."""
        own, real = target.layer, self.weights.real(target.weight)
        if self.criterion.solve is None:
            keep = self.selection(own)(self.importance(target), sparsity)
            return np.where(own.stored(keep), real, real.dtype.type(0))
        grams = [self.evidence.statistics.gram(layer) for layer in target.layers]
        gram = GramMatrix(
            np.sum([g.matrix for g in grams], axis=0),
            np.sum([g.total for g in grams], axis=0),
            sum(g.rows for g in grams),
        )
        matrix, keep = self.criterion.solve(own, own.matrix(real), gram, self.selection(own), sparsity)
        return np.asarray(own.stored(np.where(keep, matrix, 0)), real.dtype)

    def selection(self, layer: Layer) -> Select:
        """How a solver chooses what stays of a layer."""
        return _Selection(self.granularity, self.per_output, self.granularity.span(layer.shape), self.share)

    def why_not(self, target: Target) -> str:
        """Why a weight has to stay whole; empty where it can be masked."""
        reason, statistics = self.granularity.why_not(target.layer.shape), self.evidence.statistics
        if reason or (self.criterion.solve is None and not statistics.unanswered):
            return reason
        if self.criterion.solve is not None and not target.alike:
            return "layers read it in different forms, which cannot be solved for together"
        asked = [Gram(layer) for layer in target.layers]
        missing = [gram for gram in asked if self.criterion.solve is not None and not statistics.has(gram)]
        missing += [gram for gram in asked if gram in statistics.unanswered]
        return f"nothing is known of its input: {statistics.unanswered.get(missing[0], 'no sample')}" if missing else ""


def mask(
    analysis: Analysis,
    targets: Sequence[Target],
    evidence: Evidence,
    criterion: Criterion,
    granularity: Granularity,
    sparsity: float,
    *,
    allocation: str = "uniform",
    normalise: str = "lamp",
    per_output: bool = False,
    share: float = 1.0,
    watch: Watch | None = None,
) -> Masking:
    """The model with the least important weights of `targets` set to zero.

    `evidence` may have other values of the same weights (`regrowth`): it judges, and the model's own stay or go.
    `sparsity` counts over all weights that can be masked; a granularity that states its own (2:4) goes by that. `share`
    is how much of the way is gone, for a mask that is made in steps (`progress`).
    """
    if criterion.elements is None and criterion.solve is None:
        raise UsageError(f"--criterion {criterion.name!r} judges channels and has nothing to say of single weights")
    weights = Weights(analysis.model)
    job = _Job(weights, evidence, criterion, granularity, per_output, share)
    reasons = {target.weight: job.why_not(target) for target in targets}
    possible = [target for target in targets if not reasons[target.weight]]
    asked = _asked(job, possible, sparsity, allocation, normalise)
    edit, found, updated, changed = Edit(analysis.model), [], False, False
    for done, target in enumerate(targets):
        if watch is not None:
            watch(f"mask {target.weight}", done, len(targets))
        before = weights.nonzeros(target.weight)
        after, share = before, asked.get(target.weight, 0.0)
        if target.weight in asked:
            stored = weights.stored(target.weight, job.solved(target, share))
            old = analysis.model.array(target.weight)
            after = int(np.count_nonzero(stored != weights.stored(target.weight, np.zeros(old.shape))))
            if not np.array_equal(stored, old):
                changed = True
                updated = updated or criterion.solve is not None
                edit.replace(target.weight, stored)
        own = target.layer
        found.append(Masked(target.weight, tuple(k.name for k in target.layers), own.op_type, share, own.numbers,
                            before, after, reasons[target.weight]))  # fmt: skip
    solve = criterion.solve
    choices = {
        target.weight: Choice(solve, job.selection(target.layer), asked[target.weight])
        for target in (possible if solve is not None else ()) if solve is not None and len(target.layers) == 1
    }  # fmt: skip
    model = edit.done() if changed else analysis.model
    return Masking(model, granularity, tuple(found), updated, choices)


def _asked(job: _Job, targets: Sequence[Target], sparsity: float, allocation: str, normalise: str) -> dict[str, float]:
    """The sparsity of each weight: what the granularity states, or what the allocation gives it."""
    stated = {target.weight: job.granularity.stated(target.layer.shape) for target in targets}
    free = [target for target in targets if stated[target.weight] is None]
    shares = []
    for target in free:
        if allocation not in RANKING:
            shares.append(Share(_dims(target.layer)))
            continue
        if job.criterion.elements is None:
            raise UsageError(
                f"--allocation {allocation}: {job.criterion.name!r} does not rank weights of different layers"
            )
        sums, sizes = job.granularity.units(job.importance(target))
        how = normalise if allocation == "global" else "none"  # 'loss' has a measure of its own
        means = NORMALISATIONS[how](SiteScore(target.weight, 0, sums / sizes, target.layer.numbers))
        shares.append(Share(_dims(target.layer), means, sizes))
    given = dict(zip((t.weight for t in free), allocated(allocation, shares, sparsity), strict=True))
    return {name: given[name] if fixed is None else fixed for name, fixed in stated.items()}


def _dims(layer: Layer) -> tuple[int, ...]:
    """Outputs, inputs and, of a convolution, each axis of the kernel."""
    groups, outputs, inputs, positions = layer.shape
    kernel = layer.operand_shape[2:] if positions > 1 else ()
    return (groups * outputs, inputs, *kernel)
