"""Attention and what serves it: key/value heads, the query heads that share one, and the two head widths are groups.

Queries and keys meet over the head width, which is contracted; values pass. The softmax runs over the keys of one
head, so heads are independent of each other: what reads the output silences one that goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

from onnxprune.dimensions import Atom, Dimension
from onnxprune.rules.call import Call, Tensor, joined, merged
from onnxprune.rules.elementwise import carry
from onnxprune.rules.facts import Attribute, Counts, Default, Fact, Fixed, Reads, Role, Same, Work
from onnxprune.rules.registry import rule

KEYS = "the softmax of attention runs over its indices"


@dataclass(frozen=True, slots=True)
class _Heads:
    """Key/value heads, the query heads that share each, the width of queries and keys, and that of values."""

    shared: Atom
    each: Atom
    width: Atom
    value: Atom

    @property
    def queries(self) -> Dimension:
        """Query head i reads key/value head i // |each|."""
        return merged(self.shared, self.each)


def _heads(n: Call) -> _Heads:
    """The heads that the attributes count, or that have an axis of their own."""
    q, k, v = n.inputs[:3]
    assert q is not None
    assert k is not None
    assert v is not None
    if q.rank == 4:
        number, shared, width, value = q.shape[1], k.shape[1], q.shape[3], v.shape[3]
    else:
        number, shared = int(n.attribute("q_num_heads")), int(n.attribute("kv_num_heads"))
        width, value = q.shape[2] // number, v.shape[2] // shared
    return _Heads(n.new(shared), n.new(number // shared), n.new(width), n.new(value))


def _in_heads(tensor: Tensor, heads: Dimension, width: Dimension, batch: Atom) -> Iterator[Fact]:
    """batch, length, heads x width; or batch, heads, length, width."""
    yield Same(tensor[0], batch)
    if tensor.rank == 3:
        yield Same(tensor[2], merged(heads, width))
    else:
        yield Same(tensor[1], heads)
        yield Same(tensor[3], width)


def roles(heads: Dimension, width: Dimension, value: Dimension) -> Iterator[Fact]:
    """What each dimension is in the two products inside the operator."""
    yield from (Role("batched", heads), Role("contracted", width), Role("carried", value))


def _counted(n: Call, heads: _Heads) -> Iterator[Fact]:
    """The numbers of heads are attributes where the heads are merged with their width."""
    yield from roles(heads.queries, heads.width, heads.value)
    if n.attribute("q_num_heads") is not None:
        yield Counts(Attribute("q_num_heads"), (heads.queries,))
        yield Counts(Attribute("kv_num_heads"), (heads.shared,))


@rule("Attention")
def attention(n: Call) -> Iterator[Fact]:
    """Q is heads x width, K and V have the heads that queries share, Y has the width of V; the width is contracted."""
    q, k, y, heads = n.x, n.inputs[1], n.y, _heads(n)
    assert k is not None
    length = q.rank - 2
    for tensor, number, width in (
        (q, heads.queries, heads.width),
        (y, heads.queries, heads.value),
        *((t, heads.shared, heads.width) for t in (k, n.input(4), n.output(1)) if t is not None),
        *((t, heads.shared, heads.value) for t in (n.input(2), n.input(5), n.output(2)) if t is not None),
    ):
        yield from _in_heads(tensor, number, width, q[0])
        if tensor not in (q, y):
            yield Fixed(tensor[tensor.rank - 2], KEYS)
    yield Same(q[length], y[length])
    if n.attribute("is_causal", 0) or n.attribute("left_window_size", -1) + n.attribute("right_window_size", -1) > -2:
        yield Fixed(q[length], "attention depends on its order")
    for scores in (n.input(3), n.output(3)):
        if scores is not None:
            yield from _scores(scores, (q[0], heads.queries, q[length]))
    yield from _counted(n, heads)
    yield Reads(0, q.rank - 1)
    if n.attribute("scale") is None:
        yield Default("scale", 1 / sqrt(heads.width.size), (heads.width,))
    pairs = n.cost(q, but=(1, 2, 3)) * q.shape[length] * k.shape[length]
    yield from (Work(pairs, (heads.shared, heads.each, width)) for width in (heads.width, heads.value))


def _scores(tensor: Tensor, onto: tuple[Dimension, ...]) -> Iterator[Fact]:
    """A tensor broadcast to batch, query heads, queries, keys: keys stay, the others follow where it has them."""
    yield Fixed(tensor[-1], KEYS)
    for dim, target in zip(tensor.dims[-2::-1], reversed(onto), strict=False):
        if dim.size == target.size:
            yield Same(dim, target)


@rule("LinearAttention")
@rule("LinearAttention", domain="com.microsoft")
def linear_attention(n: Call) -> Iterator[Fact]:
    """As attention, but a state of width x value is carried along the steps; keys are contracted with it, too."""
    q, heads = n.x, _heads(n)
    if not heads.each.size or n.attribute("state_window", 0):
        return  # fewer query heads than others, or states of several steps: nothing passes
    for tensor, number, width in (
        (q, heads.queries, heads.width),
        (n.y, heads.queries, heads.value),
        (n.inputs[1], heads.shared, heads.width),
        (n.inputs[2], heads.shared, heads.value),
    ):
        assert tensor is not None
        yield from _in_heads(tensor, number, width, q[0])
        yield Fixed(tensor[1], "a state is carried along it")
    yield from _states_and_gates(n, heads)
    yield from _counted(n, heads)
    yield from (Reads(0, 2), Reads(1, 2))
    if not n.attribute("scale", 0.0):
        yield Default("scale", 1 / sqrt(heads.width.size), (heads.width,))
    yield Work(2 * n.cost(q, but=(2,)), (heads.shared, heads.each, heads.width, heads.value))


def _states_and_gates(n: Call, heads: _Heads) -> Iterator[Fact]:
    """A state for each head, a gate for each head or each index of its width."""
    for state in (n.input(3), n.output(1)):
        if state is not None:
            yield from map(Same, state.dims, (n.x[0], heads.shared, heads.width, heads.value))
    for gate in (n.input(4), n.input(5)):
        if gate is not None and gate.shape[2] > 1:
            wide = gate.shape[2] != heads.shared.size
            yield Same(gate[2], merged(heads.shared, heads.width) if wide else heads.shared)


@rule("RotaryEmbedding")
def rotary_embedding(n: Call) -> Iterator[Fact]:
    """A head is two x pairs (interleaved: pairs x two) and a rest that is not turned; the tables hold the pairs."""
    yield from _turned(n, n.inputs[1], n.inputs[2])


@rule("RotaryEmbedding", domain="com.microsoft")
def rotary_embedding_of_positions(n: Call) -> Iterator[Fact]:
    """A head is two x pairs (interleaved: pairs x two) and a rest, too; the positions stand before the tables."""
    yield from _turned(n, n.inputs[2], n.inputs[3])


def _turned(n: Call, cos: Tensor | None, sin: Tensor | None) -> Iterator[Fact]:
    """What both say; where the heads are merged and not counted, a head is as wide as the tables."""
    assert cos is not None
    assert sin is not None
    x, said, part = n.x, int(n.attribute("num_heads", 0)), int(n.attribute("rotary_embedding_dim", 0))
    width = x.shape[3] if x.rank == 4 else x.shape[2] // said if said else 2 * cos.shape[-1]
    pairs, two, rest = cos[-1], n.new(2), n.new(width - (part or width))
    turning = merged(pairs, two) if n.attribute("interleaved", 0) else merged(two, pairs)
    yield Fixed(two, "RotaryEmbedding turns pairs")
    yield Same(sin[-1], pairs)
    yield from carry(x, n.y)
    heads = x[1] if x.rank == 4 else n.new(x.shape[2] // width)
    if x.rank == 4:
        yield Same(x[3], joined(turning, rest))
    else:
        yield Same(x[2], merged(heads, joined(turning, rest)))
    if said:
        yield Counts(Attribute("num_heads"), (heads,))
    if part:
        yield Counts(Attribute("rotary_embedding_dim"), (turning,))
    yield Fixed(x[x.rank - 2], "RotaryEmbedding turns by the position")


@rule("MRotaryEmbedding", domain="com.microsoft")
def rotary_embedding_of_sections(n: Call) -> Iterator[Fact]:
    """As RotaryEmbedding, but the pairs are in sections, each with positions of its own: heads may go, pairs not."""
    cos = n.inputs[2]
    assert cos is not None
    yield from _turned(n, cos, n.inputs[3])
    yield Fixed(cos[-1], "its pairs are turned in sections")


@rule("TensorScatter")
def tensor_scatter(n: Call) -> Iterator[Fact]:
    """The axis that is written to is fixed, the others are those of the update."""
    axis = int(n.attribute("axis", -2)) % n.x.rank
    update, where = n.inputs[1], n.input(2)
    assert update is not None
    for tensor in (update, n.y):
        yield from carry(n.x, tensor, but=(axis,))
    yield from (Fixed(t[axis], "TensorScatter writes to it by position") for t in (n.x, update, n.y))
    if where is not None:
        yield Same(where[0], n.x[0])
