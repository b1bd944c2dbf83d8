"""Operators that reduce or mix an axis: sums and means contract it, everything else fixes it in exact mode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from onnxprune.rules.call import Call
from onnxprune.rules.elementwise import carry
from onnxprune.rules.facts import Fact, Fixed, Output, Reads, Rescale, Same
from onnxprune.rules.registry import rule

_SILENT = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceMean", "ReduceSum", "ReduceSumSquare")


@rule("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
      "ReduceSum", "ReduceSumSquare", "ArgMax", "ArgMin")  # fmt: skip
def reducing(n: Call) -> Iterator[Fact]:
    """The reduced axes go. A sum contracts them, a silent index adds nothing; any other reduction fixes them."""
    if n.op_type.startswith("Arg"):
        reduced: tuple[int, ...] = (int(n.attribute("axis", 0)) % n.x.rank,)
    else:
        reduced = n.axes() or (() if n.attribute("noop_with_empty_axes", 0) else tuple(range(n.x.rank)))
    outputs = iter(n.y.dims)
    for axis, dim in enumerate(n.x.dims):
        if axis in reduced:
            yield from _reduced(n, axis)
            if n.attribute("keepdims", 1):
                next(outputs)
        else:
            yield Same(dim, next(outputs))
    if n.op_type == "ReduceMean":
        yield Rescale(Output(0), tuple(n.x[axis] for axis in reduced), 1.0)


def _reduced(n: Call, axis: int) -> Iterator[Fact]:
    """What becomes of a reduced axis.

    1. Of activations, sums and means of powers are contractions. (A mean divides by the count: `Rescale`.)
    2. A mean that is taken off what it was taken of makes silent indices speak: only on request.
    3. Made of weights alone, only a sum is: a norm of weights that lost some is another norm.
    4. Anything else mixes.
    """
    reason = f"{n.op_type} mixes its indices"
    if n.op_type in _SILENT and (n.x.live or n.op_type == "ReduceSum"):
        yield Reads(0, axis)
        if n.op_type == "ReduceMean" and n.centres():
            yield Fixed(n.x[axis], "its mean is taken off: its indices share the statistics of a norm", "norm")
    else:
        yield Fixed(n.x[axis], reason, "" if n.op_type.startswith("Arg") else "reduce")


@rule("Softmax", "LogSoftmax", "Hardmax")
def softmax(n: Call) -> Iterator[Fact]:
    """The normalised axis is fixed; before opset 13 that is every axis from `axis` on."""
    yield from carry(n.x, n.y)
    first = int(n.attribute("axis", -1 if n.opset >= 13 else 1)) % n.x.rank
    last = first + 1 if n.opset >= 13 else n.x.rank
    yield from (Fixed(dim, f"{n.op_type} mixes its indices", "softmax") for dim in n.x.dims[first:last])


@rule("CumSum", "LpNormalization")
def summing(n: Call) -> Iterator[Fact]:
    """Index by index, and sums on the way: a silent index adds nothing to the others. Weights alone are fixed."""
    yield from carry(n.x, n.y)
    axes = n.number(1) or range(n.x.rank) if n.op_type == "CumSum" else [n.attribute("axis", -1)]
    for axis in sorted({int(axis) % n.x.rank for axis in axes}):
        yield Reads(0, axis) if n.x.live else Fixed(n.x[axis], f"{n.op_type} mixes its indices", "norm")


@rule("CumProd", "TopK", "Trilu", "LRN", "MeanVarianceNormalization")
def mixing(n: Call) -> Iterator[Fact]:
    """The axes along which indices meet are fixed, the others pass."""
    if n.op_type == "CumProd":
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
    kind: Literal["", "norm"] = "" if n.op_type in ("CumProd", "TopK", "Trilu") else "norm"
    for tensor in (n.x, *(y for y in n.outputs if y is not None)):
        yield from (Fixed(tensor[axis], f"{n.op_type} mixes its indices", kind) for axis in sorted(mixed))


@rule("DFT", "STFT")
def fourier(n: Call) -> Iterator[Fact]:
    """The transformed axis and that of real and imaginary parts are fixed, the others pass; of STFT the batch alone."""
    if n.op_type == "STFT":
        passing: tuple[int, ...] = (0,)
    else:
        chosen = n.number(2) if n.input(2) is not None else [n.attribute("axis", 1 if n.opset < 20 else -2)]
        passing = tuple(k for k in range(n.x.rank - 1) if chosen and k != int(chosen[0]) % n.x.rank)
    yield from (Same(n.x[axis], n.y[axis]) for axis in passing)
    for tensor in (n.x, n.y):
        rest = (dim for axis, dim in enumerate(tensor.dims) if axis not in passing)
        yield from (Fixed(dim, f"{n.op_type} mixes its indices") for dim in rest)


@rule("Det")
def determinant(n: Call) -> Iterator[Fact]:
    """The last two axes are mixed, those before them pass."""
    yield from (Same(a, b) for a, b in zip(n.x.dims[:-2], n.y.dims, strict=True))
    yield from (Fixed(dim, "Det mixes its indices") for dim in n.x.dims[-2:])


@rule("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def loss(n: Call) -> Iterator[Fact]:
    """Classes are chosen by value; samples pass where the loss of each is wanted."""
    labels, weights = n.inputs[1], n.input(2)
    assert labels is not None
    yield Fixed(n.x[1], f"{n.op_type} chooses among its indices")
    if weights is not None:
        yield Same(weights[0], n.x[1])
    samples = (n.x[0], *n.x.dims[2:])
    yield from map(Same, samples, labels.dims)
    if n.attribute("reduction", "mean") == "none":
        yield from map(Same, samples, n.y.dims)
    else:
        yield from (Fixed(dim, f"{n.op_type} mixes its indices") for dim in samples)
    scores = n.output(1)
    if scores is not None:
        yield from carry(n.x, scores)
