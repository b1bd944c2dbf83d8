"""Unary and broadcasting operators pass every axis; a single index that is repeated is no axis of anybody else's."""

from __future__ import annotations

import pytest

from onnxprune.testing import build, cut_sizes
from tests.rules.tables import Cuts, Refuses, each, image, prove, refuse, rows

UNARY = ["Abs", "Atan", "Ceil", "Celu", "Cos", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity",
         "LeakyRelu", "Neg", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign",
         "Tan", "Tanh", "ThresholdedRelu", "Asinh", "Cosh", "Sinh", "Dropout"]  # fmt: skip
BINARY = ["Add", "Sub", "Mul", "Max", "Min", "Mean", "Sum"]

CUTS = [
    Cuts("Clip with bounds", image("g = Clip(h, -0.5, 0.5)"), {"W": 8}),
    Cuts("Clip with one bound", image("g = Clip(h, _, 0.5)"), {"W": 8}),
    Cuts("Clip by attributes", image("g = Clip<min=-0.5,max=0.5>(h)"), {"W": 8}, opset=10),
    Cuts("Cast", image("d = Cast<to=11>(h); g = Cast<to=1>(d)"), {"W": 8}),
    Cuts("Gelu", image("g = Gelu(h)"), {"W": 8}, opset=20),
    Cuts("Mish", image("g = Mish(h)"), {"W": 8}, opset=18),
    Cuts("Swish", image("g = Swish<alpha=1.5>(h)"), {"W": 8}, opset=24),
    Cuts("BitCast there and back", image("b = BitCast<to=6>(h); g = BitCast<to=1>(b)"), {"W": 8}, opset=26),
    Cuts("logic", image("z = Constant<value_float=0.0>(); b = Greater(h, z); c = Not(b); d = Or(b, c); e = And(b, d);"
                        "g = Where(e, h, z)"), {"W": 8}),
    Cuts("Where between two tensors", image("b = Less(h, S[8,1,1]); r = Relu(h); g = Where(b, h, r)"), {"W": 8}),
    Cuts("PRelu with a slope per channel", image("g = PRelu(h, S[8,1,1])"), {"W": 8}),
    Cuts("PRelu with one slope", image("g = PRelu(h, S[1])"), {"W": 8}),
    Cuts("Pow with a number", image("a = Abs(h); g = Pow(a, 0.5)"), {"W": 8}),
    Cuts("Mul by a vector per channel", image("g = Mul(h, S[8,1,1])"), {"W": 8}),
    Cuts("Mul by a vector of full rank", image("g = Mul(h, S[1,8,1,1])"), {"W": 8}),
    Cuts("Div by a number", image("g = Div(h, 2.0)"), {"W": 8}),
    Cuts("a weight that spans other axes only", image("g = Add(h, S[6,6])"), {"W": 8}),
    Cuts("a size of one that both have", image("g = Add(h, S[1,1,1,1])"), {"W": 8}),
    Cuts("bias of a MatMul", rows("g = Add(h, B[8])"), {"W": 8}),
    Cuts("bias on the left", rows("g = Add(B[8], h)"), {"W": 8}),
    Cuts("a residual ties two convolutions", image("k = Conv<pads=[1,1,1,1]>(x, U[8,3,3,3]); g = Add(h, k)"), {"W": 8}),
    Cuts("three branches", image("k = Relu(h); l = Sigmoid(h); g = Sum(h, k, l)"), {"W": 8}),
    Cuts("a gate of one value per channel",
         image("p = GlobalAveragePool(h); q = Conv(p, Q[2,8,1,1]); r = Conv(q, R[8,2,1,1]); g = Mul(h, r)"),
         {"W": 8, "Q": 2}),
    Cuts("a gate of one value per pixel", image("q = Conv(h, Q[1,8,1,1]); g = Mul(h, q)"), {"W": 8}),
    Cuts("an outer sum of two branches",
         "x[N,5] -> y; a = MatMul(x, A[5,6]); b = MatMul(x, B[5,7]); c = Unsqueeze(a, {2}); d = Unsqueeze(b, {1});"
         "s = Add(c, d); t = MatMul(s, T[7,3]); u = Transpose<perm=[0,2,1]>(t); y = MatMul(u, U[6,2])",
         {"A": 6, "B": 7}),
    Cuts("Expand repeats a single index", image("p = GlobalAveragePool(h); g = Expand(p, {1,8,6,6})"), {"W": 8}),
    Cuts("Expand by ones changes nothing", image("g = Expand(h, {1,1,1,1})"), {"W": 8}),
    Cuts("Expand makes an axis that a weight meets", rows("p = ReduceMean<axes=[2]>(h); e = Expand(p, {1,1,8});"
                                                          " g = Add(e, h)"), {}),
    Cuts("a filled tensor follows", image("s = Shape(h); z = ConstantOfShape(s); g = Add(h, z)"), {"W": 8}),
    Cuts("a filled tensor of given sizes", image("z = ConstantOfShape<value=float[1] {0.5}>({1,8,1,1}); g = Add(h, z)"),
         {"W": 8}),
    Cuts("a filled tensor is joined", image("z = ConstantOfShape<value=float[1] {0.5}>({1,8,6,6}); e = Shape<end=1>(x);"
                                            "f = Concat<axis=0>(e, {1,1,1}); t = Tile(z, f);"
                                            "g = Concat<axis=1>(h, t)", reads=16), {"W": 8, "V": 8}),
    Cuts("CastLike", image("g = CastLike(h, 0.5)"), {"W": 8}),
    Cuts("one constant for two nodes", image("a = Add(h, S[8,1,1]); g = Mul(a, S)"), {"W": 8}),
]  # fmt: skip

