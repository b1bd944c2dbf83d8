"""A layer's matrix is what its node multiplies with, whatever the operator stores and whatever lies in between."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.dependency import analyse
from onnxprune.layers import layers_of, left_alone
from onnxprune.model import Model
from onnxprune.runtime.session import Session
from onnxprune.testing import build
from onnxprune.weights import Weights

FORMS = {
    "conv": ("x[N,4,5,5] -> y\ny = Conv(x, W[6,4,3,3], B[6])", (1, 6, 4, 9)),
    "grouped conv": ("x[N,4,5,5] -> y\ny = Conv<group=2>(x, W[6,2,3,3])", (2, 3, 2, 9)),
    "depthwise conv": ("x[N,4,5,5] -> y\ny = Conv<group=4>(x, W[4,1,3,3])", (4, 1, 1, 9)),
    "transposed conv": ("x[N,4,5,5] -> y\ny = ConvTranspose(x, W[4,6,3,3])", (1, 6, 4, 9)),
    "grouped transposed conv": ("x[N,4,5,5] -> y\ny = ConvTranspose<group=2>(x, W[4,3,3,3])", (2, 3, 2, 9)),
    "gemm": ("x[N,4] -> y\ny = Gemm(x, W[4,6], B[6])", (1, 6, 4, 1)),
    "gemm transB": ("x[N,4] -> y\ny = Gemm<transB=1>(x, W[6,4])", (1, 6, 4, 1)),
    "matmul": ("x[N,3,4] -> y\ny = MatMul(x, W[4,6])", (1, 6, 4, 1)),
    "batched matmul": ("x[2,3,4] -> y\ny = MatMul(x, W[2,4,6])", (2, 6, 4, 1)),
    "behind a transpose": ("x[N,3,4] -> y\nt = Transpose<perm=[1,0]>(W[6,4])\ny = MatMul(x, t)", (1, 6, 4, 1)),
    "behind two": (
        "x[N,3,4] -> y\ns = Transpose<perm=[1,2,0]>(W[6,1,4])\nt = Transpose<perm=[0,1,2]>(s)\n"
        "u = Identity(t)\ny = MatMul(x, u)",
        None,
    ),
    "einsum": ('x[N,3,4] -> y\ny = Einsum<equation="btc,oc->bto">(x, W[6,4])', (1, 6, 4, 1)),
    "einsum by group": ('x[N,2,4] -> y\ny = Einsum<equation="bgc,gco->bgo">(x, W[2,4,6])', (2, 6, 4, 1)),
    "einsum of heads": ('x[N,2,4] -> y\ny = Einsum<equation="bhd,hdo->bo">(x, W[2,4,6])', (1, 6, 8, 1)),
}


def model_of(name: str) -> Model:
    return build(FORMS[name][0])


@pytest.mark.parametrize("name", list(FORMS))
def test_there_and_back(name: str) -> None:
    """The form is as expected, and the way back gives the weight as it is stored."""
    model = model_of(name)
    (layer,) = layers_of(analyse(model))
    weight = model.array("W")
    matrix = layer.matrix(weight)
    assert matrix.shape == layer.shape
    assert FORMS[name][1] in (None, layer.shape)
    assert np.array_equal(layer.stored(matrix), weight)
    assert layer.numbers == weight.size


@pytest.mark.parametrize("name", [n for n in FORMS if "einsum of heads" not in n and n != "behind two"])
def test_an_output_depends_on_its_row_alone(name: str) -> None:
    """Zeroing row (g, o) of the matrix silences output g x O + o, and no other; but for the bias."""
    from onnxprune.model import Edit

    model = model_of(name)
    (layer,) = layers_of(analyse(model))
    groups, outputs, _, _ = layer.shape
    feed = {i.name: np.random.default_rng(0).standard_normal([2 if not isinstance(n, int) else n for n in i.shape or ()]
                                                             ).astype(np.float32) for i in model.inputs}  # fmt: skip
    matrix = layer.matrix(model.array("W")).copy()
    matrix[groups - 1, outputs - 1] = 0
    edit = Edit(model)
    edit.replace("W", np.ascontiguousarray(layer.stored(matrix)))
    (before,), (after,) = (list(Session(m.to_bytes()).run(feed).values()) for m in (model, edit.done()))
    differs = np.asarray(before != after)
    if layer.op_type in ("MatMul", "Einsum") and groups > 1:  # groups have an axis of their own
        assert not differs[:, : groups - 1].any() or not differs[: groups - 1].any()
    else:
        along = differs.any(axis=tuple(k for k in range(differs.ndim) if k != layer.output_axis % differs.ndim))
        assert np.flatnonzero(along).tolist() == [groups * outputs - 1]


def test_a_quantized_weight_is_found_where_it_is_stored() -> None:
    """Behind DequantizeLinear the stored integers are the weight; their real values have the same form."""
    model = build(
        "x[N,4,5,5] -> y\nd = DequantizeLinear<axis=0>(W[6,4,3,3]:int8, S[6], Z[6]:int8)\ny = Conv(x, d, B[6])"
    )
    (layer,) = layers_of(analyse(model))
    assert (layer.weight, layer.bias, layer.shape) == ("W", "B", (1, 6, 4, 9))
    assert layer.matrix(Weights(model).real("W")).shape == layer.shape


def test_recurrences_have_two_layers_and_embeddings_come_on_request() -> None:
    """Input weights read the sequence, recurrent weights read no tensor of the graph."""
    model = build(
        "i[N,5]:int64 -> y\ne = Gather(E[20,8], i)\n"
        "y, h, c = LSTM<hidden_size=6, layout=0>(e, W[1,24,8], R[1,24,6], B[1,48])"
    )
    analysis = analyse(model)
    found = layers_of(analysis)
    assert [(layer.weight, layer.data, layer.shape) for layer in found] == [
        ("W", "e", (1, 24, 8, 1)),
        ("R", "", (1, 24, 6, 1)),
    ]
    assert [layer.weight for layer in layers_of(analysis, embeddings=True)] == ["E", "W", "R"]
    assert len({layer.name for layer in found}) == 2
    assert left_alone(analysis, found) == ("E",)


def test_a_weight_that_two_nodes_read_is_in_two_layers() -> None:
    """Tied weights are one tensor with several layers."""
    model = build("x[N,4] -> y\nh = MatMul(x, W[4,4])\nr = Relu(h)\ny = MatMul(r, W)")
    assert [layer.weight for layer in layers_of(analyse(model))] == ["W", "W"]
