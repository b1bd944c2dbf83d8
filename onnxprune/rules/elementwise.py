"""Operators that work index by index: unary ones, broadcasting ones, and those that make a tensor of one value."""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.rules.call import Call, Tensor
from onnxprune.rules.facts import Counts, Fact, Fixed, Operand, Same
from onnxprune.rules.registry import rule


def carry(x: Tensor, y: Tensor, but: tuple[int, ...] = ()) -> Iterator[Fact]:
    """Axis k of `y` is axis k of `x`, except `but`."""
    for axis, (a, b) in enumerate(zip(x.dims, y.dims, strict=True)):
        if axis not in but:
            yield Same(a, b)


def broadcast(x: Tensor, y: Tensor) -> Iterator[Fact]:
    """`x` is broadcast to `y` as numpy does: axes pair from the right, a single index is repeated."""
    for a, b in zip(reversed(x.dims), reversed(y.dims), strict=False):
        if a.size == b.size:
            yield Same(a, b)


@rule("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitCast", "BitwiseNot", "Cast", "Ceil", "Celu",
      "Clip", "Cos", "Cosh", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity",
      "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "RegexFullMatch", "Relu", "Round",
      "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh",
      "ThresholdedRelu")  # fmt: skip
def unary(n: Call) -> Iterator[Fact]:
    """The output has the axes of the first input, as has Dropout's second one."""
    for y in n.outputs:
        if y is not None:
            yield from carry(n.x, y)


@rule("Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "CastLike", "Div", "Equal", "Greater",
      "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow",
      "StringConcat", "Sub", "Sum", "SwiGLU", "Where", "Xor")  # fmt: skip
def broadcasting(n: Call) -> Iterator[Fact]:
    """All inputs are broadcast to the output.

    Before opset 7 the second one may start at attribute `axis`.
    """
    if n.opset < 7 and n.attribute("broadcast") and n.attribute("axis") is not None:
        yield from carry(n.x, n.y)
        other, start = n.inputs[1], n.attribute("axis")
        assert other is not None
        for axis, dim in enumerate(other.dims):
            yield Same(dim, n.y[start + axis])
        return
    for x in n.inputs:
        if x is not None and not (n.op_type == "CastLike" and x is not n.x):
            yield from broadcast(x, n.y)


@rule("Expand")
def expand(n: Call) -> Iterator[Fact]:
    """Axes of the input's own size pass; the target shape counts them, and the axes that are made."""
    yield from broadcast(n.x, n.y)
    target = n.number(1)
    if target is None:
        yield from (Fixed(dim, "the target shape is not known") for dim in n.y.dims)
        return
    offset = n.y.rank - len(target)
    yield Counts(Operand(1), tuple(n.y[offset + k] if t > 1 else None for k, t in enumerate(target)))


@rule("ConstantOfShape")
def constant_of_shape(n: Call) -> Iterator[Fact]:
    """All indices of a tensor of one value are alike, so its shape operand only counts them."""
    if n.number(0) is not None:
        yield Counts(Operand(0), n.y.dims)
    else:
        yield from (Fixed(dim, "its shape is made at run time") for dim in n.y.dims)


@rule("Shape", "Size")
def shape(n: Call) -> Iterator[Fact]:
    """Sizes are read, indices are not: what is made of them is computed again after a cut."""
    yield from ()
