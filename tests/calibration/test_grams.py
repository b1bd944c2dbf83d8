"""A Gram matrix is that of what the layer multiplies: W G W' is the sum of y y', for more outputs than inputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from onnxprune.calibration import collect, collecting
from onnxprune.data import Samples
from onnxprune.dependency import Analysis, analyse
from onnxprune.layers import Layer, layers_of
from onnxprune.model import Array, Model
from onnxprune.runtime.session import Session
from onnxprune.statistics import Gram, GramMatrix
from onnxprune.testing import build
from onnxprune.weights import Weights

Given = Mapping[str, Array]


def samples_for(model: Model, count: int = 5, seed: int = 0) -> Samples:
    """Random samples; a model of fixed batch says so."""
    generator = np.random.default_rng(seed)
    arrays, batch = {}, None
    for info in model.inputs:
        first, *rest = info.shape or ()
        sizes = [count, *(size if isinstance(size, int) else 7 for size in rest)]
        drawn = generator.standard_normal(sizes) * 3 if info.dtype.kind == "f" else generator.integers(0, 5, sizes)
        arrays[info.name] = drawn.astype(info.dtype)
        batch = first if isinstance(first, int) else batch
    return Samples("here", arrays, None, batch)


def one_gram(model: Model, samples: Samples | None = None) -> tuple[Analysis, Layer, GramMatrix]:
    analysis = analyse(model)
    layer = next(layer for layer in layers_of(analysis) if layer.weight == "W")
    found = collect(analysis, samples or samples_for(model), [Gram(layer)])
    assert not found.unanswered
    return analysis, layer, found.gram(layer)


# x is what the first layer reads, y what it gives, without a bias
FORMS = {
    "conv": "x[N,2,6,5] -> y\ny = Conv<pads=[1,0,1,2], strides=[2,1], dilations=[1,2]>(x, W[20,2,3,3])",
    "conv in one dimension": "x[N,3,9] -> y\ny = Conv<pads=[1,1]>(x, W[9,3,3])",
    "conv in three dimensions": "x[N,1,4,5,3] -> y\ny = Conv(x, W[12,1,2,3,2])",
    "conv, same upper": 'x[N,2,6,7] -> y\ny = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, W[20,2,3,2])',
    "conv, same lower": 'x[N,2,6,7] -> y\ny = Conv<auto_pad="SAME_LOWER", strides=[2,3]>(x, W[20,2,2,3])',
    "conv, valid": 'x[N,2,6,7] -> y\ny = Conv<auto_pad="VALID">(x, W[20,2,3,3])',
    "grouped conv": "x[N,4,5,5] -> y\ny = Conv<group=2, pads=[1,1,1,1]>(x, W[40,2,3,3])",
    "depthwise conv": "x[N,4,5,5] -> y\ny = Conv<group=4>(x, W[40,1,3,3])",
    "pointwise conv": "x[N,4,5,5] -> y\ny = Conv(x, W[6,4,1,1])",
    "pointwise conv with strides": "x[N,4,5,5] -> y\ny = Conv<strides=[2,2]>(x, W[6,4,1,1])",
    "transposed conv": "x[N,2,4,3] -> y\ny = ConvTranspose<strides=[2,3], pads=[1,0,0,1]>(x, W[2,20,3,3])",
    "transposed conv, dilated": "x[N,2,4,3] -> y\n"
    "y = ConvTranspose<dilations=[2,1], output_padding=[1,1], strides=[2,2]>"
    "(x, W[2,20,3,3])",
    "transposed conv, same upper": 'x[N,2,4,3] -> y\n'
    'y = ConvTranspose<auto_pad="SAME_UPPER", strides=[2,2]>(x, W[2,20,3,3])',
    "transposed conv, same lower": 'x[N,2,4,3] -> y\n'
    'y = ConvTranspose<auto_pad="SAME_LOWER", strides=[2,2]>(x, W[2,20,3,3])',
    "transposed conv, given shape": "x[N,2,4,3] -> y\n"
    "y = ConvTranspose<output_shape=[8,6], strides=[2,2]>(x, W[2,20,3,3])",
    "grouped transposed conv": "x[N,4,5,5] -> y\ny = ConvTranspose<group=2>(x, W[4,20,3,3])",
    "fused conv": 'x[N,2,6,5] -> y\n'
    'y = com.microsoft.FusedConv<activation="LeakyRelu", activation_params=[1.0]>(x, W[20,2,3,3])',
    "gemm": "x[N,4] -> y\ny = Gemm(x, W[4,6])",
    "gemm, transposed": "x[N,4] -> y\ny = Gemm<transB=1>(x, W[6,4])",
    "matmul": "x[N,3,4] -> y\ny = MatMul(x, W[4,6])",
    "matmul of a sequence that comes first": "x[N,3,4] -> y\nt = Transpose<perm=[1,0,2]>(x)\ny = MatMul(t, W[4,6])",
    "matmul of merged rows": "x[N,3,4] -> y\nr = Reshape(x, {-1,4})\ny = MatMul(r, W[4,6])",
    "matmul of rows merged the other way": "x[N,3,4] -> y\nt = Transpose<perm=[1,0,2]>(x)\nr = Reshape(t, {-1,4})\n"
    "y = MatMul(r, W[4,6])",
    "fused matmul": "x[N,3,4] -> y\ny = com.microsoft.FusedMatMul<transA=1>(x, W[3,6])",
    "weights in a batch": "x[N,2,3,4] -> y\ny = MatMul(x, W[2,4,6])",
    "weights in a batch, data shared": "x[N,1,3,4] -> y\ny = MatMul(x, W[2,4,6])",
    "weights in a batch, data of fewer axes": "x[N,4] -> y\ny = MatMul(x, W[2,4,6])",
    "einsum": 'x[N,3,4] -> y\ny = Einsum<equation="btc,oc->tbo">(x, W[6,4])',
    "half precision": "x[N,3,4] -> y\nh = Cast<to=10>(x)\nc = Cast<to=10>(W[4,6])\nz = MatMul(h, c)\ny = Cast<to=1>(z)",
}  # fmt: skip


def second_moments(layer: Layer, y: Array) -> Array:
    """The sum of y y' over all rows, by group."""
    groups, outputs, _, _ = layer.shape
    if layer.op_type == "MatMul" and groups > 1:
        rows = np.moveaxis(y, -3, 0).reshape(groups, -1, outputs)
    else:
        last = np.moveaxis(y, layer.output_axis, -1)
        rows = np.moveaxis(last.reshape(-1, groups, outputs), 1, 0)
    return np.asarray(np.einsum("gro,grp->gop", rows, rows, dtype=np.float64))


