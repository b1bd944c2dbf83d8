"""Sums and means contract their axes, every other reduction fixes them; the axes beside them pass."""

from __future__ import annotations

import pytest

from tests.rules.tables import Cuts, Refuses, each, image, prove, refuse, rows

SUMS = ["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceMean", "ReduceSum", "ReduceSumSquare"]
OTHERS = ["ReduceLogSumExp", "ReduceMax", "ReduceMin", "ReduceProd"]

CUTS = [
    Cuts("a sum over channels", image("g = ReduceSum(h, {1})", reads=1), {"W": 8}),
    Cuts("a sum over channels and space", "x[N,3,6,6] -> y; h = Conv(x, W[8,3,3,3]);"
         "y = ReduceSum<keepdims=0>(h, {-1,1,2})", {"W": 8}),
    Cuts("a sum with its axes in an attribute", image("g = ReduceSum<axes=[1]>(h)", reads=1), {"W": 8}, opset=11),
    Cuts("a sum over everything", "x[1,3,6,6] -> y; h = Conv(x, W[8,3,3,3]); y = ReduceSum<keepdims=0>(h)", {"W": 8}),
    Cuts("a sum over nothing", image("a = Identity(h); g = ReduceSum<noop_with_empty_axes=1>(a)"), {"W": 8}),
    Cuts("a sum over an empty list", image("e = ReduceSum<noop_with_empty_axes=1>(h, E{}); g = Relu(e)"), {"W": 8}),
    Cuts("a mean over space", image("g = ReduceMean<axes=[2,3]>(h)"), {"W": 8}),
    Cuts("a mean over space, axes as input", image("g = ReduceMean(h, {-1,-2})"), {"W": 8}, opset=18),
    Cuts("a mean that drops its axes", "x[N,3,6,6] -> y; h = Conv(x, W[8,3,3,3]);"
         "m = ReduceMean<axes=[2,3],keepdims=0>(h); y = MatMul(m, V[8,4])", {"W": 8}),
    Cuts("a mean over an absent list of axes", "x[1,3,6,6] -> y; h = Conv(x, W[8,3,3,3]); y = ReduceMean(h)",
         {"W": 8}, opset=18),
    Cuts("a mean over an empty list of axes", "x[1,3,6,6] -> y; h = Conv(x, W[8,3,3,3]); y = ReduceMean(h, E{})",
         {"W": 8}, opset=18),
    Cuts("a mean over two axes that are cut", "x[N,6] -> y; h = MatMul(x, W[6,24]); r = Reshape(h, {-1,4,6});"
         "m = ReduceMean<axes=[1,2],keepdims=0>(r); u = Unsqueeze(m, {1}); y = MatMul(u, V[1,3])", {"W": 4, "W#2": 6}),
    Cuts("a mean over a dynamic axis and one that is cut", rows("a = Relu(h); g = ReduceMean<axes=[0,2]>(a)", reads=1),
         {"W": 8}),
    Cuts("a mean that is a feature", "x[N,5,6] -> y; h = MatMul(x, W[6,8]); m = ReduceMean<axes=[-1]>(h);"
         "u = MatMul(m, U[1,8]); s = Sigmoid(u); g = Mul(h, s); y = MatMul(g, V[8,4])", {"W": 8}),
    Cuts("a mean that gates", rows("m = ReduceMean<axes=[-1]>(h); s = Sigmoid(m); g = Mul(h, s)"), {"W": 8}),
    Cuts("an RMS norm in pieces", rows("p = Pow(h, 2.0); m = ReduceMean<axes=[-1]>(p); e = Add(m, 0.7); s = Sqrt(e);"
                                       "d = Div(h, s); g = Mul(d, S[8])"), {"W": 8}),
    Cuts("an RMS norm by a reciprocal", rows("p = Mul(h, h); m = ReduceMean(p, {-1}); e = Add(m, 0.7); s = Sqrt(e);"
                                             "r = Reciprocal(s); d = Mul(h, r); g = Mul(S[8], d)"), {"W": 8}, opset=18),
    Cuts("an L2 norm", image("n = ReduceL2<axes=[1]>(h); c = Clip(n, 0.1); g = Div(h, c)"), {"W": 8}),
    Cuts("LpNormalization", rows("g = LpNormalization(h)"), {"W": 8}),
    Cuts("LpNormalization by L1", rows("g = LpNormalization<p=1,axis=2>(h)"), {"W": 8}),
    Cuts("CumSum", rows("g = CumSum(h, 2)"), {"W": 8}),
    Cuts("CumSum backwards, without itself", rows("g = CumSum<reverse=1,exclusive=1>(h, -1)"), {"W": 8}),
    Cuts("CumSum over a weight, once folded", "x[N,6] -> y; W = CumSum(U[6,8], 0); h = MatMul(x, T[6,6]);"
         "g = MatMul(h, W); y = MatMul(g, V[8,4])", {"T": 6, "MatMul_2": 8}),
    Cuts("LpNormalization of a weight, once folded", "x[N,6] -> y; W = LpNormalization<axis=0>(U[6,8]);"
         "h = MatMul(x, T[6,6]); g = MatMul(h, W); y = MatMul(g, V[8,4])", {"T": 6, "MatMul_2": 8}),
    Cuts("ArgMax beside", "x[N,5,6] -> y; h = MatMul(x, W[6,8]); a = ArgMax<axis=1,keepdims=0>(h);"
         "f = Cast<to=1>(a); y = MatMul(f, V[8,4])", {"W": 8}),
    Cuts("Softmax beside", rows("g = Softmax<axis=1>(h)"), {"W": 8}),
    Cuts("LogSoftmax beside", rows("g = LogSoftmax<axis=-2>(h)"), {"W": 8}),
    Cuts("Softmax flattened beside", "x[5,6] -> y; h = MatMul(W[8,5], x); g = Softmax<axis=1>(h);"
         "y = MatMul(V[4,8], g)",
         {"W": 8}, opset=12),
    Cuts("CumSum beside", rows("g = CumSum(h, 1)"), {"W": 8}),
    Cuts("CumProd beside", rows("g = CumProd(h, 1)"), {"W": 8}, 26),
    Cuts("DFT beside", rows("u = Unsqueeze(h, {3}); d = DFT<axis=1>(u); g = ReduceSum<keepdims=0>(d, {3})"), {"W": 8}),
    Cuts("DFT beside, its axis as input", rows("u = Unsqueeze(h, {3}); d = DFT(u, _, 1);"
                                               "g = ReduceSum<keepdims=0>(d, {3})"), {"W": 8}, 20),
    Cuts("Det of matrices that a group numbers", "x[N,5,6] -> y; t = Transpose<perm=[0,2,1]>(x);"
         "h = MatMul(t, W[5,8]); r = Reshape(h, {0,2,3,8}); s = Transpose<perm=[0,3,1,2]>(r); q = MatMul(s, Q[3,2]);"
         "d = Det(q); y = MatMul(d, V[8,4])", {"W": 8}, 22),
    Cuts("MeanVarianceNormalization beside", image("g = MeanVarianceNormalization(h)"), {"W": 8}),
    Cuts("LpNormalization beside", rows("g = LpNormalization<axis=1>(h)"), {"W": 8}),
    Cuts("TopK beside", "x[N,5,6] -> y; h = MatMul(x, W[6,8]); g, i = TopK<axis=1>(h, {2}); y = MatMul(g, V[8,4])",
         {"W": 8}),
]  # fmt: skip

