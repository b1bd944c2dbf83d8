"""How many indices of each group stay: allocators, each a pure function of scores, costs and budgets."""

from onnxprune.allocators.allocation import Allocation, Allocator, Candidate, Problem, choose
from onnxprune.allocators.registry import ALLOCATORS, allocate, allocator_of
from onnxprune.allocators.rounding import RoundTo, candidates, step_of

__all__ = [
    "ALLOCATORS",
    "Allocation",
    "Allocator",
    "Candidate",
    "Problem",
    "RoundTo",
    "allocate",
    "allocator_of",
    "candidates",
    "choose",
    "step_of",
]
