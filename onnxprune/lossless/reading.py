"""Every place where a contraction reads a dimension: which of its indices matter there, and what they are.

An index may go if removing it changes no output. By the theorem removing is silencing, and silencing happens where the
index is read; so it may go if it is silent already at every place that reads it, because the weights there are zero or
because it is itself always zero. An index that is not silent can be made so, without a change to any output: a constant
is moved into a bias, a duplicate's weights are added to those of its twin.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from onnxprune.dimensions import Dimension, Mask, keep_mask
from onnxprune.lossless.contraction import Contraction
from onnxprune.lossless.flow import Flow
from onnxprune.lossless.values import Hashes, Unknowable, mixed
from onnxprune.model import Array, Node
from onnxprune.rules.facts import Reads

__all__ = ["Bias", "Reader", "readers"]

Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Bias:
    """Where something can be added to what a contraction makes: an input of a node, and the tensor there, if any."""

    node: int
    position: int
    name: str


@dataclass(slots=True)
class Reader:
    """One axis of one operand that a node contracts.

    `reads` says which indices of the axis (columns) are read for which others (rows), (rows, size), weights alone;
    `zero`, `known`, `value` and `number` are of the (groups, read) channels of the operand's partner. A reader without
    a contraction has no partner: what it reads can neither be folded nor merged.
    """

    node: Node
    operand: int
    dim: Dimension
    made: tuple[Dimension, ...]  # the other axes of the operand, where it is a weight
    nonzero: Booleans  # of the operand: (groups, made, read) for a contraction, else with the read axis last
    contraction: Contraction | None = None
    zero: Booleans = field(default_factory=lambda: np.zeros((), np.bool_))
    known: Booleans = field(default_factory=lambda: np.zeros((), np.bool_))
    value: Array = field(default_factory=lambda: np.zeros(()))
    number: Hashes = field(default_factory=lambda: np.zeros((), np.uint64))
    bias: Bias | None = None
    why_not: str = ""  # why constants cannot be folded here, or duplicates merged
    can_merge: bool = False

    def unsilenced(self, keep: Mapping[int, Mask]) -> Booleans:
        """The channels with a weight that is not zero towards something that stays; (groups, read), or (1, size)."""
        kept: Booleans
        if self.contraction is not None:
            kept = self.contraction.made_mask(keep_mask(self.made[0], keep))
            return np.asarray((self.nonzero & kept[:, :, None]).any(axis=1))
        found = self.nonzero
        for axis, dim in enumerate(self.made):
            found = np.compress(keep_mask(dim, keep), found, axis=axis)
        return np.asarray(found.any(axis=tuple(range(found.ndim - 1))))[None]

    def positions(self, channels: Booleans) -> Booleans:
        """From (groups, read) to the indices of the axis: true where any group's is."""
        return channels[0] if self.contraction is None else self.contraction.needs(channels)

    def numbers(self, read: Booleans) -> Hashes:
        """A number for each index of the axis; equal ones can be merged here. `read` is what `unsilenced` gives."""
        size = self.dim.size
        own = mixed(np.uint64(3), np.arange(size, dtype=np.uint64))
        if self.contraction is None or not self.can_merge:
            return np.where(self.positions(read), own, np.uint64(0))
        groups = np.arange(self.contraction.groups, dtype=np.uint64)
        if self.contraction.reads_all_groups:
            return mixed(np.broadcast_to(groups[:, None], self.number.shape).ravel(), self.number.ravel())
        return mixed(*self.number)


def readers(flow: Flow) -> list[Reader]:
    """Every place where a dimension is read, with what is known of the values there."""
    return list(_readers(flow))


