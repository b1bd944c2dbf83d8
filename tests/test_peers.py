"""What other pruning tools decline or get wrong is a test of ours: each row prunes what it states, and is proven.

The figures behind the sentences are those of the tools' own runs: pattern matchers that cover no transformer with a
dynamic batch, dependency graphs that need the live module, tools that freeze residuals and concatenations. Model-local
functions, which stop all of them, have tests of their own in test_functions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.testing import build
from tests.rules.tables import Cuts, each, prove

IMAGE = "x[N,3,8,8] -> y; h = Conv<pads=[1,1,1,1]>(x, W[8,3,3,3], B[8])"
ROWS = "x[N,5,6] -> y; h = MatMul(x, W[6,8])"
HEADS = (
    "x[N,L,8] -> y; s = Shape(x); n = Gather(s, 0); l = Gather(s, 1); nu = Unsqueeze(n, {0}); lu = Unsqueeze(l, {0});"
    "four = Concat<axis=0>(nu, lu, {2,4}); three = Concat<axis=0>(nu, lu, {8});"
    "q = MatMul(x, Q[8,8]); k = MatMul(x, K[8,8]); v = MatMul(x, V[8,8]);"
    "q4 = Reshape(q, four); k4 = Reshape(k, four); v4 = Reshape(v, four);"
    "qt = Transpose<perm=[0,2,1,3]>(q4); kt = Transpose<perm=[0,2,3,1]>(k4); vt = Transpose<perm=[0,2,1,3]>(v4);"
    "a = MatMul(qt, kt); p = Softmax<axis=-1>(a); o = MatMul(p, vt); ot = Transpose<perm=[0,2,1,3]>(o);"
    "o3 = Reshape(ot, three); y = MatMul(o3, O[8,8])"
)
CUTS = [
    Cuts("one detection head over two levels gives an invalid graph elsewhere",
         f"{IMAGE}; p = MaxPool<kernel_shape=[2,2],strides=[2,2]>(h); a = Conv(h, F[6,8,1,1]); c = Conv(p, F);"
         "ga = GlobalAveragePool(a); gc = GlobalAveragePool(c); t = Add(ga, gc); y = Conv(t, V[4,6,1,1])",
         {"W": 8, "F": 6}),
    Cuts("one weight twice in sequence gives wrong numbers elsewhere",
         f"{IMAGE}; a = Conv<pads=[1,1,1,1]>(h, F[8,8,3,3]); b = Conv<pads=[1,1,1,1]>(a, F); y = Conv(b, V[4,8,1,1])",
         {"W": 8}),
    Cuts("an unfused norm and activation break a matched chain",
         f"{IMAGE}; n = BatchNormalization(h, S[8], C[8], M[8], {{1,1,1,1,1,1,1,1}}:float); r = Relu(n);"
         "y = Conv(r, V[4,8,1,1])", {"W": 8}),
    Cuts("plain fan-out ends a matched chain", f"{IMAGE}; a = Conv(h, F[5,8,1,1]); b = Conv(h, G[5,8,1,1]);"
         "s = Add(a, b); y = Conv(s, V[4,5,1,1])", {"W": 8, "F": 5}),
    Cuts("halves of a Split ask for a pattern of their own", f"{IMAGE}; a, b = Split<axis=1>(h, {{4,4}});"
         "s = Sigmoid(b); g = Mul(a, s); y = Conv(g, V[4,4,1,1])", {"W": 4}),
    Cuts("channels last before a MatMul",
         f"{IMAGE}; t = Transpose<perm=[0,2,3,1]>(h); y = MatMul(t, V[8,4])", {"W": 8}),
    Cuts("Reshape(1, -1) in front of a Gemm", "x[1,3,4,4] -> y; h = Conv(x, W[8,3,1,1]); f = Reshape(h, {1,-1});"
         "y = Gemm(f, V[128,4])", {"W": 8}),
    Cuts("a gate of two convolutions", f"{IMAGE}; g = Conv<pads=[1,1,1,1]>(x, G[8,3,3,3]); s = Sigmoid(g);"
         "m = Mul(h, s); y = Conv(m, V[4,8,1,1])", {"W": 8}),
    Cuts("GELU in pieces", f"{ROWS}; d = Div(h, 1.41); e = Erf(d); o = Add(e, 1.0); m = Mul(h, o); g = Mul(m, 0.5);"
         "y = MatMul(g, V[8,4])", {"W": 8}),
    Cuts("a weight behind a Transpose", "x[N,5,6] -> y; w = Transpose(W[8,6]); h = MatMul(x, w); r = Relu(h);"
         "y = MatMul(r, V[8,4])", {"W": 8}),
    Cuts("attention with dynamic batch and length, head counts baked in: 0 % elsewhere", HEADS,
         {"Q": 2, "Q#2": 4, "V": 4}),
    Cuts("an operator that nobody knows beside layers that can be pruned",
         f"{ROWS}; r = Relu(h); a = MatMul(r, V[8,4]); k = MatMul(x, U[6,8]);"
         "z = com.microsoft.ExpandDims(k, 0:int32); w = Squeeze(z, {0}); c = MatMul(w, T[8,4]); y = Add(a, c)",
         {"W": 8}),
    Cuts("a grouped convolution", f"{IMAGE}; g = Conv<group=2,pads=[1,1,1,1]>(h, F[8,4,3,3]); y = Conv(g, V[4,8,1,1])",
         {"W": 2, "W#2": 4, "F": 4}),
    Cuts("a pre-activation residual",
         f"{IMAGE}; n = BatchNormalization(h, S[8], C[8], M[8], {{1,1,1,1,1,1,1,1}}:float);"
         "r = Relu(n); c = Conv<pads=[1,1,1,1]>(r, F[8,8,3,3]); a = Add(h, c); y = Conv(a, V[4,8,1,1])", {"W": 8}),
    Cuts("a dense block", f"{IMAGE}; a = Conv<pads=[1,1,1,1]>(h, F[4,8,3,3]); c = Concat<axis=1>(h, a);"
         "b = Conv(c, G[6,12,1,1]); y = Conv(b, V[4,6,1,1])", {"W": 8, "F": 4, "G": 6}),
    Cuts("parallel branches", f"{IMAGE}; a = Conv(h, F[4,8,1,1]); b = Conv<pads=[1,1,1,1]>(h, G[6,8,3,3]);"
         "c = Concat<axis=1>(a, b); y = Conv(c, V[4,10,1,1])", {"W": 8, "F": 4, "G": 6}),
    Cuts("a shuffled unit", f"{IMAGE}; s = Reshape(h, {{0,2,4,8,8}}); t = Transpose<perm=[0,2,1,3,4]>(s);"
         "u = Reshape(t, {0,8,8,8}); y = Conv(u, V[4,8,1,1])", {"W": 2, "W#2": 4}),
]  # fmt: skip


@each(CUTS)
def test_what_others_decline_is_pruned(case: Cuts) -> None:
    prove(case)


def test_the_file_gets_smaller_and_holds_no_orphans(tmp_path: Path) -> None:
    """Every initializer of the result has a reader, and the file shrinks (elsewhere it doubles)."""
    model = build(f"{IMAGE}; r = Relu(h); y = Conv(r, V[4,8,1,1])")
    result = onnxprune.prune(model, tmp_path / "out.onnx", sparsity=0.5, round_to=1, rounds=0)
    written = onnx.load(tmp_path / "out.onnx")
    read = {name for node in written.graph.node for name in node.input}
    assert {t.name for t in written.graph.initializer} <= read
    assert result.report.bytes_after < result.report.bytes_before + len(written.metadata_props[0].value) + 100


def test_external_data_by_path(tmp_path: Path) -> None:
    """A file whose weights lie in another file is pruned by its path, and verified from what was written."""
    proto = build("x[N,64] -> y; h = MatMul(x, W[64,64]); r = Relu(h); y = MatMul(r, V[64,8])").to_proto()
    onnx.save(proto, tmp_path / "in.onnx", save_as_external_data=True, location="in.data", size_threshold=64)
    onnxprune.prune(tmp_path / "in.onnx", tmp_path / "out.onnx", sparsity=0.5, rounds=0)
    assert (tmp_path / "out.onnx.data").stat().st_size < (tmp_path / "in.data").stat().st_size
    assert onnxprune.verify(tmp_path / "in.onnx", tmp_path / "out.onnx").passed
    assert onnx.numpy_helper.to_array(onnx.load(tmp_path / "out.onnx").graph.initializer[0]).dtype == np.float32


@pytest.mark.parametrize("name", ["mobilenet_v2_1.0_224_uint8_qdq"])
def test_a_quantized_mobilenet(name: str, assets: Path) -> None:
    """QDQ MobileNetV2 loses half of its channels as its float twin does."""
    report = onnxprune.prune(assets / "models" / f"{name}.onnx", sparsity=0.5, round_to=1, rounds=0).report
    assert report.verified
    assert report.params_after < 0.36 * report.params_before
