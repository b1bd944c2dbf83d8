"""The model with a gate for every index: inputs that multiply what is read, so that one session tries any damping.

A gate is a number that an index is multiplied with wherever a contraction reads it: 1 leaves it as it is, 0 silences it
as `cut.mask` does, anything in between damps it. For each type of an axis that is read and holds a group, the gated
model has one float input, as long as the axis; `Gated.feeds` makes their values from one vector for each group:

* an index of a product (heads x width) is multiplied by the gates of all its factors;
* a sum (a concatenation) has the gates of its parts one after the other, and ones for what is no group's;
* a pick has those of its atom in its own order.

An operand that stores integers cannot be damped. A group that is read there has no gates: it is in `ungated`.
Where an index is read twice on its way (queries and keys of an attention in one node), its gate counts twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxprune.dependency import Analysis
from onnxprune.dimensions import Atom, Dimension, Pick, Sum, Vector, atoms
from onnxprune.model import Edit, Model
from onnxprune.quantization import quantized
from onnxprune.rules.facts import Reads

__all__ = ["Gated", "gate", "gate_values"]


@dataclass(frozen=True)
class Gated:
    """`model` has the further inputs `inputs`, each with the type of the axis that it gates.

    `gated` are the atoms that have gates, `ungated` those that are read where none can be.
    """

    model: Model
    inputs: Mapping[str, Dimension]
    gated: frozenset[int]
    ungated: frozenset[int]

    def feeds(self, gates: Mapping[int, Vector]) -> dict[str, npt.NDArray[np.float32]]:
        """What the gate inputs are fed with; a group without gates is left as it is."""
        own = {atom: values for atom, values in gates.items() if atom in self.gated}
        return {name: gate_values(dim, own).astype(np.float32) for name, dim in self.inputs.items()}


def gate_values(dim: Dimension, gates: Mapping[int, Vector]) -> Vector:
    """The gate of every index of `dim`, from those of its atoms; 1 for an atom without any."""
    if isinstance(dim, Atom):
        return np.asarray(gates.get(dim.id, np.ones(dim.size)), np.float64)
    if isinstance(dim, Pick):
        return gate_values(dim.atom, gates)[list(dim.indices)]
    if isinstance(dim, Sum):
        return np.concatenate([gate_values(part, gates) for part in dim.parts])
    values = np.ones(1)
    for factor in dim.factors:
        values = np.multiply.outer(values, gate_values(factor, gates)).ravel()
    return values


def gate(analysis: Analysis) -> Gated:
    """The model with gates for every group that is read as floats; fed with ones, its outputs are the model's."""
    places, integers = _places(analysis)
    groups = {group.atom.id for group in analysis.groups}
    ungated = {atom.id for dim in integers for atom in atoms(dim)} & groups
    gated: set[int] = set()
    edit, model = Edit(analysis.model), analysis.model
    taken = set(model.tensors) | {name for node in model.nodes for name in (*node.inputs, *node.outputs)}
    names: dict[Dimension, str] = {}
    for (node, operand), axes in places.items():
        for axis, dim in axes.items():
            inside = ({atom.id for atom in atoms(dim)} & groups) - ungated
            if inside:
                gated |= inside
                if dim not in names:
                    names[dim] = _unused(f"gate_{len(names)}", taken)
                _multiply(analysis, edit, node, operand, axis, names[dim])
    inputs = {name: dim for dim, name in names.items()}
    done = edit.done().with_inputs({name: (dim.size,) for name, dim in inputs.items()})
    return Gated(done, inputs, frozenset(gated), frozenset(ungated))


def _places(analysis: Analysis) -> tuple[dict[tuple[int, int], dict[int, Dimension]], list[Dimension]]:
    """The types of the axes that are read as floats, by node and operand, and of those that are read as integers."""
    places: dict[tuple[int, int], dict[int, Dimension]] = {}
    integers = []
    for statement in analysis.notes(Reads):
        assert isinstance(statement.fact, Reads)
        node, operand = analysis.model.nodes[statement.node], statement.fact.operand
        name = node.inputs[operand]
        dims = analysis.dims(name)
        axis = statement.fact.axis % len(dims)
        stored = quantized(node.op_type, node.attributes, operand) is not None
        if stored or analysis.shapes.dtype[name].kind in "iub":
            integers.append(dims[axis])
        else:
            places.setdefault((node.index, operand), {})[axis] = dims[axis]
    return places, integers


def _multiply(analysis: Analysis, edit: Edit, node: int, operand: int, axis: int, gates: str) -> None:
    """Let a node read an operand times gates along one axis."""
    name = analysis.model.nodes[node].inputs[operand]
    rank, dtype = len(analysis.dims(name)), analysis.shapes.dtype[name]
    shape = edit.add(f"{gates}__shape", np.asarray([-1 if k == axis else 1 for k in range(rank)]))
    factor = edit.insert(node, "Reshape", [gates, shape], f"{gates}__along")
    if dtype != np.float32:
        factor = edit.insert(node, "Cast", [factor], f"{gates}__cast", to=edit.type_number(dtype))
    read = edit.input_of(node, operand)
    edit.connect(node, operand, edit.insert(node, "Mul", [read, factor], f"{name}__gated"))


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
