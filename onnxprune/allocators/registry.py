"""The allocators by name: one table of our own, and the entry points of others, looked into when a name is not ours."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType

from onnxprune.allocators.allocation import Allocation, Allocator, Problem
from onnxprune.allocators.amc import amc
from onnxprune.allocators.best import best
from onnxprune.allocators.erk import erk
from onnxprune.allocators.guard import guarded
from onnxprune.allocators.knapsack import knapsack
from onnxprune.allocators.lamp import lamp
from onnxprune.allocators.netadapt import netadapt
from onnxprune.allocators.ordered import along_scores
from onnxprune.allocators.ranked import ranked
from onnxprune.allocators.sensitivity import sensitivity
from onnxprune.allocators.uniform import uniform
from onnxprune.errors import UsageError

__all__ = ["ALLOCATORS", "ENTRY_POINTS", "NEEDS", "allocate", "allocator_of", "needs_of"]

ENTRY_POINTS = "onnxprune.allocators"  # the entry-point group in which a package names allocators of its own


def automatic(problem: Problem) -> Allocation:
    """`uniform` for a sparsity, which is stated of each group; `global` for targets, which leave the choice to us.

    With a trial, `best` for targets. At equal MACs `global` kept far more of a CIFAR ResNet's accuracy than `uniform`:
    ResNet-56 at 0.7 of them 83 % against 15 %.
    """
    if problem.sparsity is not None:
        return uniform(problem)
    return ranked(problem) if problem.trial is None else best(problem)


ALLOCATORS: Mapping[str, Allocator] = MappingProxyType(
    {
        "amc": amc,
        "auto": automatic,
        "best": best,
        "erk": erk,
        "global": ranked,
        "knapsack": knapsack,
        "lamp": lamp,
        "netadapt": netadapt,
        "sensitivity": sensitivity,
        "uniform": uniform,
    }
)
NEEDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "amc": {"trial": "linear", "guard": "repaired"},
        "best": {"curves": "outputs", "trial": "repaired"},
        "knapsack": {"curves": "outputs"},
        "netadapt": {"trial": "outputs", "guard": "repaired"},
        "sensitivity": {"curves": "outputs"},
    }
)


def needs_of(name: str) -> Mapping[str, str]:
    """What an allocator needs beside scores, of `curves`, `trial` and `guard`, and which loss serves it best there.

    `outputs`; where only deep cuts are compared `linear`; where few are, `repaired`. Of another's, its attribute
    `needs` says what it needs: "curves", "trial" or "curves trial".
    """
    if name in ALLOCATORS:
        return NEEDS.get(name, {})
    return dict.fromkeys(str(getattr(allocator_of(name), "needs", "")).split(), "outputs")


def allocator_of(name: str) -> Allocator:
    """The allocator of that name; `UsageError`, with the names there are, where there is none."""
    if name in ALLOCATORS:
        return ALLOCATORS[name]
    others = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in others:
        raise UsageError(f"there is no allocation {name!r}: choose one of {', '.join(sorted({*ALLOCATORS, *others}))}")
    found: Allocator = others[name].load()
    return found


def allocate(name: str, problem: Problem) -> Allocation:
    """How many indices of each candidate stay, by the allocator of that name; see `along_scores` and `guarded`."""
    problem = along_scores(problem)
    return guarded(name, problem, allocator_of(name)(problem))
