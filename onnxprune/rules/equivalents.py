"""Operators that are a standard one but for scales, fusions and layout: the standard operator's rule speaks for them.

Its facts name axes, which are the same ones whatever the operand is called; its notes name operands, which are
translated. What the equivalent does not know is added: operands that are broadcast to the result, scales and zero
points that follow an axis of what they are for, and inputs whose range is taken when the model runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from onnxprune.model.contrib import Equivalent, equivalent
from onnxprune.quantization import quantized_operands
from onnxprune.rules.call import Call, Tensor, merged
from onnxprune.rules.elementwise import broadcast
from onnxprune.rules.facts import Attribute, Counts, Fact, Fixed, Indexes, Operand, Reads, Rescale, Same
from onnxprune.rules.registry import registry, rule

SKIP_EPSILON = 1e-12  # where ONNX Runtime's norms of a sum are given none
BLOCKS = "quantized in blocks: only whole ones can go"

MICROSOFT = (
    "BiasAdd", "BiasDropout", "BiasGelu", "BiasSoftmax", "BitmaskBiasDropout", "BitmaskDropout",
    "ConvTransposeWithDynamicPads", "FastGelu", "FusedConv", "FusedGemm", "FusedMatMul", "FusedMatMulActivation",
    "GatedAdd", "GatherND", "Gelu", "GemmFastGelu", "GridSample", "MatMulIntegerToFloat", "NhwcConv", "NhwcFusedConv",
    "NhwcMaxPool", "SampleOp", "QGemm", "QLinearAdd", "QLinearAveragePool",
    "QLinearConcat", "QLinearConv", "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMul", "QLinearSigmoid",
    "QLinearSoftmax", "QLinearWhere", "QuickGelu", "SimplifiedLayerNormalization", "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization", "TransposeMatMul", "Trilu", "DynamicQuantizeMatMul", "ScaledSiLU",
)  # fmt: skip


@rule("QLinearConv", "QLinearMatMul", "Affine", "ParametricSoftplus", "ScaledTanh", "SimplifiedLayerNormalization")
@rule(*MICROSOFT, domain="com.microsoft")
def like_a_standard_operator(n: Call) -> Iterator[Fact]:
    """What the standard operator's rule says of the operands that it has; the rest is broadcast or follows an axis."""
    ranks = [None if t is None else t.rank for t in n.inputs]
    found = equivalent(n.op_type, n.attributes, ranks)
    assert found is not None
    standard = registry.find("", found.op_type, found.opset)
    assert standard is not None
    for fact in standard.function(_as_standard(n, found)):
        yield _translated(fact, found)
        if isinstance(fact, Reads) and found.summed:
            yield from _read_with(n, found, n.x.rank - fact.axis)
    for k in found.added:
        if (tensor := n.input(k)) is not None:
            yield from broadcast(_ordered(tensor, found, k), n.y)
    for k in found.copies:
        if k < len(n.outputs) and (copy := n.outputs[k]) is not None:
            yield from map(Same, copy.dims, n.y.dims)
    for k in found.ranges:
        yield from measured(n, k)
    yield from scales(n)


def _read_with(n: Call, found: Equivalent, back: int) -> Iterator[Fact]:
    """What is added to an operand before it is read is silenced with it: axis -`back` of each that has it."""
    for k in found.added:
        if (tensor := n.input(k)) is not None and tensor.rank >= back and tensor[-back].size > 1:
            yield Reads(k, tensor.rank - back)


def measured(n: Call, operand: int) -> Iterator[Fact]:
    """The range of the whole operand is taken when the model runs: what goes must be 0, which every range holds."""
    tensor = n.input(operand)
    assert tensor is not None
    yield from (Reads(operand, axis) for axis in range(tensor.rank))


def scales(n: Call) -> Iterator[Fact]:
    """Scale and zero point follow the axis of the operand that they are for, one by one or block by block."""
    for how in quantized_operands(n.op_type, n.attributes):
        tensor = n.input(how.operand)
        for k in (how.scale, how.point):
            parameter = None if k is None else n.input(k)
            if tensor is not None and parameter is not None and tensor.rank:
                yield from follows(n, parameter, tensor, how.axis % tensor.rank)


def follows(n: Call, parameter: Tensor, tensor: Tensor, axis: int) -> Iterator[Fact]:
    """One value for all, one for each index of `axis`, or one for each block of indices along it."""
    if parameter.rank == 1 and parameter.shape != (1,):
        yield Same(parameter[0], tensor[axis])
    elif parameter.rank > 1 and parameter.rank != tensor.rank:
        yield Fixed(tensor[axis], "scaled in a way that is not known")
    elif parameter.rank > 1:
        for k, (a, b) in enumerate(zip(parameter.dims, tensor.dims, strict=True)):
            if a.size == b.size:
                yield Same(a, b)
            elif k == axis and a.size > 1 and b.size % a.size == 0:
                block = n.new(b.size // a.size)
                yield Same(b, merged(a, block))
                yield Fixed(block, BLOCKS)
            elif k == axis:
                yield from (Fixed(dim, "quantized in blocks, the last of them a part") for dim in (a, b))


def _ordered(tensor: Tensor, found: Equivalent, operand: int) -> Tensor:
    perm = found.perms.get(operand)
    return tensor if perm is None else _permuted(tensor, perm)


def _permuted(tensor: Tensor, perm: tuple[int, ...]) -> Tensor:
    """The tensor as a Transpose would make it."""
    return replace(
        tensor,
        dims=tuple(tensor.dims[axis] for axis in perm),
        dynamic=tuple(tensor.dynamic[axis] for axis in perm),
        number=None,
        varies=None,
    )


def _as_standard(n: Call, found: Equivalent) -> Call:
    """The node as the standard operator: its operands only, in the order of axes that it wants."""
    inputs = tuple(None if (t := n.input(k)) is None else _ordered(t, found, k) for k in found.inputs)
    y = n.y
    if found.output_perm:
        y = _permuted(y, tuple(found.output_perm.index(axis) for axis in range(y.rank)))
    while inputs and inputs[-1] is None:
        inputs = inputs[:-1]
    return replace(n, op_type=found.rule or found.op_type, opset=found.opset, inputs=inputs, outputs=(y,))


def _translated(fact: Fact, found: Equivalent) -> Fact:
    """The fact of the standard operator's rule, with the operands of this one."""
    if isinstance(fact, Reads):
        operand = found.inputs[fact.operand]
        perm = found.perms.get(operand)
        return Reads(operand, fact.axis if perm is None else perm[fact.axis])
    if isinstance(fact, Indexes):
        return replace(fact, operand=found.inputs[fact.operand])
    if isinstance(fact, Rescale) and isinstance(fact.place, Operand):
        return replace(fact, place=Operand(found.inputs[fact.place.index]))
    if isinstance(fact, Rescale) and found.summed:
        return replace(fact, default=SKIP_EPSILON)
    if isinstance(fact, Counts) and not isinstance(fact.place, Attribute):
        return replace(fact, place=Operand(found.inputs[fact.place.index]))
    return fact
