"""What is in memory at each moment of a run: the tensors that were made and are still to be read.

The order is that of the nodes as they are written, which is the order in which ONNX Runtime plans its memory (on one
thread). A tensor's memory is used again as soon as its last reader has run; an elementwise operator and one that only
changes the shape write their output where their input was, if nobody else reads that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from onnxprune.analysis import Analysis
from onnxprune.dimensions import Dimension, atoms
from onnxprune.weights import bits_of

__all__ = ["Living", "batch_of", "moments"]

Living = tuple[str, float, tuple[Dimension, ...]]
"""A tensor: its name, the bytes of one number (a share of them, for a batch of one), its axes."""

IN_PLACE = frozenset(
    {"Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Selu", "Add", "Sub", "Mul"}
    | {"Div", "Neg", "Abs", "Exp", "Sqrt", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"}
    | {"Softmax"}
)


def moments(analysis: Analysis) -> Iterator[tuple[Living, ...]]:
    """For each node, what is in memory while it runs for a batch of one, weights and graph inputs left out; each once.

    Of tensors whose shape is not known nothing is said.
    """
    model, last = analysis.model, _last_reads(analysis)
    alive: dict[str, Living] = {}
    told: set[frozenset[str]] = set()
    for node in model.nodes:
        made = {name: living for name in node.outputs if name and (living := _living(analysis, name)) is not None}
        over = {name for name in node.inputs if last.get(name) == node.index}
        if node.op_type in IN_PLACE:
            taken = next((name for name in node.inputs if name in over and name in alive), None)
            alive.pop(taken or "", None)
        alive.update(made)
        now = frozenset(alive)
        if now not in told:
            told.add(now)
            yield tuple(alive.values())
        for name in over | {name for name in made if name not in last}:
            alive.pop(name, None)


def _last_reads(analysis: Analysis) -> dict[str, int]:
    """The node that reads a tensor last; what the graph gives is read after all nodes."""
    last = {name: node.index for node in analysis.model.nodes for name in node.inputs if name}
    return last | {output.name: len(analysis.model.nodes) for output in analysis.model.outputs}


def batch_of(analysis: Analysis, dims: Sequence[Dimension]) -> tuple[int, ...]:
    """The example sizes of the batch among the axes of a tensor: of the first axes of graph inputs that are free."""
    inside = {atom.id for dim in dims for atom in atoms(dim)}
    free = (info for info in analysis.model.inputs if analysis.shapes.dynamic.get(info.name, ())[:1] == (True,))
    batch = {atom.id: atom.size for info in free for atom in atoms(analysis.dims(info.name)[0])}
    return tuple(size for atom, size in batch.items() if atom in inside)


def _living(analysis: Analysis, name: str) -> Living | None:
    dtype = analysis.shapes.dtype.get(name)
    if analysis.shapes.shape.get(name) is None or dtype is None or name in analysis.model.weights:
        return None
    dims = analysis.dims(name)
    return name, bits_of(dtype) / 8 / prod(batch_of(analysis, dims)), dims
