"""Groups of small layers keep more: each keeps a fraction in proportion to the density that ERK gives its weights."""

from __future__ import annotations

from math import prod

from onnxprune.allocators.allocation import Allocation, Candidate, Problem
from onnxprune.allocators.landing import Descent
from onnxprune.allocators.losses import by_targets, told
from onnxprune.allocators.proportional import keep_in_proportion
from onnxprune.cost import Costs

__all__ = ["erk"]


def erk(problem: Problem) -> Allocation:
    """Erdős-Rényi-kernel densities (Evci et al., RigL, arXiv 1911.11134, section 3), for counts of channels.

    ERK lets a layer with n inputs, m outputs and a w x h kernel keep a fraction of its weights in proportion to
    (n + m + w + h) / (n m w h), so that large layers give most. Here the fraction is that of a group's indices, and its
    density what ERK lets all matrices keep that the group is an axis of, taken together. One common scale, found by
    bisection, meets the targets at real cost; no group keeps more than all. Needs neither scores nor samples.
    """
    wanted = by_targets(problem)
    descent = Descent(wanted)
    keep_in_proportion(descent, {c.atom: density(problem.costs, c) for c in problem.candidates})
    return told(descent.result(), problem)


def density(costs: Costs, candidate: Candidate) -> float:
    """What ERK lets the matrices of a group keep, before scaling: 0 < density <= 1, and 1 without any matrix."""
    terms = {term for atom in candidate.atoms for term in costs.touching(atom).get("params", ())}
    shapes = [[dim.size for dim in term.dims] for term in terms if len(term.dims) > 1]
    held = sum(map(prod, shapes))
    return min(1.0, sum(map(sum, shapes)) / held) if held else 1.0
