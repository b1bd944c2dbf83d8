"""Quantization: scales and zero points follow their axis; a range that is taken at run time reads every axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from onnxprune.dimensions import Dimension
from onnxprune.rules.call import Call, Tensor, merged
from onnxprune.rules.contraction import conv, matmul
from onnxprune.rules.elementwise import carry
from onnxprune.rules.equivalents import BLOCKS, follows, measured, scales
from onnxprune.rules.facts import Attribute, Counts, Fact, Fixed, Reads, Same, Work
from onnxprune.rules.registry import rule

SHARED = "the zero points of several blocks share a byte"


@rule("QuantizeLinear", "DequantizeLinear")
@rule("QuantizeLinear", "DequantizeLinear", domain="com.microsoft")
def quantize_linear(n: Call) -> Iterator[Fact]:
    """Scale and zero point follow `axis`: one for each index, or one for each block of indices."""
    yield from carry(n.x, n.y)
    axis = int(n.attribute("axis", 1)) % max(n.x.rank, 1)
    for tensor in n.inputs[1:]:
        if tensor is not None:
            yield from follows(n, tensor, n.x, axis)


@rule("DynamicQuantizeLinear")
def dynamic_quantize_linear(n: Call) -> Iterator[Fact]:
    """One scale for the whole tensor, from a range that always holds 0: what goes is silenced in front of it."""
    yield from carry(n.x, n.y)
    yield from measured(n, 0)


@rule("ConvInteger")
def conv_integer(n: Call) -> Iterator[Fact]:
    """Conv on integers, with the zero points of both operands behind them."""
    yield from conv(_two_operands(n))
    yield from scales(n)


@rule("MatMulInteger")
@rule("MatMulInteger16", domain="com.microsoft")
def matmul_integer(n: Call) -> Iterator[Fact]:
    """MatMul on integers, with the zero points of both operands behind them."""
    yield from matmul(_two_operands(n))
    yield from scales(n)


def _two_operands(n: Call) -> Call:
    return replace(n, inputs=n.inputs[:2])


@rule("MatMulNBits", domain="com.microsoft")
def matmul_n_bits(n: Call) -> Iterator[Fact]:
    """y = x B': B is [N, blocks, bytes], so of K only whole blocks can go; scales are N x blocks, merged or not."""
    packed, bias, blocks_of = n.inputs[1], n.input(5), int(n.attribute("block_size"))
    assert packed is not None
    yield from carry(n.x, n.y, but=(n.x.rank - 1,))
    yield Same(n.y[-1], packed[0])
    contracted = n.x[-1]
    if contracted.size % blocks_of:
        yield from (Fixed(dim, "quantized in blocks, the last of them a part") for dim in (contracted, packed[1]))
    else:
        block = n.new(blocks_of)
        yield Same(contracted, merged(packed[1], block))
        yield Fixed(block, BLOCKS)
    yield Fixed(packed[2], "several numbers in one byte")
    yield from (fact for k in (2, 3) if (t := n.input(k)) is not None for fact in _of_blocks(n, t, packed))
    if n.input(4) is not None:
        yield Fixed(contracted, "its indices are in an order of their own")
    if bias is not None:
        yield Same(bias[0], packed[0])
    yield Reads(0, n.x.rank - 1)
    yield from (Counts(Attribute("K"), (contracted,)), Counts(Attribute("N"), (packed[0],)))
    yield Work(n.cost(n.y, but=(n.y.rank - 1,)), (packed[0], contracted))


def _of_blocks(n: Call, parameter: Tensor, packed: Tensor) -> Iterator[Fact]:
    """One scale or zero point for each block of each row; zero points that share a byte go, or stay, together."""
    rows, blocks = packed[0], packed[1]
    each = parameter.dims[-1].size if parameter.rank > 1 else parameter.dims[0].size // rows.size
    per_row: Dimension = blocks
    if each != blocks.size:
        bits = int(n.attribute("bits", 4))
        per_row, several = n.new(each), n.new(8 // bits)
        if 8 % bits == 0 and blocks.size == each * several.size:
            yield from (Same(blocks, merged(per_row, several)), Fixed(several, SHARED))
        else:
            yield from (Fixed(dim, SHARED) for dim in (per_row, blocks))
    if parameter.rank == 1:
        yield Same(parameter[0], merged(rows, per_row))
    else:
        yield from map(Same, parameter.dims, (rows, per_row))


@rule("DynamicQuantizeLSTM", domain="com.microsoft")
def dynamic_quantize_lstm(n: Call) -> Iterator[Fact]:
    """The inputs pass, silenced in front of it; the units are quantized together at every step, so they are fixed."""
    weight = n.inputs[1]
    assert weight is not None
    passing = (n.x[2], weight[1])
    yield Same(*passing)
    reason = "DynamicQuantizeLSTM quantizes all units together"
    yield from (Fixed(dim, reason) for dim in n.all_axes() if dim not in passing)
    yield Reads(0, 2)
