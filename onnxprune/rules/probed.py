"""What a node that was run alone carries through unchanged, as the facts of a rule."""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.model import Probed
from onnxprune.rules.call import Call
from onnxprune.rules.facts import Fact, Fixed, Same

__all__ = ["probed_facts"]


def probed_facts(found: Probed, n: Call) -> Iterator[Fact]:
    """Carried axes are the same dimension; every other is fixed, for what was found or because the node did not run."""
    carried: set[int] = set()
    for (operand, axis), (output, other) in found.links:
        left, right = n.inputs[operand], n.outputs[output]
        if left is not None and right is not None:
            carried.update((left[axis].id, right[other].id))
            yield Same(left[axis], right[other])
    why = found.reason or "run alone, it does not carry this axis through unchanged"
    for dim in n.all_axes():
        if dim.id not in carried:
            yield Fixed(dim, f"{n.op_type} has no rule: {why}")
