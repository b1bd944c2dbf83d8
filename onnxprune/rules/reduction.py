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


@rule("CumProd", "CumSum", "LpNormalization", "TopK", "Trilu", "LRN", "MeanVarianceNormalization")
def mixing(n: Call) -> Iterator[Fact]:
    """The axes along which indices meet are fixed, the others pass."""
    if n.op_type in ("CumSum", "CumProd"):
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
