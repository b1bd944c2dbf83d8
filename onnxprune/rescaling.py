"""What averages over a dimension keeps its value when indices go: sums over fewer are not divided by fewer.

A silent index adds nothing to a sum and still counts in a mean. So what a mean over n of N indices yields is multiplied
by n / N; where the mean is inside an operator, its numbers are changed to the same effect (`Rescale`).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from onnxprune.dependency import Analysis
from onnxprune.dimensions import count
from onnxprune.model import Edit
from onnxprune.rules.facts import Attribute, Operand, Rescale

__all__ = ["rescale"]


def rescale(analysis: Analysis, counts: Mapping[int, int], edit: Edit) -> None:
    """Correct everything that `Rescale` notes speak of; `counts` is how many indices of each atom stay."""
    for statement in analysis.notes(Rescale):
        fact = statement.fact
        assert isinstance(fact, Rescale)
        before = prod(dim.size for dim in fact.dims)
        after = prod(count(analysis.type_of(dim), counts) for dim in fact.dims)
        if after == before:
            continue
        factor = float((after / before) ** fact.power)
        node = analysis.model.nodes[statement.node]
        if isinstance(fact.place, Attribute):
            old = node.attributes.get(fact.place.name)
            edit.set_attribute(node.index, fact.place.name, factor * (fact.default if old is None else old))
        elif isinstance(fact.place, Operand):
            _operand(analysis, edit, node.index, fact.place.index, factor)
        else:
            name = node.outputs[fact.place.index]
            edit.follow(node.index, fact.place.index, "Mul", _constant(analysis, edit, name, factor))


def _operand(analysis: Analysis, edit: Edit, node: int, position: int, factor: float) -> None:
    """A weight that nothing else reads is changed in place, another gets a copy; what is computed is multiplied."""
    model = analysis.model
    name = edit.input_of(node, position)
    if name not in model.weights:
        edit.connect(node, position, edit.insert(node, "Mul", [name, _constant(analysis, edit, name, factor)],
                                                 f"{name}__rescaled"))  # fmt: skip
        return
    array = edit.array(name)
    array = np.asarray(array * np.asarray(factor, array.dtype))
    if sum(other.inputs.count(name) for other in model.nodes) == 1:
        edit.replace(name, array)
    else:
        edit.connect(node, position, edit.add(f"{name}__rescaled", array))


def _constant(analysis: Analysis, edit: Edit, name: str, factor: float) -> str:
    return edit.add(f"{name}__factor", np.asarray(factor, analysis.shapes.dtype[name]))
