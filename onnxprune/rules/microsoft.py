"""Operators of com.microsoft that are like no standard one, and old ones that the standard has dropped."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

from onnxprune.dimensions import Atom, Dimension
from onnxprune.rules.attention import roles
from onnxprune.rules.call import Call, Tensor, joined, merged
from onnxprune.rules.contraction import windows
from onnxprune.rules.elementwise import carry
from onnxprune.rules.equivalents import scales
from onnxprune.rules.facts import Attribute, Counts, Default, Fact, Fixed, Reads, Same, Work
from onnxprune.rules.normalization import STATISTICS
from onnxprune.rules.registry import fixed_by_nature, rule

KEYS = "attention mixes its indices"
ROTATED = "halves of it are rotated against each other"

fixed_by_nature("Unique", "NGramRepeatBlock", "BifurcationDetector", domain="com.microsoft", reason="picks by value")
fixed_by_nature("Range", domain="com.microsoft", reason="makes as many indices as its values say")
fixed_by_nature("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch", domain="com.microsoft",
                reason="runs whole decoders inside")  # fmt: skip


@rule("Crop")
def crop(n: Call) -> Iterator[Fact]:
    """Batch and channels pass, the border of the image goes."""
    yield from (Same(n.x[0], n.y[0]), Same(n.x[1], n.y[1]))
    yield from windows(n.x, n.y)


@rule("ImageScaler")
def image_scaler(n: Call) -> Iterator[Fact]:
    """One bias for each channel, which only an attribute of numbers holds: channels stay."""
    yield from carry(n.x, n.y)
    yield Fixed(n.x[1], "its biases are an attribute")


@rule("Inverse", domain="com.microsoft")
def inverse(n: Call) -> Iterator[Fact]:
    """The matrices are inverted whole."""
    yield from carry(n.x, n.y)
    yield from (Fixed(dim, "Inverse mixes its indices") for dim in n.x.dims[-2:])


@rule("EmbedLayerNormalization", domain="com.microsoft")
def embed_layer_normalization(n: Call) -> Iterator[Fact]:
    """Rows of up to three tables are added and normalised over the last axis."""
    for y in (n.outputs[0], *n.outputs[2:]):
        if y is not None:
            yield from (Same(n.x[0], y[0]), Same(n.x[1], y[1]), Same(y[2], n.y[2]))
    for parameter in n.inputs[2:7]:
        if parameter is not None:
            yield Same(parameter[-1], n.y[2])
    yield Fixed(n.y[2], STATISTICS, "norm")


@rule("Attention", "QAttention", domain="com.microsoft")
def attention(n: Call) -> Iterator[Fact]:
    """The weight makes heads x width of queries, the same of keys, heads x value; the result is heads x value."""
    weight, bias, quantized = n.inputs[1], n.input(2), n.op_type == "QAttention"
    assert weight is not None
    count, given = int(n.attribute("num_heads")), n.attribute("qkv_hidden_sizes")
    sizes = given or (weight[1].size // 3,) * 3
    heads, width, value = n.new(count), n.new(sizes[0] // count), n.new(sizes[2] // count)
    parts = tuple(n.new(int(size)) for size in sizes)
    yield from map(Same, parts, (merged(heads, width), merged(heads, width), merged(heads, value)))
    yield Same(weight[1], joined(*parts))
    yield from (Same(n.x[0], n.y[0]), Same(n.x[1], n.y[1]), Same(n.x[2], weight[0]), Same(n.y[2], parts[2]))
    yield Fixed(n.x[1], KEYS)
    yield from (Reads(1, 0), Reads(1, 1))
    if bias is not None:
        yield from (Same(bias[0], weight[1]), Reads(2, 0))
    if quantized or (given is None and len(n.inputs) > 4 and n.inputs[4] is not None):
        yield Same(width, value)
    yield from scales(n)
    yield from _heads(n, heads, width)
    yield from roles(heads, width, value)
    yield Counts(Attribute("qkv_hidden_sizes"), parts)
    caches = (n.input(8 if quantized else 4), n.outputs[1] if len(n.outputs) > 1 else None)
    yield from (fact for cache in caches if cache is not None for fact in _cache(cache.dims[1:], heads, width, value))
    if not quantized and (scores := n.input(5)) is not None:
        yield from _scores(scores, heads)
    yield from _work(n, n.x[1].size, heads, width, value, (weight[0], parts))


@rule("MultiHeadAttention", domain="com.microsoft")
def multi_head_attention(n: Call) -> Iterator[Fact]:
    """Queries and keys are heads x width, values and the result heads x value, merged or as two axes."""
    q, k, v, bias, y = n.x, n.input(1), n.input(2), n.input(3), n.y
    assert k is not None
    assert v is not None
    count = int(n.attribute("num_heads"))
    heads, width, value = n.new(count), n.new(q[2].size // count), n.new(y[2].size // count)
    yield from (Same(q[0], y[0]), Same(q[1], y[1]))
    yield from (Same(q[2], merged(heads, width)), Same(y[2], merged(heads, value)), Reads(0, 2))
    caches = ((n.input(6), width), (n.input(7), value), *zip(n.outputs[1:], (width, value), strict=False))
    for tensor, size in ((k, width), (v, value), *caches):
        if tensor is not None and tensor.rank == 3:
            yield from (Same(tensor[0], q[0]), Fixed(tensor[1], KEYS), Same(tensor[2], merged(heads, size)))
        elif tensor is not None:
            yield from _cache(tensor.dims, heads, size, size)
    if bias is not None:
        yield from (Same(bias[0], joined(*(merged(heads, size) for size in (width, width, value)))), Reads(3, 0))
    if (scores := n.input(5)) is not None:
        yield from _scores(scores, heads)
    yield from _heads(n, heads, width)
    yield from roles(heads, width, value)
    yield from _work(n, k[1].size if k.rank == 3 else k[2].size, heads, width, value)


@rule("GroupQueryAttention", domain="com.microsoft")
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
    yield Fixed(width, "ONNX Runtime takes whole multiples of 8 here")
    yield from _work(n, q[1].size, heads, width, width)


def _heads(n: Call, heads: Atom, width: Atom) -> Iterator[Fact]:
    """The number of heads is an attribute, and so is what scores are scaled by, where it is not left to the width."""
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
    rows = n.cost(n.x, but=(2,))
    yield Work(rows * keys, (heads, width))
    yield Work(rows * keys, (heads, value))
    if projection is not None:
        yield from (Work(rows, (projection[0], part)) for part in projection[1])
