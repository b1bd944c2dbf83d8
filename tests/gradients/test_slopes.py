"""The slopes that the graph computes are those of the error that it computes, operator by operator."""

from __future__ import annotations

import re

import numpy as np
import pytest

from onnxprune.gradients import slopes_of
from onnxprune.model import Model, infer
from onnxprune.runtime.session import Session
from onnxprune.testing import build

STEP = 1e-3

GRAPHS = {
    "conv": "x[N,3,7,8] -> y\n h = Conv<pads=[1,1,1,1]>(x, A[4,3,3,3], B[4])\n y = Conv(h, W[2,4,1,1])",
    "strides": "x[N,3,9,8] -> y\n h = Conv<strides=[2,2],pads=[1,0,1,0]>(x, A[4,3,3,3])\n y = Conv(h, W[2,4,2,2])",
    "strides that leave a rest": "x[N,2,8,8] -> y\n h = Conv(x, A[4,2,3,3])\n y = Conv<strides=[3,2]>(h, W[2,4,2,3])",
    "dilations": "x[N,2,9,9] -> y\n h = Conv(x, A[4,2,1,1])\n y = Conv<dilations=[2,3],pads=[2,3,1,2]>(h, W[2,4,3,2])",
    "groups": "x[N,4,6,6] -> y\n h = Conv<group=2>(x, A[6,2,3,3])\n y = Conv<group=6,pads=[1,1,1,1]>(h, W[6,1,3,3])",
    "same pads": "x[N,2,7,8] -> y\n h = Conv<auto_pad=\"SAME_UPPER\",strides=[2,2]>(x, A[4,2,3,3])\n"
    " y = Conv<auto_pad=\"SAME_LOWER\">(h, W[2,4,2,2])",
    "one axis": "x[N,3,12] -> y\n h = Conv<strides=[2]>(x, A[4,3,3], B[4])\n y = Conv<pads=[1,1]>(h, W[2,4,3])",
    "conv transpose": "x[N,3,5,5] -> y\n h = ConvTranspose<strides=[2,2],pads=[1,1,1,1]>(x, A[3,4,3,3], B[4])\n"
    " y = ConvTranspose<group=2>(h, W[4,3,2,2])",
    "more behind": "x[N,4,5,5] -> y\n"
    " y = ConvTranspose<strides=[2,2], pads=[1,0,1,1], output_padding=[1,0]>(x, W[4,3,3,3])",
    "transposed, same pads": "x[N,4,5,5] -> y\n"
    " y = ConvTranspose<auto_pad=\"SAME_LOWER\", strides=[2,2]>(x, W[4,3,3,3])",
    "transposed, upper": "x[N,4,5,5] -> y\n y = ConvTranspose<auto_pad=\"SAME_UPPER\", strides=[2,2]>(x, W[4,3,3,3])",
    "of a given size": "x[N,4,5,5] -> y\n y = ConvTranspose<output_shape=[10,9], strides=[2,2]>(x, W[4,3,3,3])",
    "of the largest size": "x[N,4,5,5] -> y\n y = ConvTranspose<output_shape=[11,10], strides=[2,2]>(x, W[4,3,3,3])",
    "gemm": "x[N,5] -> y\n h = Gemm(x, A[5,6], B[6])\n y = Gemm<transB=1,alpha=0.5,beta=2.0>(h, W[3,6], C[3])",
    "matmul": "x[N,4,5] -> y\n h = MatMul(x, A[5,6])\n y = MatMul(h, W[6,3])",
    "product of activations": "x[N,4,5] -> y\n q = MatMul(x, A[5,6])\n k = MatMul(x, B[5,6])\n"
    " t = Transpose<perm=[0,2,1]>(k)\n s = MatMul(q, t)\n p = Softmax<axis=-1>(s)\n v = MatMul(x, C[5,3])\n"
    " y = MatMul(p, v)",
    "norm": "x[N,3,4,4] -> y\n h = Conv(x, A[4,3,1,1])\n"
    " n = BatchNormalization(h, S[4], B[4], M[4], V{1.0,0.5,2.0,1.5}[4])\n y = Conv(n, W[2,4,1,1])",
    "relu": "x[N,3,4,4] -> y\n h = Conv(x, A[4,3,1,1])\n r = Relu(h)\n y = Conv(r, W[2,4,1,1])",
    "leaky": "x[N,5] -> y\n h = Gemm(x, A[5,6])\n r = LeakyRelu<alpha=0.2>(h)\n y = Gemm(r, W[6,3])",
    "clip": "x[N,5] -> y\n h = Gemm(x, A[5,6])\n r = Clip(h, -0.2, 0.6)\n y = Gemm(r, W[6,3])",
    "sigmoid": "x[N,5] -> y\n h = Gemm(x, A[5,6])\n g = Sigmoid(h)\n m = Mul(h, g)\n y = Gemm(m, W[6,3])",
    "tanh": "x[N,5] -> y\n h = Gemm(x, A[5,6])\n t = Tanh(h)\n s = HardSigmoid<alpha=0.3>(t)\n y = Gemm(s, W[6,3])",
    "root mean square": "x[N,3,6] -> y\n h = MatMul(x, A[6,5])\n q = Pow(h, 2.0)\n m = ReduceMean<axes=[-1]>(q)\n"
    " e = Add(m, 0.1)\n r = Sqrt(e)\n i = Reciprocal(r)\n n = Mul(h, i)\n y = MatMul(n, W[5,3])",
    "gelu": "x[N,5] -> y\n h = Gemm(x, A[5,6])\n e = Erf(h)\n o = Add(e, 1.0)\n g = Mul(h, o)\n y = Gemm(g, W[6,3])",
    "hard swish": "x[N,5] -> y\n h = Gemm(x, A[5,8])\n b = Mul(h, 4.0)\n g = HardSwish(b)\n y = Gemm(g, W[8,3])",
    "exponential": "x[N,5] -> y\n h = Gemm(x, A[5,4])\n n = Neg(h)\n y = Exp(n)",
    "slice": "x[N,6,5] -> y\n h = MatMul(x, A[5,4])\n s = Slice(h, {1,0}:int64, {-1,2}:int64, {1,2}:int64)\n"
    " y = MatMul(s, W[2,3])",
    "arithmetic": "x[N,5] -> y\n a = Gemm(x, A["
    "5,4])\n b = Gemm(x, B[5,4])\n e = Exp(x)\n c = Sub(a, b)\n d = Mul(c, a)\n"
    " s = Sigmoid(b)\n y = Div(d, s)",
    "broadcast": "x[N,4,3,3] -> y\n h = Conv(x, A[4,4,1,1])\n p = GlobalAveragePool(h)\n"
    " g = Conv(p, B[4,4,1,1])\n s = Sigmoid(g)\n m = Mul(h, s)\n y = Add(m, p)",
    "means": "x[N,4,3,5] -> y\n h = Conv(x, A[4,4,1,1])\n m = ReduceMean<axes=[2,3],keepdims=0>(h)\n"
    " y = Gemm(m, W[4,2])",
    "pool": "x[N,3,7,7] -> y\n h = Conv(x, A[4,3,1,1])\n p = AveragePool<kernel_shape=[3,2],strides=[2,2]>(h)\n"
    " y = Conv(p, W[2,4,1,1])",
    "pads": "x[N,3,5,6] -> y\n h = Conv(x, A[4,3,1,1])\n p = Pad(h, {0,1,1,0,0,2,0,3}:int64)\n y = Conv(p, W[2,7,2,2])",
    "reshapes": "x[N,4,2,3] -> y\n h = Conv(x, A[4,4,1,1])\n f = Flatten(h)\n g = Gemm(f, W[24,6])\n"
    " r = Reshape(g, {0,2,3}:int64)\n t = Transpose<perm=[0,2,1]>(r)\n y = MatMul(t, C[2,2])",
    "concat": "x[N,3,4,4] -> y\n a = Conv(x, A[2,3,1,1])\n b = Conv(x, B[3,3,1,1])\n c = Concat<axis=1>(a, b, a)\n"
    " y = Conv(c, W[2,7,1,1])",
    "a weight read twice": "x[N,5] -> y\n h = Gemm(x, A[5,5])\n r = Tanh(h)\n y = Gemm(r, A[5,5])",
}  # fmt: skip


