"""What an allocator is asked and what it answers: groups as numbers, never the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from onnxprune.allocators.curve import Curve
from onnxprune.cost import Costs, Term
from onnxprune.dimensions import Atom, Mask, Vector
from onnxprune.errors import UsageError
from onnxprune.watching import Watch, nobody

__all__ = ["Allocation", "Allocator", "Candidate", "Problem", "Trial", "choose", "indices_of"]

TOLERANCE = 0.02  # how far below a target a cost may end, as a fraction of the target

Trial: TypeAlias = Callable[[Mapping[int, int]], float]
"""What the model loses when so many indices of each atom stay (an absent one is whole): nothing is 0, more is worse."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A group that may lose indices: it keeps a multiple of `step`, or all of them, and at least `minimum`.

    `axes` is how many axes of weights it makes up; of an axis that it shares with others, a part. `tied` are the atoms
    of other groups of the same size, which keep as many indices as this one.
    """

    atom: int
    name: str
    size: int
    step: int = 1
    minimum: int = 1
    axes: float = 1.0
    tied: tuple[int, ...] = ()

    @property
    def atoms(self) -> tuple[int, ...]:
        """Every atom whose count this is."""
        return (self.atom, *self.tied)

    def up(self, kept: int, step: int) -> int:
        """The next count above `kept` that `step` allows; `size` where there is none."""
        return min(self.size, (kept // step + 1) * step)

    def down(self, kept: int, step: int) -> int | None:
        """The next count below `kept` that `step` and the minimum allow; None where there is none."""
        lower = (kept - 1) // step * step
        return lower if lower >= self.lowest(step) else None

    @property
    def options(self) -> list[int]:
        """The counts that it may keep, from the lowest to all of it."""
        return [*range(self.lowest(self.step), self.size, self.step), self.size]

    def lowest(self, step: int) -> int:
        """The lowest count that `step` and the minimum allow."""
        return self.rounded(self.minimum, step)

    def rounded(self, kept: int, step: int) -> int:
        """`kept` rounded up to what `step` allows: indices up to the next multiple cost no time."""
        return min(self.size, -(-max(kept, 1) // step) * step)


def indices_of(candidates: Iterable[Candidate]) -> Iterator[Term]:
    """The terms of a budget that counts the indices of candidates, whatever they cost."""
    return (Term(atom, 1, (Atom(atom, c.size),)) for c in candidates for atom in c.atoms)


@dataclass(frozen=True)
class Problem:
    """How much of which groups has to go: either a `sparsity` or `targets`.

    `sparsity` is the fraction of indices to remove, 0 <= sparsity < 1. `targets` gives for each budget of `costs` the
    fraction of the whole model's cost that may stay; a target is met from below, and within `tolerance` of itself.
    `scores[atom]`, shape `(size,)`, are needed by the allocators that compare groups, `curves[atom]` by those that
    weigh what each group loses alone, `trial` by those that search. `UsageError` otherwise. By `guard`, where there is
    one, an answer is compared with the uniform one.
    """

    candidates: Sequence[Candidate]
    costs: Costs
    scores: Mapping[int, Vector] = field(default_factory=dict)
    sparsity: float | None = None
    targets: Mapping[str, float] = field(default_factory=dict)
    tolerance: float = TOLERANCE
    curves: Mapping[int, Curve] = field(default_factory=dict)
    trial: Trial | None = None
    guard: Trial | None = None
    seed: int = 0
    watch: Watch = nobody

    def __post_init__(self) -> None:
        if (self.sparsity is None) == (not self.targets):
            raise UsageError("say how much to prune: either a sparsity or targets such as macs=0.5, not both")
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise UsageError(f"a sparsity is the fraction removed, at least 0 and below 1: found {self.sparsity:g}")
        for budget, fraction in self.targets.items():
            if budget not in self.costs.budgets:
                known = ", ".join(sorted(self.costs.budgets))
                raise UsageError(f"there is no budget {budget!r}: choose one of {known}")
            if not fraction > 0:
                raise UsageError(f"target {budget}={fraction:g} must be above 0: it is the fraction that stays")


@dataclass(frozen=True)
class Allocation:
    """How many indices of each candidate stay, and how far that came.

    `counts` has every candidate's atoms. `reached` gives each budget asked for, in its own terms: the fraction of the
    cost that stays, or the sparsity. `met` is false where a target was missed; `reason` says why, and also where
    minimums or rounding kept more than was asked. `told` is what a user should know of how it was found.
    """

    counts: Mapping[int, int]
    reached: Mapping[str, float]
    met: bool
    reason: str = ""
    told: str = ""

    @staticmethod
    def of_sparsity(problem: Problem, counts: Mapping[int, int], met: bool = True, reason: str = "") -> Allocation:
        """The allocation for a sparsity, which is counted here."""
        size = sum(candidate.size * len(candidate.atoms) for candidate in problem.candidates)
        removed = sum((c.size - counts[c.atom]) * len(c.atoms) for c in problem.candidates)
        counts = {atom: counts[c.atom] for c in problem.candidates for atom in c.atoms}
        reached = {"sparsity": removed / size if size else 0.0}
        return Allocation(MappingProxyType(dict(counts)), MappingProxyType(reached), met, reason)


Allocator: TypeAlias = Callable[[Problem], Allocation]


def choose(scores: Mapping[int, Vector], counts: Mapping[int, int]) -> dict[int, Mask]:
    """Keep masks of the best-scored `counts[atom]` indices of each atom; of equal scores the first stay."""
    masks = {}
    for atom, kept in counts.items():
        mask = np.zeros(len(scores[atom]), dtype=np.bool_)
        mask[np.argsort(-scores[atom], kind="stable")[:kept]] = True
        masks[atom] = mask
    return masks
