"""Whether a statistic is added back to what it was taken of, as a norm that centres does.

A mean that only scales leaves a silent index silent: RMSNorm, L2 norms, gates. A mean that is subtracted does not:
where an index is zero, x - mean is not, so the spread would count indices that are gone. The statistic is followed
through the graph:

1. multiplied or divided into something live that is larger, it has only scaled: that path ends;
2. read by a contraction, it has become a feature like any other: that path ends;
3. added to something larger (or subtracted, compared, chosen from), it comes back;
4. any other node hands it on, a scale of constants included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from onnxprune.model import Node

__all__ = ["added_back"]

_CONTRACTS = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"})
_SCALES = frozenset({"Div", "Mul"})
_ADDS = frozenset({"Add", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod",
                   "PRelu", "Pow", "Sub", "Sum", "Where"})  # fmt: skip


def added_back(
    statistic: str,
    readers: Mapping[str, Sequence[Node]],
    shapes: Mapping[str, tuple[int, ...] | None],
    live: frozenset[str],
) -> bool:
    """Whether `statistic` comes back by case 3; `live` are the tensors that are computed from the graph's inputs."""
    size = _size(shapes, statistic)
    stack, seen = [statistic], {statistic}
    while stack:
        name = stack.pop()
        for node in readers.get(name, ()):
            larger = any(_size(shapes, y) > size for y in node.outputs if y)
            if node.op_type in _ADDS and larger:
                return True
            scales = node.op_type in _SCALES and larger and any(x != name and x in live for x in node.inputs)
            if scales or node.op_type in _CONTRACTS:
                continue
            made = [*node.outputs, *(x for body in node.bodies.values() for x in body.inputs)]
            stack.extend(y for y in made if y and y not in seen)
            seen.update(made)
    return False


def _size(shapes: Mapping[str, tuple[int, ...] | None], name: str) -> int:
    return prod(shapes.get(name) or ())
