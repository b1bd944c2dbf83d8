"""The criteria by name: one table of our own, and the entry points of others, looked into when a name is not ours."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Protocol

from onnxprune.criteria.bn_scale import bn_scale
from onnxprune.criteria.chance import chance
from onnxprune.criteria.magnitude import l1, l2, linf
from onnxprune.criteria.scores import Scores
from onnxprune.dependency import Analysis
from onnxprune.errors import UsageError

__all__ = ["CRITERIA", "ENTRY_POINTS", "Criterion", "criterion_of", "score"]

ENTRY_POINTS = "onnxprune.criteria"  # the entry-point group in which a package names criteria of its own


class Criterion(Protocol):
    """A pure function from an analysed model to scores; `seed` is for those that draw numbers."""

    def __call__(self, analysis: Analysis, *, seed: int = 0) -> Scores:
        """Score every index of every group."""
        ...


CRITERIA: Mapping[str, Criterion] = MappingProxyType(
    {
        "bn-scale": bn_scale,
        "l1": l1,
        "l2": l2,
        "linf": linf,
        "random": chance,
    }
)


def criterion_of(name: str) -> Criterion:
    """The criterion of that name; `UsageError`, with the names there are, where there is none."""
    if name in CRITERIA:
        return CRITERIA[name]
    others = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in others:
        raise UsageError(f"there is no criterion {name!r}: choose one of {', '.join(sorted({*CRITERIA, *others}))}")
    found: Criterion = others[name].load()
    return found


def score(analysis: Analysis, criterion: str, *, seed: int = 0) -> Scores:
    """Score every index of every group by the criterion of that name."""
    return criterion_of(criterion)(analysis, seed=seed)
