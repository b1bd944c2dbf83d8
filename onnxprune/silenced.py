"""The model as a plan leaves it, in the shapes of the original, analysed: what scores and repairs look at."""

from __future__ import annotations

from onnxprune import cut
from onnxprune.dependency import Analysis, analyse
from onnxprune.dimensions import atoms
from onnxprune.plan import Plan

__all__ = ["same_atoms", "silenced"]


def silenced(analysis: Analysis, plan: Plan | None) -> Analysis:
    """The analysis of the model in which what the plan removes is silent; the same one, where it removes nothing."""
    if plan is None or not plan.keep:
        return analysis
    return analyse(cut.mask(analysis, plan), analysis.shapes.sizes, allow=analysis.allow, prober=analysis.prober)


def same_atoms(analysis: Analysis, other: Analysis) -> dict[int, int]:
    """By atom of one analysis, the atom of the other that stands at the same place of a tensor that both have."""
    found: dict[int, int] = {}
    for tensor in analysis.axes:
        for ours, theirs in zip(analysis.dims(tensor), other.dims(tensor), strict=False):
            pairs = list(zip(atoms(ours), atoms(theirs), strict=False))
            if all(a.size == b.size for a, b in pairs) and ours.size == theirs.size:
                for a, b in pairs:
                    found.setdefault(a.id, b.id)
    return found