OPSETS = [(name, 17) for name in FORMS] + [
    (name, opset) for name in ("grouped conv", "matmul") for opset in (9, 11, 13, 21)
]


@pytest.mark.parametrize(("name", "opset"), OPSETS)
def test_a_gram_matrix_tells_the_second_moments_of_the_outputs(name: str, opset: int) -> None:
    """Whatever the operator does to get at its rows."""
    model = build(FORMS[name], opset=opset)
    samples = samples_for(model)
    _, layer, found = one_gram(model, samples)
    weights = layer.matrix(Weights(model).real("W")).reshape(*layer.shape[:2], -1).astype(np.float64)
    assert found.matrix.shape == (layer.shape[0], weights.shape[2], weights.shape[2])
    assert found.total.shape == found.matrix.shape[:2]
    y = Session(model.to_bytes()).run(dict(samples.arrays))["y"]
    wanted = second_moments(layer, y)
    loose = 2e-2 if name == "half precision" else 1e-4
    np.testing.assert_allclose(
        weights @ found.matrix @ weights.transpose(0, 2, 1), wanted, rtol=loose, atol=loose * np.abs(wanted).max()
    )
    assert found.rows == (y.size // (layer.shape[0] * layer.shape[1]))


def test_rows_of_a_convolution_are_in_the_order_of_its_weights() -> None:
    """Against patches written out: inputs first, then positions of the kernel."""
    model = build("x[N,2,4,4] -> y\ny = Conv<pads=[1,1,1,1]>(x, W[3,2,3,3])")
    samples = samples_for(model)
    padded = np.pad(samples.arrays["x"], ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows = np.array(
        [padded[n, :, i : i + 3, j : j + 3].reshape(-1) for n in range(5) for i in range(4) for j in range(4)]
    )
    _, _, found = one_gram(model, samples)
    np.testing.assert_allclose(found.matrix[0], rows.T @ rows, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.total[0], rows.sum(axis=0), rtol=1e-4, atol=1e-4)


def test_recurrences_and_attention_read_a_sequence() -> None:
    """Both directions of a recurrence read the same rows; Attention multiplies its input once for all three."""
    model = build("x[N,5,8] -> y\nt = Transpose<perm=[1,0,2]>(x)\n"
                  'y, h, c = LSTM<hidden_size=6, direction="bidirectional">(t, W[2,24,8], R[2,24,6])')  # fmt: skip
    attention = build("x[N,5,8] -> y\ny = com.microsoft.Attention<num_heads=2>(x, W[8,24], B[24])")
    for which in (model, attention):
        samples = samples_for(which)
        _, layer, found = one_gram(which, samples)
        rows = samples.arrays["x"].reshape(-1, 8).astype(np.float64)
        for group in range(layer.shape[0]):
            np.testing.assert_allclose(found.matrix[group], rows.T @ rows, rtol=1e-4, atol=1e-4)
        assert found.rows == 25


QUANTIZED = {
    "q": "q = QuantizeLinear(x, 0.1, 12:uint8)\nd = DequantizeLinear(q, 0.1, 12:uint8)\n"
    "z = DequantizeLinear(W[4,6]:int8, 0.02, 0:int8)\ny = MatMul(d, z)",
    "qlinear": "q = QuantizeLinear(x, 0.1, 12:uint8)\n"
    "p = QLinearMatMul(q, 0.1, 12:uint8, W[4,6]:int8, 0.02, 0:int8, 0.05, 7:uint8)\n"
    "y = DequantizeLinear(p, 0.05, 7:uint8)",
    "dynamic": "q, s, p = DynamicQuantizeLinear(x)\ni = MatMulInteger(q, W[4,6]:int8, p, 0:int8)\nf = Cast<to=1>(i)\n"
    "y = Mul(f, s)",
}


@pytest.mark.parametrize("name", list(QUANTIZED))
def test_quantized_data_count_as_what_they_stand_for(name: str) -> None:
    """Dequantized in the graph; what is quantized on the fly is read before that."""
    model = build(f"x[N,4] -> y\n{QUANTIZED[name]}")
    samples = samples_for(model)
    _, _, found = one_gram(model, samples)
    x = samples.arrays["x"].astype(np.float64)
    if name != "dynamic":
        x = (np.clip(np.rint(x / np.float32(0.1)) + 12, 0, 255) - 12) * np.float32(0.1)
    np.testing.assert_allclose(found.matrix[0], x.T @ x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "form", ["y = Conv<pads=[1,1,1,1]>(x, W[20,3,3,3])", "r = Reshape(x, {0,-1})\ny = MatMul(r, W[75,5])"]
)
def test_a_sample_that_repeats_counts_once(form: str) -> None:
    """Five samples in batches of two are the same five samples one by one."""
    fixed, free = (build(f"x[{n},3,5,5] -> y\n{form}") for n in (2, "N"))
    wanted, found = one_gram(free)[2], one_gram(fixed)[2]
    assert found.rows == wanted.rows
    np.testing.assert_allclose(found.matrix, wanted.matrix, rtol=1e-4, atol=1e-3)


def test_rows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a sample has more positions than count, some are chosen by the seed, the same ones each time."""
    monkeypatch.setattr(collecting, "ROWS", 20)
    monkeypatch.setattr(collecting, "FEWEST_ROWS", 6)
    for text in ("x[N,2,6,6] -> y\ny = Conv(x, W[3,2,3,3])", "x[N,9,4] -> y\ny = MatMul(x, W[4,6])"):
        model = build(text)
        analysis = analyse(model)
        layer, samples = layers_of(analysis)[0], samples_for(model)
        first, again, other = (collect(analysis, samples, [Gram(layer)], seed=seed).gram(layer) for seed in (0, 0, 1))
        assert first.rows == 30
        assert np.array_equal(first.matrix, again.matrix)
        assert not np.array_equal(first.matrix, other.matrix)


def test_layers_that_read_the_same_share_a_matrix_and_memory_bounds_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Query, key and value are computed once; a small limit makes several passes with the same answers."""
    model = build("x[N,3,4] -> y\nq = MatMul(x, W[4,6])\nk = MatMul(x, V[4,6])\nr = Add(q, k)\ny = MatMul(r, U[6,5])")
    analysis = analyse(model)
    requests = [Gram(layer) for layer in layers_of(analysis)]
    seen: list[tuple[int, int]] = []
    once = collect(analysis, samples_for(model), requests, batch=2, watch=lambda what, n, of: seen.append((n, of)))
    assert once.answers[requests[0]] is once.answers[requests[1]]
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    monkeypatch.setattr(collecting, "HELD", 100)
    seen.clear()
    twice = collect(analysis, samples_for(model), requests, batch=2, watch=lambda what, n, of: seen.append((n, of)))
    assert seen[-1] == (6, 6)
    for request in requests:
        a, b = once.answers[request], twice.answers[request]
        assert isinstance(a, GramMatrix)
        assert isinstance(b, GramMatrix)
        np.testing.assert_allclose(a.matrix, b.matrix, rtol=1e-6)


REFUSED = {
    "no single tensor of the graph": "x[N,5,8] -> y\nt = Transpose<perm=[1,0,2]>(x)\n"
    "y, h, c = LSTM<hidden_size=6>(t, V[1,24,8], W[1,24,6])",
    "along the axis of the samples": "x[4,3] -> y\ny = Gemm<transA=1>(x, W[4,6])",
    "where DeformConv 'DeformConv_1' reads": "x[N,2,5,5] -> y\no = Conv(x, V[18,2,3,3])\n"
    "y = DeformConv(x, W[3,2,3,3], o)",
    "takes 2048 MiB": "x[N,16384] -> y\ny = MatMul(x, W[16384,2])",
}


@pytest.mark.parametrize("reason", list(REFUSED))
def test_what_cannot_be_told_has_a_reason(reason: str) -> None:
    """The state of a recurrence is no tensor of the graph, and so on."""
    analysis = analyse(build(REFUSED[reason], opset=19))
    request = Gram(next(layer for layer in layers_of(analysis) if layer.weight == "W"))
    found = collect(analysis, samples_for(analysis.model), [request])
    assert not found.has(request)
    assert reason in found.unanswered[request]
