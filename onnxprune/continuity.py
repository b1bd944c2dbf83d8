"""Where a model stops being continuous: sorting, selecting and comparing turn the last bit of a score into another row.

A detector that sorts its boxes gives them in another order for scores that are equal but for rounding. What such a part
computes cannot be compared element by element; what goes into it can. If no index is cut inside the part, it is the
same in both models, so that equal tensors in front of it (up to rounding) prove as much as equal outputs do.
"""

from __future__ import annotations

from onnxprune.cut import Cut
from onnxprune.dependency import Analysis
from onnxprune.plan import Plan

__all__ = ["in_front"]

_JUMPS = frozenset({"ArgMax", "ArgMin", "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "Hardmax", "Less",
                    "LessOrEqual", "NonMaxSuppression", "NonZero", "Round", "Sign", "TopK", "Unique"})  # fmt: skip


def in_front(analysis: Analysis, plan: Plan) -> tuple[str, ...]:
    """The tensors that decide all outputs and stand in front of everything that jumps.

    Empty where nothing jumps, or where the part that does is cut, or has a Loop or Scan in it.
    """
    numbers, weights = analysis.shapes.number, analysis.model.weights
    cut = Cut(analysis, plan)
    part: set[int] = set()
    behind: set[str] = set()
    front: dict[str, None] = {}
    for node in analysis.model.nodes:
        read = [name for name in node.inputs if name and name not in numbers]
        jumps = node.op_type in _JUMPS and any(name not in weights for name in read)
        held = node.within is not None and node.within[0] in part
        if not jumps and not held and behind.isdisjoint(read):
            continue
        part.add(node.index)
        touched = [name for name in (*read, *node.outputs) if name]
        followed = (node.within is None or held) and (not node.bodies or node.op_type == "If")
        if not followed or any(m is not None for name in touched for m in cut.masks(name)):
            return ()
        behind.update(name for name in node.outputs if name)
        front.update(dict.fromkeys(name for name in read if name not in behind and name not in weights))
    if not behind:
        return ()
    front.update(dict.fromkeys(info.name for info in analysis.model.outputs if info.name not in behind))
    return tuple(front)
