"""How many indices of each group stay: allocators, each a pure function of scores, costs and budgets."""

from onnxprune.allocators.allocation import Allocation, Allocator, Candidate, Problem, Trial, choose, indices_of
from onnxprune.allocators.curve import Curve
from onnxprune.allocators.registry import ALLOCATORS, allocate, allocator_of, needs_of
from onnxprune.allocators.rounding import RoundTo, candidates, multiple_of, step_of
from onnxprune.allocators.tying import tied, told_ties

__all__ = [
    "ALLOCATORS",
    "Allocation",
    "Allocator",
    "Candidate",
    "Curve",
    "Problem",
    "RoundTo",
    "Trial",
    "allocate",
    "allocator_of",
    "candidates",
    "choose",
    "indices_of",
    "multiple_of",
    "needs_of",
    "step_of",
    "tied",
    "told_ties",
]
