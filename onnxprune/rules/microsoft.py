"""Operators of com.microsoft that are like no standard one, and old ones that the standard has dropped."""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.dimensions import Atom, Dimension
from onnxprune.rules.call import Call, joined, merged
from onnxprune.rules.contraction import windows
from onnxprune.rules.elementwise import broadcast, carry
from onnxprune.rules.equivalents import BLOCKS, scales
from onnxprune.rules.facts import Attribute, Counts, Fact, Fixed, Reads, Same, Work
from onnxprune.rules.normalization import STATISTICS
from onnxprune.rules.registry import fixed_by_nature, rule

BYTES = "several numbers in one byte"

fixed_by_nature("Unique", "NGramRepeatBlock", "BifurcationDetector", "DynamicTimeWarping", domain="com.microsoft",
                reason="picks by value")  # fmt: skip
fixed_by_nature("MurmurHash3", "NGramHashMapping", "VarlenNGramHashMapping", domain="com.microsoft",
                reason="hashes by value")  # fmt: skip
fixed_by_nature("Tokenizer", domain="com.microsoft", reason="works on strings, by value")
fixed_by_nature("SparseToDenseMatMul", domain="com.microsoft", reason="reads a sparse tensor, which has no axes")
fixed_by_nature("MatMulFpQ4", domain="com.microsoft", reason="keeps its weight in a form of the machine's own")
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


@rule("EmbedLayerNormalization", "QEmbedLayerNormalization", domain="com.microsoft")
def embed_layer_normalization(n: Call) -> Iterator[Fact]:
    """Rows of up to three tables are added and normalised over the last axis; each may have a scale and zero point."""
    for y in (n.outputs[0], *n.outputs[2:]):
        if y is not None:
            yield from (Same(n.x[0], y[0]), Same(n.x[1], y[1]), Same(y[2], n.y[2]))
    for parameter in n.inputs[2:7]:
        if parameter is not None:
            yield Same(parameter[-1], n.y[2])
    yield from scales(n)
    yield Fixed(n.y[2], STATISTICS, "norm")


@rule("BiasSplitGelu", domain="com.microsoft")
def bias_split_gelu(n: Call) -> Iterator[Fact]:
    """The two halves of the last axis are multiplied index by index, so both are the last axis of the output."""
    bias = n.inputs[1]
    assert bias is not None
    yield from carry(n.x, n.y, but=(n.x.rank - 1,))
    yield Same(n.x[-1], joined(n.y[-1], n.y[-1]))
    yield Same(bias[0], n.x[-1])


