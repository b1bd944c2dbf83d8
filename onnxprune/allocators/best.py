"""Of what several allocators propose, the one that loses least when it is tried."""

from __future__ import annotations

from dataclasses import replace

from onnxprune.allocators.allocation import Allocation, Problem
from onnxprune.allocators.between import between
from onnxprune.allocators.knapsack import knapsack
from onnxprune.allocators.lamp import lamp
from onnxprune.allocators.losses import trial_of
from onnxprune.allocators.ranked import ranked
from onnxprune.allocators.uniform import uniform

__all__ = ["best"]


def best(problem: Problem) -> Allocation:
    """Every proposal is tried whole, and the one that loses least is taken; of those that meet the targets, if any do.

    No rule for allocation is best on every model: sums of loss curves are near the truth where groups hardly depend on
    each other, and far off where one cut ruins what the next reads; scores that are compared over layers are the other
    way round. A trial of each tells. Where there are `problem.curves`, `knapsack` proposes too, and what lies between
    it and `global`. Needs `problem.trial`.
    """
    trial = trial_of(problem)
    proposals: dict[str, Allocation] = {"global": ranked(problem), "uniform": uniform(problem), "lamp": lamp(problem)}
    if problem.curves:
        proposals["knapsack"] = knapsack(problem)
        proposals["between global and knapsack"] = between(problem, proposals["global"], proposals["knapsack"])
    tried = []
    for done, (name, found) in enumerate(proposals.items()):
        problem.watch(f"try allocations ({name})", done, len(proposals))
        tried.append((trial(found.counts), name, found))
    _, name, found = min(tried, key=lambda one: (not one[2].met, one[0]))
    losses = ", ".join(f"{other} {lost:.3g}" for lost, other, _ in tried)
    return replace(found, told=f"allocation: {name}, whose trial loses least ({losses})")
