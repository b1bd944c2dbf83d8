"""Attention as ONNX Runtime fuses it, from one projection of all three or from queries, keys and values."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

from onnxprune.dimensions import Atom, Dimension
from onnxprune.rules.attention import roles
from onnxprune.rules.call import Call, Tensor, joined, merged
from onnxprune.rules.elementwise import carry
from onnxprune.rules.equivalents import scales
from onnxprune.rules.facts import Attribute, Counts, Default, Fact, Fixed, Reads, Same, Work
from onnxprune.rules.normalization import STATISTICS
from onnxprune.rules.registry import rule

KEYS = "attention mixes its indices"
ROTATED = "halves of it are rotated against each other"
EIGHTS = "ONNX Runtime takes whole multiples of 8 here"


@rule("Attention", "PackedAttention", "QAttention", domain="com.microsoft")
def attention(n: Call) -> Iterator[Fact]:
    """The weight makes heads x width of queries, the same of keys, heads x value; the result is heads x value."""
    weight, bias = n.inputs[1], n.input(2)
    past = {"Attention": n.input(4), "QAttention": n.input(8)}.get(n.op_type)
    assert weight is not None
    count, given = int(n.attribute("num_heads")), n.attribute("qkv_hidden_sizes")
    sizes = given or (weight[1].size // 3,) * 3
    heads, width, value = n.new(count), n.new(sizes[0] // count), n.new(sizes[2] // count)
    parts = tuple(n.new(int(size)) for size in sizes)
    yield from map(Same, parts, (merged(heads, width), merged(heads, width), merged(heads, value)))
    yield from carry(n.x, n.y, but=(n.x.rank - 1,))
    yield from (Same(n.x[-1], weight[0]), Same(n.y[-1], parts[2]), Fixed(n.x[-2], KEYS), Reads(1, 0), Reads(1, 1))
    yield from (Same(weight[1], joined(*parts)), Counts(Attribute("qkv_hidden_sizes"), parts))
    if bias is not None:
        yield from (Same(bias[0], weight[1]), Reads(2, 0))
    if n.op_type == "QAttention" or (given is None and past is not None):
        yield Same(width, value)
    for cache in (past, n.output(1)):
        if cache is not None:
            yield from _cache(cache.dims[1:], heads, width, value)
    scores = None if n.op_type == "QAttention" else n.input(5)
    yield from (*scales(n), *_of_heads(n, heads, width, value, scores))
    yield from _work(n, n.x[-2].size, heads, width, value, (weight[0], parts))


@rule("MultiHeadAttention", "DecoderMaskedMultiHeadAttention", domain="com.microsoft")
def multi_head_attention(n: Call) -> Iterator[Fact]:
    """Queries and keys are heads x width, values and the result heads x value, merged or as two axes."""
    at, added, past = (3, 5, 6) if n.op_type == "MultiHeadAttention" else (10, 4, 5)
    q, k, v, bias, y = n.x, n.input(1), n.input(2), n.input(at), n.y
    assert k is not None
    assert v is not None
    count = int(n.attribute("num_heads"))
    heads, width, value = n.new(count), n.new(q[2].size // count), n.new(y[2].size // count)
    yield from (Same(q[0], y[0]), Same(q[1], y[1]))
    yield from (Same(q[2], merged(heads, width)), Same(y[2], merged(heads, value)), Reads(0, 2))
    caches = ((n.input(past), width), (n.input(past + 1), value), *zip(n.outputs[1:], (width, value), strict=False))
    for tensor, size in ((k, width), (v, value), *caches):
        if tensor is not None and tensor.rank == 3:
            yield from (Same(tensor[0], q[0]), Fixed(tensor[1], KEYS), Same(tensor[2], merged(heads, size)))
        elif tensor is not None:
            yield from _cache(tensor.dims, heads, size, size)
    if bias is not None:
        yield from (Same(bias[0], joined(*(merged(heads, size) for size in (width, width, value)))), Reads(at, 0))
    if n.op_type != "MultiHeadAttention":
        yield Same(width, value)  # its CPU kernel takes no others
    yield from _of_heads(n, heads, width, value, n.input(added))
    yield from _work(n, k[1].size if k.rank == 3 else k[2].size, heads, width, value)


@rule("PackedMultiHeadAttention", domain="com.microsoft")
def packed_multi_head_attention(n: Call) -> Iterator[Fact]:
    """As MultiHeadAttention, the rows of a batch one after the other; all three may be one tensor, by heads."""
    q, y, bias, count = n.x, n.y, n.input(3), int(n.attribute("num_heads"))
    heads, value = n.new(count), n.new(y[1].size // count)
    width = n.new(q[3].size if q.rank == 4 else q[1].size // count)
    yield from (Fixed(q[0], KEYS), Same(q[0], y[0]), Same(y[1], merged(heads, value)), Reads(0, q.rank - 1))
    if q.rank == 4:
        yield from (Same(q[1], heads), Same(q[3], width), Same(width, value))
    for tensor, size in ((q, width), (n.input(1), width), (n.input(2), value)):
        if tensor is not None and tensor.rank == 2:
            yield from (Same(tensor[0], q[0]), Same(tensor[1], merged(heads, size)))
    if bias is not None:
        yield from (Same(bias[0], joined(*(merged(heads, size) for size in (width, width, value)))), Reads(3, 0))
    yield from _of_heads(n, heads, width, value, n.input(6))
    yield from _work(n, q[0].size, heads, width, value)


@rule("GroupQueryAttention", "SparseAttention", domain="com.microsoft")
def group_query_attention(n: Call) -> Iterator[Fact]:
    """Queries are shared x each x width, keys and values shared x width; the result is what the queries are."""
    q, y, shared_count = n.x, n.y, int(n.attribute("kv_num_heads"))
    each_count = int(n.attribute("num_heads")) // shared_count
    shared, each, width = n.new(shared_count), n.new(each_count), n.new(y[2].size // shared_count // each_count)
    queries, keys, heads = merged(shared, each, width), merged(shared, width), n.new(shared_count * each_count)
    yield from (Same(q[0], y[0]), Same(q[1], y[1]), Fixed(q[1], KEYS), Same(y[2], queries), Reads(0, 2))
    yield Same(q[2], queries if n.input(1) is not None else joined(queries, keys, keys))
    for tensor in (n.input(1), n.input(2)):
        if tensor is not None:
            yield from (Same(tensor[0], q[0]), Fixed(tensor[1], KEYS), Same(tensor[2], keys))
    for cache in (n.input(3), n.input(4), *n.outputs[1:3]):
        if cache is not None:
            yield from _cache(cache.dims, shared, width, width)
    yield from (Same(heads, merged(shared, each)), *roles(merged(shared, each), width, width))
    yield from (Counts(Attribute("num_heads"), (heads,)), Counts(Attribute("kv_num_heads"), (shared,)))
    if not n.attribute("scale", 0.0):
        yield Default("scale", 1 / sqrt(width.size), (width,))
    yield from _in_eights(n, width)
    yield from _layouts(n, heads) if n.op_type == "SparseAttention" else _of_newer_versions(n, heads, shared, width)
    yield from _work(n, q[1].size, heads, width, width)


def _in_eights(n: Call, width: Atom) -> Iterator[Fact]:
    """ONNX Runtime takes widths that are a multiple of 8; where pairs are turned, tables that are one."""
    first = 9 if n.op_type == "SparseAttention" else 7
    cos, sin = n.input(first), n.input(first + 1)
    parts = [(width, 8)]
    if n.attribute("do_rotary", 0) and cos is not None and sin is not None:
        pairs, two, rest = cos[-1], n.new(2), n.new(width.size - 2 * cos[-1].size)
        turned = merged(pairs, two) if n.attribute("rotary_interleaved", 0) else merged(two, pairs)
        yield from (Same(sin[-1], pairs), Same(width, joined(turned, rest)), Fixed(two, ROTATED))
        parts = [(pairs, 8), (rest, 16)]
    for dim, number in parts:
        if dim.size % number:
            yield Fixed(dim, EIGHTS)
        elif dim.size:
            inside = n.new(number)
            yield from (Same(dim, merged(n.new(dim.size // number), inside)), Fixed(inside, EIGHTS))


def _layouts(n: Call, heads: Atom) -> Iterator[Fact]:
    """Heads take the layouts in turn, by their number."""
    layouts = n.inputs[5]
    if layouts is None or layouts.shape[0] > 1:
        yield Fixed(heads, "its heads take turns with the layouts of a sparse mask")


def _of_newer_versions(n: Call, heads: Atom, shared: Atom, width: Atom) -> Iterator[Fact]:
    """Scores, a sink for each head, scales of a quantized cache, and norms of queries and keys."""
    for scores in (n.input(10), n.output(3)):
        if scores is not None:
            yield from _scores(scores, heads)
    if (sink := n.input(11)) is not None:
        yield Same(sink[0], heads)
    for scale in (n.input(12), n.input(13)):
        if scale is not None and max(scale.shape, default=1) > 1:
            yield Fixed(merged(shared, width), "the cache is scaled index by index")
    if n.input(14) is not None or n.input(15) is not None:
        yield Fixed(width, STATISTICS)


def _of_heads(n: Call, heads: Atom, width: Atom, value: Atom, scores: Tensor | None) -> Iterator[Fact]:
    """The number of heads is an attribute, and so is what scores are scaled by, where it is not left to the width."""
    yield from roles(heads, width, value)
    if scores is not None:
        yield from _scores(scores, heads)
    yield Counts(Attribute("num_heads"), (heads,))
    if n.attribute("do_rotary", 0):
        yield Fixed(width, ROTATED)
    if not n.attribute("scale", 0.0):
        yield Default("scale", 1 / sqrt(width.size), (width,))


def _cache(dims: tuple[Atom, ...], heads: Atom, width: Atom, value: Atom) -> Iterator[Fact]:
    """Keys and values of earlier steps: batch, heads, steps, width, which is one for both where they share a tensor."""
    yield from (Same(dims[1], heads), Same(dims[3], width), Same(dims[3], value), Fixed(dims[2], KEYS))


def _scores(tensor: Tensor, heads: Atom) -> Iterator[Fact]:
    """A tensor that is broadcast to batch, heads, queries and keys."""
    if tensor.rank == 4 and tensor[1].size == heads.size:
        yield Same(tensor[1], heads)
    yield Fixed(tensor[-1], KEYS)


def _work(
    n: Call,
    keys: int,
    heads: Dimension,
    width: Atom,
    value: Atom,
    projection: tuple[Dimension, tuple[Atom, ...]] | None = None,
) -> Iterator[Fact]:
    """Scores and their use on the values, and the projection where the node has one."""
    rows = n.cost(n.x, but=(1, 3) if n.x.rank == 4 else (n.x.rank - 1,))
    yield Work(rows * keys, (heads, width))
    yield Work(rows * keys, (heads, value))
    if projection is not None:
        yield from (Work(rows, (projection[0], part)) for part in projection[1])