@rule("GroupNorm", "SkipGroupNorm", domain="com.microsoft")
def group_norm(n: Call) -> Iterator[Fact]:
    """Channels are groups x channels of a group, wherever they stand; skip and bias are added in front."""
    last = int(n.attribute("channels_last", 1))
    channel = n.x.rank - 1 if last else 1
    groups = n.new(int(n.attribute("groups")))
    inside = n.new(n.x.shape[channel] // groups.size)
    yield Same(n.x[channel], merged(groups, inside))
    yield Counts(Attribute("groups"), (groups,))
    for y in n.outputs:
        if y is not None:
            yield from carry(n.x, y)
    for tensor in n.inputs[1:]:
        if tensor is not None and tensor.rank == n.x.rank:
            yield from broadcast(tensor, n.x)
        elif tensor is not None:
            yield Same(tensor[-1], n.x[channel])
    spatial = (dim for axis, dim in enumerate(n.x.dims) if axis not in (0, channel))
    yield from (Fixed(dim, STATISTICS, "norm") for dim in (inside, *spatial))


@rule("RemovePadding", domain="com.microsoft")
def remove_padding(n: Call) -> Iterator[Fact]:
    """Rows are picked by value, what is in a row passes."""
    yield Same(n.x[2], n.y[1])


@rule("RestorePadding", domain="com.microsoft")
def restore_padding(n: Call) -> Iterator[Fact]:
    """Rows are placed by value, what is in a row passes."""
    yield Same(n.x[1], n.y[2])


@rule("LinearAttentionGate", domain="com.microsoft")
def linear_attention_gate(n: Call) -> Iterator[Fact]:
    """Two gates for each head, from two inputs index by index."""
    for tensor in (*n.inputs, *n.outputs):
        if tensor is not None:
            yield from broadcast(tensor, n.x)


@rule("CDist", domain="com.microsoft")
def cdist(n: Call) -> Iterator[Fact]:
    """Squared differences are added up over the last axis; every row of one meets every row of the other."""
    other = n.inputs[1]
    assert other is not None
    yield from (Same(n.x[1], other[1]), Same(n.x[0], n.y[0]), Same(other[0], n.y[1]))
    yield from (Reads(0, 1), Reads(1, 1), Work(n.cost(n.y), (n.x[1],)))


@rule("UnfoldTensor", domain="com.microsoft")
def unfold_tensor(n: Call) -> Iterator[Fact]:
    """A window slides over one axis and is a new last one; the others pass."""
    axis = int(n.attribute("dim", -1)) % n.x.rank
    yield from (Same(a, b) for k, (a, b) in enumerate(zip(n.x.dims, n.y.dims, strict=False)) if k != axis)
    yield from (Fixed(dim, "a window slides over it") for dim in (n.x[axis], n.y[axis], n.y[-1]))


@rule("MaxpoolWithMask", domain="com.microsoft")
def max_pool_with_mask(n: Call) -> Iterator[Fact]:
    """Batch and channels pass under one mask; ONNX Runtime finds the mask of a channel by the number of channels."""
    mask = n.inputs[1]
    assert mask is not None
    yield from (Same(n.x[0], n.y[0]), Same(n.x[1], n.y[1]))
    yield from windows(n.x, n.y, mask)
    if mask.shape[0] * mask.shape[1] > 1:
        yield from (Fixed(dim, "each channel has a mask of its own") for dim in (n.x[1], *mask.dims[:2]))


@rule("MoE", domain="com.microsoft")
def mixture_of_experts(n: Call) -> Iterator[Fact]:
    """Each expert is two layers (three with a gate) around a hidden width; experts are chosen by value."""
    first, second, third = n.inputs[2], n.inputs[4], n.input(6)
    assert first is not None
    assert second is not None
    hidden, rows = second[2], n.cost(n.x, but=(n.x.rank - 1,))
    yield from carry(n.x, n.y, but=(n.x.rank - 1,))
    yield from (Same(n.x[-1], first[2]), Same(n.y[-1], second[1]), Same(n.x[-1], n.y[-1]))
    two = n.new(first.shape[1] // hidden.size)
    yield Fixed(two, "a gate and what it is for")
    gated = merged(two, hidden) if n.attribute("swiglu_fusion", 0) == 2 else merged(hidden, two)
    biases = ((n.input(3), first[1]), (n.input(5), second[1]), (n.input(7), hidden))
    yield from (Same(first[1], gated), *(Same(t[1], dim) for t, dim in biases if t is not None))
    if third is not None:
        yield from (Same(third[1], hidden), Same(third[2], first[2]))
        yield Reads(6, 2)
    yield from (Reads(2, 2), Reads(4, 2))
    router = n.inputs[1]
    assert router is not None
    yield Same(router[0], merged(*n.x.dims[:-1]))
    chosen = (router[1], *(t[0] for t in n.inputs[2:] if t is not None))
    yield from (Fixed(dim, "experts are chosen by value") for dim in chosen)
    used = rows * int(n.attribute("k", 1))
    yield from (Work(used, (first[1], first[2])), Work(used, (second[1], hidden)))


@rule("MatMulBnb4", domain="com.microsoft")
def matmul_bnb4(n: Call) -> Iterator[Fact]:
    """The weight is flattened, N x blocks of K, two numbers in a byte: of K only whole blocks can go."""
    packed, scales, each = n.inputs[1], n.inputs[2], int(n.attribute("block_size"))
    assert packed is not None
    assert scales is not None
    rows, wide = n.new(int(n.attribute("N"))), n.new(int(n.attribute("K")))
    out, contracted = (rows, wide) if n.attribute("transB", 1) else (wide, rows)
    yield from carry(n.x, n.y, but=(n.x.rank - 1,))
    yield from (Same(n.y[-1], out), Same(n.x[-1], contracted))
    if wide.size % each:
        whole = (*packed.dims, *scales.dims, rows, wide)
        yield from (Fixed(dim, "quantized in blocks that go on from one row to the next") for dim in whole)
    else:
        blocks, block, half = n.new(wide.size // each), n.new(each), n.new(each // 2)
        yield from (Same(wide, merged(blocks, block)), Same(packed[0], merged(rows, blocks, half)))
        yield Same(scales[0], merged(rows, blocks))
        yield from (Fixed(block, BLOCKS), Fixed(half, BYTES))
    yield from (Reads(0, n.x.rank - 1), Counts(Attribute("N"), (rows,)), Counts(Attribute("K"), (wide,)))
    yield Work(n.cost(n.y, but=(n.y.rank - 1,)), (rows, wide))


@rule("GatherBlockQuantized", domain="com.microsoft")
def gather_block_quantized(n: Call) -> Iterator[Fact]:
    """A Gather of rows whose numbers are quantized in blocks along another axis, of which whole blocks can go."""
    data, indices = n.x, n.inputs[1]
    assert indices is not None
    picked = int(n.attribute("gather_axis", 0)) % data.rank
    along = int(n.attribute("quantize_axis", 1)) % data.rank
    block = int(n.attribute("block_size", 128))
    made = (*n.y.dims[:picked], data[picked], *n.y.dims[picked + indices.rank :])
    yield Fixed(data[picked], "its indices are picked by values that are made at run time")
    yield from map(Same, indices.dims, n.y.dims[picked : picked + indices.rank])
    for axis, real in enumerate(made):
        parameters = [(t[axis], t[axis].size == data[axis].size) for t in n.inputs[2:4] if t is not None]
        if axis == along:
            yield from _in_blocks(n, data[axis], real, [dim for dim, _ in parameters], block)
            continue
        yield from _packed(n, data[axis], real)
        yield from (Same(dim, data[axis] if same else real) for dim, same in parameters if dim.size > 1)


def _packed(n: Call, stored: Atom, real: Dimension) -> Iterator[Fact]:
    """One number in each stored one, or several, which go together."""
    several = n.new(real.size // stored.size)
    yield Same(real, merged(stored, several))
    yield Fixed(several, BYTES)


def _in_blocks(n: Call, stored: Atom, real: Dimension, parameters: list[Atom], block: int) -> Iterator[Fact]:
    """Blocks x numbers of a block, one scale and zero point for each block; where those share a byte, all stay."""
    count = parameters[0].size
    if real.size != count * block or any(dim.size != count for dim in parameters):
        yield from (Fixed(dim, "quantized in blocks that share a byte or are not whole") for dim in parameters)
        yield from (Fixed(stored, BLOCKS), Fixed(real, BLOCKS))
        return
    inside, held = n.new(block), n.new(stored.size // count)
    yield from (Fixed(inside, BLOCKS), Fixed(held, BYTES))
    yield from (Same(real, merged(parameters[0], inside)), Same(stored, merged(parameters[0], held)))
    yield from (Same(dim, parameters[0]) for dim in parameters[1:])
