"""Operators that reduce or mix an axis: sums contract it, everything else fixes it in exact mode."""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.rules.call import Call
from onnxprune.rules.elementwise import carry
from onnxprune.rules.facts import Fact, Fixed, Reads, Same
from onnxprune.rules.registry import rule


@rule("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
      "ReduceSum", "ReduceSumSquare", "ArgMax", "ArgMin")  # fmt: skip
def reducing(n: Call) -> Iterator[Fact]:
    """The reduced axes go; a sum contracts them (a silent index adds nothing), any other reduction fixes them."""
    if n.op_type.startswith("Arg"):
        reduced: tuple[int, ...] = (int(n.attribute("axis", 0)) % n.x.rank,)
    else:
        reduced = n.axes() or (() if n.attribute("noop_with_empty_axes", 0) else tuple(range(n.x.rank)))
    outputs = iter(n.y.dims)
    for axis, dim in enumerate(n.x.dims):
        if axis in reduced:
            yield Reads(0, axis) if n.op_type == "ReduceSum" else Fixed(dim, f"{n.op_type} mixes its indices")
            if n.attribute("keepdims", 1):
                next(outputs)
        else:
            yield Same(dim, next(outputs))


@rule("Softmax", "LogSoftmax", "Hardmax")
def softmax(n: Call) -> Iterator[Fact]:
    """The normalised axis is fixed; before opset 13 that is every axis from `axis` on."""
    yield from carry(n.x, n.y)
    first = int(n.attribute("axis", -1 if n.opset >= 13 else 1)) % n.x.rank
    last = first + 1 if n.opset >= 13 else n.x.rank
    yield from (Fixed(dim, f"{n.op_type} mixes its indices") for dim in n.x.dims[first:last])


@rule("CumSum", "LpNormalization", "TopK", "Trilu", "LRN", "MeanVarianceNormalization")
def mixing(n: Call) -> Iterator[Fact]:
    """The axes along which indices meet are fixed, the others pass."""
    if n.op_type == "CumSum":
        axes = n.number(1) or range(n.x.rank)
    elif n.op_type == "LRN":
        axes = [1]
    elif n.op_type == "Trilu":
        axes = [-2, -1]
    elif n.op_type == "MeanVarianceNormalization":
        axes = n.attribute("axes", (0, 2, 3))
    else:
        axes = [n.attribute("axis", -1)]
    mixed = {int(axis) % n.x.rank for axis in axes}
    for y in n.outputs:
        if y is not None:
            yield from carry(n.x, y, but=tuple(mixed) if n.op_type == "TopK" else ())
    yield from (Fixed(n.x[axis], f"{n.op_type} mixes its indices") for axis in sorted(mixed))
    yield from (Fixed(y[axis], f"{n.op_type} mixes its indices") for y in n.outputs if y for axis in sorted(mixed))