REFUSES = [
    Refuses("Softmax over the cut axis", rows("g = Softmax<axis=-1>(h)"), {"W.1": "Softmax mixes", "V.0": "Softmax"}),
    Refuses("Softmax flattens what follows its axis", rows("g = Softmax<axis=1>(h)"), {"W.1": "Softmax mixes"}, 12),
    Refuses("Softmax's old default axis", rows("g = Softmax(h)"), {"W.1": "Softmax mixes"}, 12),
    Refuses("ArgMax over the cut axis", "x[N,5,6] -> y; h = MatMul(x, W[6,8]); y = ArgMax<axis=2>(h)",
            {"W.1": "ArgMax mixes"}),
    Refuses("TopK over the cut axis", "x[N,5,6] -> y; h = MatMul(x, W[6,8]); y, i = TopK(h, {2})",
            {"W.1": "TopK mixes"}),
    Refuses("a mean that is taken off", rows("m = ReduceMean<axes=[-1]>(h); g = Sub(h, m)"),
            {"W.1": "its mean is taken off"}),
    Refuses("a mean that is taken off after a scale", rows("m = ReduceMean<axes=[-1]>(h); k = Mul(m, S[8]);"
                                                           "t = Mul(h, S); g = Sub(t, k)"), {"W.1": "taken off"}),
    Refuses("a mean that is taken off when both are divided",
            rows("m = ReduceMean<axes=[-1]>(h); q = Mul(h, h); v = ReduceMean<axes=[-1]>(q); s = Sqrt(v);"
                 "a = Div(h, s); b = Div(m, s); g = Sub(a, b)"), {"W.1": "taken off"}),
    Refuses("a mean that comes back expanded", rows("m = ReduceMean<axes=[-1]>(h); s = Shape(h); e = Expand(m, s);"
                                                    "g = Sub(h, e)"), {"W.1": "taken off"}),
    Refuses("a mean in two steps", image("a = ReduceMean<axes=[1]>(h); b = ReduceMean<axes=[2,3]>(a); g = Sub(h, b)"),
            {"W.0": "taken off"}),
    Refuses("CumProd over the cut axis", rows("g = CumProd(h, 2)"), {"W.1": "CumProd mixes"}, 26),
    Refuses("DFT over the cut axis", rows("u = Unsqueeze(h, {3}); d = DFT<axis=2>(u);"
                                          "g = ReduceSum<keepdims=0>(d, {3})"), {"W.1": "DFT mixes"}),
    Refuses("DFT's default axis", rows("u = Unsqueeze(h, {3}); d = DFT(u); g = ReduceSum<keepdims=0>(d, {3})"),
            {"W.1": "DFT mixes"}, 20),
    Refuses("real and imaginary parts", rows("g = DFT<axis=1>(h)", 2, 2), {"W.1": "DFT mixes"}),
    Refuses("STFT", "x[N,6] -> y; h = MatMul(x, W[6,8]); y = STFT(h, 2, H[4])", {"W.1": "STFT mixes", "H.0": "STFT"}),
    Refuses("classes of a loss", "x[N,6], t[N]:int64 -> y; h = MatMul(x, W[6,8]);"
            "y = SoftmaxCrossEntropyLoss<reduction=\"none\">(h, t, C[8])", {"W.1": "chooses", "C.0": "chooses"}),
    Refuses("samples of a mean loss", "x[6,5] -> y; h = MatMul(W[8,6], x); l = LogSoftmax(h);"
            "y = NegativeLogLikelihoodLoss(l, {0,1,2,3,4,0,1,2})", {"W.0": "mixes"}),
    Refuses("axes that are made at run time", "x[1,5,6], a[1]:int64 -> y; h = MatMul(x, W[6,8]);"
            "y = ReduceSum(h, a)", {"W.1": "shape of 'y' is not known"}, runs=False),
    Refuses("MeanVarianceNormalization over the cut axis", image("g = MeanVarianceNormalization<axes=[1,2]>(h)"),
            {"W.0": "MeanVarianceNormalization mixes"}),
    Refuses("LRN sums over neighbours", image("g = LRN<size=3>(h)"), {"W.0": "LRN mixes"}),
    Refuses("Trilu over the cut axis", rows("g = Trilu(h)"), {"W.1": "Trilu mixes"}),
]  # fmt: skip


@each(CUTS)
def test_cuts(case: Cuts) -> None:
    prove(case)


@each(REFUSES)
def test_refuses(case: Refuses) -> None:
    refuse(case)


@pytest.mark.parametrize("op", SUMS + OTHERS)
def test_a_reduction_over_space_leaves_channels_alone(op: str) -> None:
    prove(Cuts(op, image(f"a = Sigmoid(h); g = {op}<axes=[2,3]>(a)"), {"W": 8}, opset=11))


@pytest.mark.parametrize("op", SUMS)
def test_a_sum_over_channels_contracts_them(op: str) -> None:
    prove(Cuts(op, image(f"a = Sigmoid(h); g = {op}<axes=[1]>(a)", reads=1), {"W": 8}, opset=11))


@pytest.mark.parametrize("op", OTHERS)
def test_any_other_reduction_over_channels_fixes_them(op: str) -> None:
    refuse(Refuses(op, image(f"a = Sigmoid(h); g = {op}<axes=[1]>(a)", reads=1), {"W.0": f"{op} mixes"}, opset=11))
