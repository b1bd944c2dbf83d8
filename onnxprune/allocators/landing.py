"""How a target is reached from below: counts change step by step, and every change is paid at its real cost.

1. `Descent.lazily` makes the cheapest move first. What a move is worth changes as other groups change, but only ever
   for the worse, so a move is judged again only when it comes up (a heap with lazy re-evaluation).
2. `fill` gives steps back below the target as long as any fits.
3. `settle` closes the rest, where it is more than the tolerance, with finer steps: steps of 8 before steps of 4 before
   odd ones, and of those the move that closes most, so that few groups leave their rounding, and none by more than it
   must. Where single indices are too coarse, one is taken from a group so that others fit.
4. `refine` halves every step: where rounding alone keeps a target out of reach.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from math import floor, inf
from types import MappingProxyType
from typing import TypeAlias

from onnxprune.allocators.allocation import Allocation, Candidate, Problem
from onnxprune.cost import Ledger

__all__ = ["Descent"]

Rank: TypeAlias = Callable[[Candidate, int, int, float], float]
"""What moving a candidate from one count to another is worth, given the change of cost; the lowest goes first."""


class Descent:
    """Counts on their way to the targets, with their costs kept up to date; starts with everything kept."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.candidates: Sequence[Candidate] = problem.candidates
        self.counts = {atom: candidate.size for candidate in self.candidates for atom in candidate.atoms}
        self.steps = {candidate.atom: candidate.step for candidate in self.candidates}
        self.budgets = tuple(problem.targets)
        self._ledger = Ledger(problem.costs, self.budgets)
        self.whole = self._ledger.totals
        fractions = (problem.targets[budget] for budget in self.budgets)
        self.limits = tuple(_limit(whole, f) for whole, f in zip(self.whole, fractions, strict=True))

    # -- where we are -----------------------------------------------------------------------------------------

    @property
    def totals(self) -> tuple[float, ...]:
        """The cost in each of `budgets`."""
        return self._ledger.totals

    @property
    def fits(self) -> bool:
        """Whether every cost is at or below its target."""
        return all(total <= limit for total, limit in zip(self._ledger.totals, self.limits, strict=True))

    @property
    def close(self) -> bool:
        """Whether one cost is within the tolerance of its target, or nothing was removed."""
        slack = 1 - self.problem.tolerance
        totals = zip(self._ledger.totals, self.limits, self.whole, strict=True)
        near = any(total >= slack * limit for total, limit, whole in totals if whole)
        return near or all(self.counts[c.atom] == c.size for c in self.candidates)

    def result(self) -> Allocation:
        """The counts as they are, and what they come to."""
        totals = zip(self.budgets, self._ledger.totals, self.whole, self.limits, strict=True)
        reached = {budget: total / whole if whole else 0.0 for budget, total, whole, _ in totals}
        met, reason = self.fits and self.close, ""
        if not met:
            end = "no finer step fits below it" if self.fits else "every group is at its minimum"
            said = (f"{b}={self.problem.targets[b]:g} was asked and {b}={v:.4g} reached" for b, v in reached.items())
            reason = f"{', '.join(said)}: {end}"
        return Allocation(MappingProxyType(dict(self.counts)), MappingProxyType(reached), met, reason)

    # -- moving -----------------------------------------------------------------------------------------------

    def move(self, candidate: Candidate, kept: int) -> None:
        """Let `kept` indices of a candidate stay."""
        counts = dict.fromkeys(candidate.atoms, kept)
        self._ledger.set(counts)
        self.counts.update(counts)

    def attempt(self, candidate: Candidate, kept: int) -> float:
        """Move, and say how much the costs changed: fractions of the whole, over the budgets that are not met yet.

        All budgets count once all are met. `take_back` undoes it.
        """
        before = self._ledger.totals
        open_ = [k for k, limit in enumerate(self.limits) if before[k] > limit] or range(len(before))
        self._taken = candidate, self.counts[candidate.atom]
        self.move(candidate, kept)
        after = self._ledger.totals
        return sum(abs(after[k] - before[k]) / self.whole[k] for k in open_ if self.whole[k])

    def take_back(self) -> None:
        """Undo the last `attempt`."""
        candidate, kept = self._taken
        self._ledger.undo()
        self.counts.update(dict.fromkeys(candidate.atoms, kept))

    def lazily(self, target: Callable[[Candidate], int | None], rank: Rank, stop: Callable[[], bool]) -> None:
        """Make moves to `target` (None: no more) from the lowest `rank` on, until `stop`; inf is no move.

        What is no move now may be one when others have moved, where costs count in blocks or the dearest moment counts.
        """
        heap = [(-inf, position) for position in range(len(self.candidates))]
        heapify(heap)
        idle: list[int] = []
        moved = False
        while not stop():
            if not heap:
                if not (idle and moved):
                    return
                heap, idle, moved = [(-inf, position) for position in sorted(idle)], [], False
            _, position = heappop(heap)
            candidate = self.candidates[position]
            now = self.counts[candidate.atom]
            kept = target(candidate)
            if kept is None:
                continue
            worth = rank(candidate, now, kept, self.attempt(candidate, kept))
            if worth == inf:
                self.take_back()
                idle.append(position)
                continue
            if heap and (worth, position) > heap[0]:
                self.take_back()
            else:
                moved = True
            heappush(heap, (worth, position))

    def land(self, down: Rank, back: Rank) -> Allocation:
        """Take steps away until the targets are met, from the lowest `down` on; give back what then fits by `back`.

        Where rounding alone keeps a target out of reach, steps are halved.
        """
        while not self.fits:
            self.lazily(lambda c: c.down(self.counts[c.atom], self.steps[c.atom]), down, stop=lambda: self.fits)
            if not self.fits and not self.refine():
                break
        if self.fits:
            self.fill(back)
            self.settle()
        return self.result()

    def fill(self, rank: Rank) -> None:
        """Give steps back, from the lowest `rank` on, as long as any fits below the targets."""

        def higher(candidate: Candidate) -> int | None:
            kept = self.counts[candidate.atom]
            return candidate.up(kept, self.steps[candidate.atom]) if kept < candidate.size else None

        self.lazily(
            higher, lambda c, now, kept, change: rank(c, now, kept, change) if self.fits else inf, stop=lambda: False
        )

    def settle(self) -> None:
        """Close what is left below the targets: finer steps, the coarsest of them first, then exchanges."""
        step = max(self.steps.values(), default=1)
        while step > 1 and not self.close:
            step //= 2
            self._close_in(step)
        if not self.close:
            self._exchange()

    def _close_in(self, step: int, but: Candidate | None = None) -> None:
        """Give back single steps, none larger than `step`, where they close most, as long as needed and any fits."""
        while not self.close:
            best: tuple[float, Candidate, int] | None = None
            for candidate in self.candidates:
                kept = self.counts[candidate.atom]
                if kept == candidate.size or candidate is but:
                    continue
                higher = candidate.up(kept, min(step, self.steps[candidate.atom]))
                gain = self.attempt(candidate, higher)
                if self.fits and gain > (best[0] if best else 0.0):
                    best = gain, candidate, higher
                self.take_back()
            if best is None:
                return
            self.move(best[1], best[2])

    def _exchange(self) -> None:
        """Take one index of a group and give to others what then fits; kept where that ends within the tolerance."""
        before = dict(self.counts)
        for taken in self.candidates:
            lower = taken.down(before[taken.atom], 1)
            if lower is None:
                continue
            self.move(taken, lower)
            self._close_in(1, but=taken)
            if self.close:
                return
            for candidate in self.candidates:
                self.move(candidate, before[candidate.atom])

    def refine(self) -> bool:
        """Halve every step; False where all are 1 already."""
        if all(step == 1 for step in self.steps.values()):
            return False
        self.steps = {atom: max(1, step // 2) for atom, step in self.steps.items()}
        return True


def _limit(whole: float, fraction: float) -> float:
    """The most that a cost may be; a cost in whole numbers is compared with a whole number."""
    limit = whole * fraction * (1 + 1e-12)
    return floor(limit) if isinstance(whole, int) else limit