REFUSES = [
    Refuses("sums with a graph input", "x[N,3,6,6], z[N,8,4,4] -> y; h = Conv(x, W[8,3,3,3]); g = Add(h, z);"
            "y = Conv(g, V[4,8,1,1])", {"W.0": "a graph input", "V.1": "a graph input"}),
    Refuses("random values are drawn by position", image("r = RandomNormalLike(h); z = Mul(r, 0.0); g = Add(h, z)"),
            {"W.0": "RandomNormalLike"}),
    Refuses("an output may not change its size", "x[N,3,6,6] -> h; h = Conv(x, W[8,3,3,3])", {"W.0": "a graph output"}),
    Refuses("an output in the middle fixes what it shows",
            "x[N,3,6,6] -> h, y; h = Conv(x, W[8,3,3,3]); g = Conv(h, U[6,8,1,1]); y = Conv(g, V[4,6,1,1])",
            {"W.0": "a graph output", "U.1": "a graph output"}),
]  # fmt: skip


@each(CUTS)
def test_cuts(case: Cuts) -> None:
    prove(case)


@each(REFUSES)
def test_refuses(case: Refuses) -> None:
    refuse(case)


@pytest.mark.parametrize("op", UNARY)
def test_a_unary_operator_passes_every_axis(op: str) -> None:
    prove(Cuts(op, image(f"g = {op}(h)"), {"W": 8}))


@pytest.mark.parametrize("op", BINARY)
@pytest.mark.parametrize("shape", ["8,1,1", "1,8,6,6", "6,6", "1"])
def test_a_binary_operator_broadcasts_a_weight(op: str, shape: str) -> None:
    prove(Cuts(op, image(f"g = {op}(h, S[{shape}])"), {"W": 8}))


def test_swiglu() -> None:
    """Said of the analysis alone: ONNX Runtime knows no opset 28 yet."""
    assert cut_sizes(build(rows("k = MatMul(x, U[6,8]); g = SwiGLU(h, k)"), opset=28)) == {"W": 8}


def test_before_opset_7_the_second_operand_starts_at_an_axis() -> None:
    """Said of the analysis alone: ONNX Runtime no longer runs these versions."""
    assert cut_sizes(build(image("g = Add<broadcast=1,axis=1>(h, S[8])"), opset=6)) == {"W": 8}
