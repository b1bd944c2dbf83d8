"""Bounds as allocators see them: what everything costs, and the share of each cost that may stay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from onnxprune.allocators import Candidate, indices_of
from onnxprune.analysis import Analysis
from onnxprune.cost import Costs, Term
from onnxprune.targets import Bound

__all__ = ["Budgets", "budgets"]


@dataclass(frozen=True)
class Budgets:
    """`asked[budget]` is the share of the whole model's cost that may stay; all of them hold at once."""

    costs: Costs
    asked: dict[str, float]

    def told(self, reached: Mapping[str, float]) -> dict[str, tuple[float, float]]:
        """What was asked and reached, by budget, as a user counts it: of a sparsity, the share that goes."""
        told = {budget: (asked, reached[budget]) for budget, asked in self.asked.items()}
        if "sparsity" in told:
            told["sparsity"] = 1 - told["sparsity"][0], 1 - told["sparsity"][1]
        return told


def budgets(
    analysis: Analysis,
    candidates: Iterable[Candidate],
    bounds: Mapping[str, Bound],
    latency: tuple[Iterable[Term], float] | None = None,
) -> Budgets:
    """Costs in every budget that is bounded, and the shares; `latency` is its terms and the original's milliseconds.

    `sparsity` counts the indices of the candidates, whatever they cost.
    """
    costs = Costs.of(analysis)
    if "memory" in bounds:
        costs = costs.with_memory(analysis)
    if "sparsity" in bounds:
        costs = costs.with_budget("sparsity", indices_of(candidates))
    base = 0.0
    if latency is not None:
        terms, base = latency
        costs = costs.with_latency(terms)
    whole = {budget: base if budget == "latency" else costs.total(budget) for budget in bounds}
    return Budgets(costs, {budget: bound.of(whole[budget]) for budget, bound in bounds.items()})
