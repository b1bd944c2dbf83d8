"""An agent walks through the groups and says how much each keeps; it learns from trials of whole models."""

from __future__ import annotations

from math import ceil

import numpy as np

from onnxprune.allocators.allocation import Allocation, Candidate, Problem, Trial
from onnxprune.allocators.landing import Descent
from onnxprune.allocators.losses import by_targets, told, trial_of
from onnxprune.allocators.uniform import uniform
from onnxprune.dimensions import Vector

__all__ = ["TRIALS", "amc"]

TRIALS = 200  # models that are tried
POPULATION, ELITE = 20, 5
REACH, FLOOR = 1.0, 0.1  # how far policies are drawn from the first one, and at least from a later one
SHARPNESS = 1e-3  # how near to none or all of a group the first policy may be


def amc(problem: Problem) -> Allocation:
    """AutoML for model compression (He et al., arXiv 1802.03494), with a policy that is searched instead of descended.

    As there, the state of a step is the group's place and size, its share of the cost, what was saved before, what can
    be saved behind, and the last action; the action is the fraction to keep; actions are bounded such that the budgets
    can still be met by taking everything from the groups behind; the reward is the negative loss of the whole model.
    The paper learns its policy by DDPG in hundreds of episodes; ours is a logistic function of the state, and learns by
    the cross-entropy method (Rubinstein, 1999): `POPULATION` policies are drawn from a normal distribution, which moves
    to the `ELITE` best of them. The first one keeps the same fraction everywhere, and the answer is the best model of
    `TRIALS` and the uniform one. The same seed gives the same answer. Needs `problem.trial`.
    """
    trial, wanted = trial_of(problem), by_targets(problem)
    walk = _Walk(wanted)
    if not walk.possible:
        return told(uniform(wanted), problem)
    first = uniform(wanted)
    best = trial(first.counts), first
    rng = np.random.default_rng(wanted.seed)
    mean, spread = np.zeros(walk.width), np.full(walk.width, REACH)
    for generation in range(TRIALS // POPULATION):
        drawn = mean + spread * rng.standard_normal((POPULATION, walk.width))
        drawn[0] = mean
        losses = []
        for number, policy in enumerate(drawn):
            problem.watch("try allocations", generation * POPULATION + number, TRIALS)
            loss, found = _tried(walk, trial, policy)
            losses.append(loss)
            best = min(best, (loss, found), key=lambda pair: (not pair[1].met, pair[0]))
        elite = drawn[np.argsort(losses, kind="stable")[:ELITE]]
        mean, spread = elite.mean(axis=0), np.maximum(elite.std(axis=0), FLOOR)
    return told(best[1], problem)


def _tried(walk: _Walk, trial: Trial, policy: Vector) -> tuple[float, Allocation]:
    found = walk.follow(policy)
    return trial(found.counts), found


class _Walk:
    """Follows a policy through the groups, in their order, and lands on the targets."""

    def __init__(self, problem: Problem) -> None:
        self._problem, self._descent = problem, Descent(problem)
        while not self._lowest() and self._descent.refine():
            pass
        self.possible = self._descent.fits and bool(problem.candidates)
        self._steps = dict(self._descent.steps)
        kept = uniform(problem).counts
        size = sum(c.size for c in problem.candidates) or 1
        share = float(np.clip(sum(kept[c.atom] for c in problem.candidates) / size, SHARPNESS, 1 - SHARPNESS))
        self._start = float(np.log(share / (1 - share)))
        self._state = _state(Descent(problem))
        self.width = self._state.shape[1] + 4  # what was saved, what can be, the last action, and one

    def follow(self, policy: Vector) -> Allocation:
        """The allocation that a policy, float64 of shape (width,), ends with."""
        descent = self._descent
        descent.steps = dict(self._steps)
        self._lowest()
        floor = self._share()
        left, action, wished = 1.0, 0.5, {}
        spent = floor
        for candidate, own in zip(descent.candidates, self._state, strict=True):
            state = np.concatenate([own, [spent - floor, left, action - 0.5, 1.0]])
            action = float(1 / (1 + np.exp(-(self._start + state @ policy))))
            wished[candidate.atom] = action
            self._bounded(candidate, max(ceil(candidate.size * action), candidate.minimum))
            left, spent = left - 1 / len(descent.candidates), self._share()
        descent.fill(lambda c, now, kept, change: now / c.size - wished[c.atom])
        descent.settle()
        return descent.result()

    def _lowest(self) -> bool:
        for candidate in self._descent.candidates:
            self._descent.move(candidate, candidate.lowest(self._descent.steps[candidate.atom]))
        return self._descent.fits

    def _share(self) -> float:
        """The largest share of a target that is used up."""
        pairs = zip(self._descent.totals, self._descent.limits, strict=True)
        return max((total / limit for total, limit in pairs if limit), default=0.0)

    def _bounded(self, candidate: Candidate, wish: int) -> None:
        """Move to the largest count up to `wish` with which all still fits; groups behind are at their lowest."""
        descent, step = self._descent, self._descent.steps[candidate.atom]
        descent.move(candidate, candidate.rounded(wish, step))
        if descent.fits:
            return
        grid = range(candidate.lowest(step), candidate.rounded(wish, step), step)
        low, high = 0, len(grid) - 1
        while low < high:
            middle = (low + high + 1) // 2
            descent.move(candidate, grid[middle])
            low, high = (middle, high) if descent.fits else (low, middle - 1)
        descent.move(candidate, grid[low])


def _state(descent: Descent) -> Vector:
    """What is known of each group before the walk, float64 of shape (groups, features), each feature within -1 to 1.

    Its place, the logarithms of its size and of its axes, and what it saves of each budget when it alone goes.
    """
    rows = []
    for place, candidate in enumerate(descent.candidates):
        descent.move(candidate, candidate.size)
        with_it = descent.totals
        descent.move(candidate, candidate.lowest(1))
        saved = (a - b for a, b in zip(with_it, descent.totals, strict=True))
        descent.move(candidate, candidate.size)
        rows.append([place, np.log(candidate.size), np.log1p(candidate.axes), *saved])
    columns = np.array(rows, np.float64)
    low, high = columns.min(axis=0), columns.max(axis=0)
    return np.asarray(np.where(high > low, 2 * (columns - low) / np.maximum(high - low, 1e-12) - 1, 0.0))
