"""Operators that onnx has no schema for, each as the standard operator that it is but for scales, fusions and layout.

ONNX Runtime's optimisers write `FusedConv` for a convolution with an activation, `QLinearAdd` for an addition of
integers with scales between the operands, `FusedMatMul` for a product of transposed matrices. Their shapes, and what
they do to dimensions, are those of the standard operator on some of their inputs: `equivalent` says which. What is
like no standard operator has a function of its own in `contrib_shapes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

__all__ = ["Equivalent", "equivalent"]

Ranks: TypeAlias = Sequence[int | None]
Perms: TypeAlias = Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Equivalent:
    """The first output is that of `op_type` (of `opset`) on the inputs of these indices.

    Input k stands for itself with its axes in the order `perms[k]`, the output has those of `op_type` in the order
    `output_perm`. The inputs `added` are broadcast to the output, the outputs `copies` have its shape too. Elements
    have the type of input `like`, or of `unquantized[1]` where the node lacks the output scale, `unquantized[0]`.
    `rule` is the standard operator whose rule speaks, where its shapes are those of an older one. `summed`: what is
    `added` is added to the first input, before anything else. `ranges` are float inputs that the node quantizes by
    their own smallest and largest value.
    """

    op_type: str
    inputs: tuple[int, ...] = (0,)
    added: tuple[int, ...] = ()
    copies: tuple[int, ...] = ()
    ranges: tuple[int, ...] = ()
    like: int = 0
    unquantized: tuple[int, int] | None = None
    opset: int = 17
    perms: Perms = field(default_factory=dict)
    output_perm: tuple[int, ...] = ()
    rule: str = ""
    summed: bool = False


_UNARY = Equivalent("Relu")
_BIASED = Equivalent("Relu", added=(1,))
_TABLE: Mapping[str, Equivalent] = {
    **dict.fromkeys(("Affine", "BitmaskDropout", "Gelu", "ParametricSoftplus", "QuickGelu", "SampleOp", "ScaledSiLU",
                     "ScaledTanh", "ThresholdedRelu"), _UNARY),
    **dict.fromkeys(("BiasGelu", "FastGelu"), _BIASED),
    **dict.fromkeys(("BiasAdd", "BiasDropout", "BitmaskBiasDropout", "GatedAdd"), Equivalent("Relu", added=(1, 2))),
    "BiasSoftmax": Equivalent("Softmax", added=(1,), opset=11),
    "ConvTransposeWithDynamicPads": Equivalent("ConvTranspose", (0, 1, 3)),
    "DequantizeLinear": Equivalent("Relu", like=1),
    "DynamicQuantizeMatMul": Equivalent("MatMul", (0, 1), added=(4,), ranges=(0,)),
    "FusedConv": Equivalent("Conv", (0, 1, 2), added=(3,)),
    "FusedGemm": Equivalent("Gemm", (0, 1, 2)),
    "FusedMatMul": Equivalent("MatMul", (0, 1)),
    "FusedMatMulActivation": Equivalent("MatMul", (0, 1)),
    "GatherND": Equivalent("GatherND", (0, 1)),
    "GemmFastGelu": Equivalent("MatMul", (0, 1), added=(2,)),
    "TransposeMatMul": Equivalent("MatMul", (0, 1)),
    "GridSample": Equivalent("GridSample", (0, 1)),
    "LayerNormalization": Equivalent("LayerNormalization", (0, 1, 2)),
    "MatMulIntegerToFloat": Equivalent("MatMul", (0, 1), added=(6,), like=2),
    "QGemm": Equivalent("Gemm", (0, 3, 6), unquantized=(7, 1)),
    "QLinearAdd": Equivalent("Add", (0, 3)),
    "QLinearAveragePool": Equivalent("AveragePool"),
    "QLinearConv": Equivalent("Conv", (0, 3, 8)),
    "QLinearGlobalAveragePool": Equivalent("GlobalAveragePool"),
    "QLinearLeakyRelu": Equivalent("LeakyRelu"),
    "QLinearMatMul": Equivalent("MatMul", (0, 3)),
    "QLinearMul": Equivalent("Mul", (0, 3)),
    "QLinearSigmoid": Equivalent("Sigmoid"),
    "QLinearSoftmax": Equivalent("Softmax"),
    "QLinearWhere": Equivalent("Where", (0, 1, 4), like=1),
    "QuantizeLinear": Equivalent("Relu", like=2),
    "NhwcConv": Equivalent("Conv", (0, 1, 2)),
    "NhwcFusedConv": Equivalent("Conv", (0, 1, 2), added=(3,)),
    "NhwcMaxPool": Equivalent("MaxPool"),
    "SimplifiedLayerNormalization": Equivalent("LayerNormalization", (0, 1), rule="RMSNormalization"),
    "SkipLayerNormalization": Equivalent("LayerNormalization", (0, 2, 3), added=(1, 4), copies=(3,), summed=True),
    "SkipSimplifiedLayerNormalization": Equivalent("LayerNormalization", (0, 2), added=(1, 3), copies=(3,),
                                                   rule="RMSNormalization", summed=True),
    "Trilu": Equivalent("Trilu", (0, 1)),
}  # fmt: skip


def equivalent(op_type: str, attributes: Mapping[str, Any], ranks: Ranks) -> Equivalent | None:
    """What standard operator a node is like, given its attributes and the rank of every input; None where unknown."""
    if op_type == "QLinearConcat":  # scale and zero point of the output, then tensor, scale and zero point of each
        return Equivalent("Concat", tuple(range(2, len(ranks), 3)), like=1)
    found = _TABLE.get(op_type)
    if found is None:
        return None
    if op_type in ("FusedMatMul", "FusedMatMulActivation", "TransposeMatMul"):
        return replace(found, perms=_transposed(attributes, ranks))
    if op_type == "QLinearSoftmax":
        return replace(found, opset=int(attributes.get("opset") or 13))
    if (attributes.get("channels_last") or op_type.startswith("Nhwc")) and ranks[0]:
        rank = ranks[0]
        first = (0, rank - 1, *range(1, rank - 1))
        perms = dict.fromkeys((0, 1) if op_type == "NhwcConv" else (0, *found.added), first)
        return replace(found, perms=perms, output_perm=(0, *range(2, rank), 1))
    return found


def _transposed(attributes: Mapping[str, Any], ranks: Ranks) -> Perms:
    """The axes of both operands of a FusedMatMul in the order in which MatMul wants them."""
    perms: dict[int, tuple[int, ...]] = {}
    for k, side in enumerate("AB"):
        rank = ranks[k] or 0
        if rank < 2:
            continue
        order = list(range(rank))
        if attributes.get(f"transBatch{side}"):  # the first axis stands before the last one
            order.insert(rank - 2, order.pop(0))
        if attributes.get(f"trans{side}"):
            order[-2:] = reversed(order[-2:])
        perms[k] = tuple(order)
    return perms