def _readers(flow: Flow) -> Iterator[Reader]:
    analysis, model = flow.analysis, flow.model
    users: dict[str, list[tuple[Node, int]]] = defaultdict(list)
    for node in model.nodes:
        for position, name in enumerate(node.inputs):
            users[name].append((node, position))
    for statement in analysis.notes(Reads):
        assert isinstance(statement.fact, Reads)
        node, operand, axis = model.nodes[statement.node], statement.fact.operand, statement.fact.axis
        dims = analysis.dims(node.inputs[operand])
        axis %= len(dims)
        if dims[axis].size == 1:
            continue
        k = flow.contraction(node)
        nonzero = flow.nonzero(node) if k is not None and axis == (k.x_axis, k.axis)[operand] else None
        if k is not None and nonzero is not None:
            yield _contracting(flow, node, analysis.dims(node.inputs[1]), k, nonzero, users)
        else:
            nonzero, zero = _operand(flow, node, operand, axis)
            others = tuple(dim for k, dim in enumerate(dims) if k != axis) if nonzero.ndim > 1 else ()
            yield Reader(node, operand, dims[axis], others, nonzero, zero=zero[None])


def _contracting(
    flow: Flow,
    node: Node,
    dims: tuple[Dimension, ...],
    k: Contraction,
    nonzero: Booleans,
    users: Mapping[str, list[tuple[Node, int]]],
) -> Reader:
    reader = Reader(node, 1, dims[k.axis], (dims[1 - k.axis],), nonzero, k)
    shape = (k.groups, k.read)
    reader.zero = reader.known = np.zeros(shape, np.bool_)
    values = flow.values(node.inputs[0])
    try:
        if values is None:
            raise Unknowable
        number, known, value = values.along(k.x_axis)
    except Unknowable:
        reader.why_not = "nothing is known of what is read"
        return reader
    reader.known, reader.value, reader.number = known.reshape(shape), value.reshape(shape), number.reshape(shape)
    reader.zero = reader.known & (reader.value == 0)
    name = node.inputs[1]
    if not _editable(flow, name) or flow.model.weights[name].dtype.kind not in "fV":
        reader.why_not = "the weights that read it are computed or quantized"
        return reader
    reader.can_merge = True
    reader.bias = _bias(flow, node, k, users)
    if k.padded:
        reader.why_not = "what reads it pads with zeros"
    elif reader.bias is None:
        reader.why_not = "what reads it has no bias to take it"
    return reader


def _editable(flow: Flow, name: str) -> bool:
    """Whether a tensor is stored in the model, and nobody can feed another in its place."""
    return name in flow.model.weights and flow.is_constant(name) and name not in flow.model.folded


def _bias(flow: Flow, node: Node, k: Contraction, users: Mapping[str, list[tuple[Node, int]]]) -> Bias | None:
    """The bias of a convolution or Gemm, there or not; that of a MatMul is the constant that an Add after it adds."""
    if k.bias is not None:
        name = node.inputs[k.bias] if k.bias < len(node.inputs) else ""
        return Bias(node.index, k.bias, name) if k.beta and (not name or _editable(flow, name)) else None
    found = users[node.outputs[0]]
    if len(found) != 1 or node.outputs[0] in flow.model.kept or found[0][0].op_type != "Add" or found[0][0].domain:
        return None
    add, position = found[0]
    name = add.inputs[1 - position]
    info = flow.model.weights.get(name)
    if info is None or not _editable(flow, name) or not info.shape or info.shape[-1] not in (1, k.made):
        return None
    return Bias(add.index, 1 - position, name) if np.prod(info.shape) == info.shape[-1] else None


def _operand(flow: Flow, node: Node, operand: int, axis: int) -> tuple[Booleans, Booleans]:
    """Where a weight is not zero, its read axis last; which indices of an operand that is none are always zero."""
    name = node.inputs[operand]
    nonzero = flow.nonzeros(name)
    size = flow.analysis.axes[name][axis].size
    if nonzero is not None:
        return np.moveaxis(nonzero, axis, -1), np.zeros(size, np.bool_)
    zero = _zero_along(flow, name, axis, size)
    if node.op_type == "MatMul" and node.domain == "" and operand == 0:
        other = node.inputs[1]
        zero |= _zero_along(flow, other, max(len(flow.analysis.axes[other]) - 2, 0), size)
    return np.ones(size, np.bool_), zero


def _zero_along(flow: Flow, name: str, axis: int, size: int) -> Booleans:
    values = flow.values(name)
    try:
        if values is not None and values.known.any() and values.value.dtype.kind in "fV":
            _, known, value = values.along(axis)
            return np.array(known & (value == 0))
    except Unknowable:
        pass
    return np.zeros(size, np.bool_)