def _weights(model: Model) -> list[str]:
    return [name for name, info in model.weights.items() if info.dtype == np.float32 and info.shape]


LATER = {"clip": 11, "pads": 11, "hard swish": 14, "slice": 10}  # the opset since which a graph can be written so
EARLY = 9
CASES = [(name, opset) for name in GRAPHS for opset in (EARLY, 12, 17) if opset >= LATER.get(name, EARLY)]


@pytest.mark.parametrize(("name", "opset"), CASES)
def test_slopes_are_those_of_the_error(name: str, opset: int) -> None:
    """Along a random direction of all weights the error changes by the sum of slopes, to what float32 can tell."""
    text = GRAPHS[name] if opset > 10 else re.sub(r"Gemm(\(\w+, \w+\[[\d,]*\]\))", r"MatMul\1", GRAPHS[name])
    model = build(text, opset=opset)  # a Gemm of two operands is none before opset 11
    shapes = infer(model, {"N": 4})
    generator = np.random.default_rng(5)
    (given,), (made,) = model.inputs, model.outputs
    inside = next(node.outputs[0] for node in model.nodes if node.inputs[0] == given.name)
    taps = {made.name: 0.7, inside: 0.3}
    found = slopes_of(model, shapes.shape, _weights(model), taps)
    assert found.stopped == ()
    assert set(found.weights) | {"V"} >= set(_weights(model))
    run = Session(found.model).run
    values = {weight: model.array(weight) for weight in found.weights}
    feed = {given.name: generator.normal(size=shapes.shape[given.name]).astype(np.float32)}
    for tap, target in found.targets.items():
        feed[target] = generator.normal(size=shapes.shape[tap]).astype(np.float32)
    way = {weight: generator.normal(size=array.shape).astype(np.float32) for weight, array in values.items()}

    def error(step: float) -> float:
        moved = {weight: array + np.float32(step) * way[weight] for weight, array in values.items()}
        outputs = run({**feed, **moved})
        return sum(float(outputs[one]) for one in found.errors.values())

    outputs = run({**feed, **values})
    slope = sum(float((outputs[found.slopes[weight]] * way[weight]).sum()) for weight in found.weights)
    expected = (8 * (error(STEP) - error(-STEP)) - (error(2 * STEP) - error(-2 * STEP))) / (12 * STEP)
    assert slope == pytest.approx(expected, rel=5e-3, abs=2e-4)
    assert all(outputs[found.slopes[weight]].shape == array.shape for weight, array in values.items())
