"""Every form of a layer behind a cut is refitted: its numbers are stored as before, and what is cut is still proven.

In each model a first layer makes 8 channels out of 3 inputs or fewer, so that those that stay can make what all made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from onnxprune import cut
from onnxprune.dependency import Analysis, analyse
from onnxprune.layers import layers_of
from onnxprune.model import Edit, Model
from onnxprune.model.segment import Segments
from onnxprune.plan import Plan
from onnxprune.quantization import quantized_operands
from onnxprune.recovery import with_weights
from onnxprune.recovery.behind import Surroundings
from onnxprune.recovery.reconstruct import Repaired, repaired
from onnxprune.recovery.stored import Stored
from onnxprune.runtime.change import Change
from onnxprune.runtime.session import Session
from onnxprune.silenced import silenced
from onnxprune.testing import build
from onnxprune.unit import Recovery
from onnxprune.weights import Weights

Array: TypeAlias = npt.NDArray[Any]
MS = "com.microsoft"
IMAGES = "x[N,3,6,6] -> y; h = Conv(x, W[8,3,1,1]);"
BYTES = IMAGES + "p = QuantizeLinear(h, 0.05, 128:uint8);"
FLOATS = BYTES + "q = DequantizeLinear(p, 0.05, 128:uint8);"
ROWS = "x[N,5,3] -> y; h = MatMul(x, W[3,8]);"
TABLE = "x[N,3] -> y; h = MatMul(x, W[3,8]);"
ROW_BYTES = ROWS + "p = QuantizeLinear(h, 0.05, 128:uint8);"
DYNAMIC = ROWS + "p, s, z = DynamicQuantizeLinear(h);"
TIME = "x[7,N,3] -> y; h = MatMul(x, W[3,8]);"

EXACT = {
    "a scaled gemm": TABLE + "y = Gemm<alpha=0.5,beta=3.0,transB=1>(h, V[4,8], B[4])",
    "a gemm with one bias for all": TABLE + "y = Gemm(h, V[8,4], B[1])",
    "a gemm of a shared bias": TABLE + "a = Gemm(h, V[8,4], B[4]); y = Add(a, B)",
    "a scaled product": ROWS + f"y = {MS}.FusedMatMul<alpha=0.25>(h, V[8,4])",
    "a convolution with its activation": IMAGES + f'y = {MS}.FusedConv<activation="Relu">(h, V[4,8,3,3], B[4])',
    "an einsum": ROWS + 'y = Einsum<equation="abc,cd->adb">(h, V[8,4])',
    "an einsum of the weight": ROWS + 'y = Einsum<equation="dc,abc->abd">(V[4,8], h)',
    "products of shared rows": "x[5,3] -> y; h = MatMul(x, W[3,8]); y = MatMul(h, V[3,8,4])",
    "attention": ROWS + f"g = {MS}.Attention<num_heads=2>(h, V[8,24], B[24]); y = Relu(g)",
    "LSTM": TIME + "y = LSTM<hidden_size=5>(h, V[1,20,8], R[1,20,5], B[1,40])",
    "GRU": TIME + "y = GRU<hidden_size=5>(h, V[1,15,8], R[1,15,5], B[1,30])",
    "GRU that is reset behind the product": (
        TIME + "y = GRU<hidden_size=5,linear_before_reset=1>(h, V[1,15,8], R[1,15,5], B[1,30])"
    ),
    "RNN with a ReLU behind": TIME + "o = RNN<hidden_size=5>(h, V[1,5,8], R[1,5,5], B[1,10]); y = Relu(o)",
    "RNN backwards": TIME + 'y = RNN<hidden_size=5,direction="reverse">(h, V[1,5,8], R[1,5,5])',
    "LSTM in both directions": (
        TIME + 'y = LSTM<hidden_size=5,direction="bidirectional">(h, V[2,20,8], R[2,20,5], B[2,40])'
    ),
    "GRU in both directions": TIME + 'y = GRU<hidden_size=5,direction="bidirectional">(h, V[2,15,8], R[2,15,5])',
}
ROUNDED = {
    "one scale": FLOATS + "v = DequantizeLinear(V[4,8,3,3]:int8, 0.005, 3:int8); y = Conv(q, v, B[4])",
    "bytes around a middle": FLOATS + "v = DequantizeLinear(V[4,8,3,3]:uint8, 0.005, 120:uint8); y = Conv(q, v, B[4])",
    "a scale for each output, and a bias of 32 bits": (
        FLOATS + "v = DequantizeLinear<axis=0>(V[4,8,3,3]:int8, S[4], Z[4]:int8);"
        "b = DequantizeLinear<axis=0>(B[4]:int32, T[4], U{0,0,0,0}:int32); y = Conv(q, v, b)"
    ),
    "a moved weight": ROWS + "v = DequantizeLinear<axis=0>(V[4,8]:int8, S[4]); t = Transpose(v); y = MatMul(h, t)",
    "integers behind the layer": (
        FLOATS + "v = DequantizeLinear(V[4,8,3,3]:int8, 0.005); o = Conv(q, v);"
        "i = QuantizeLinear(o, 0.1, 0:uint8); y = DequantizeLinear(i, 0.1, 0:uint8)"
    ),
    "QLinearConv": (
        BYTES + "i = QLinearConv(p, 0.05, 128:uint8, V[4,8,3,3]:int8, S[4], Z[4]:int8, 0.2, 100:uint8, B[4]:int32);"
        "y = DequantizeLinear(i, 0.2, 100:uint8)"
    ),
    "QLinearMatMul": (
        ROW_BYTES + "i = QLinearMatMul(p, 0.05, 128:uint8, V[8,4]:int8, S[4], Z[4]:int8, 0.1, 100:uint8);"
        "y = DequantizeLinear(i, 0.1, 100:uint8)"
    ),
    "QGemm": (
        TABLE + "p = QuantizeLinear(h, 0.05, 128:uint8);"
        f"y = {MS}.QGemm<transB=1>(p, 0.05, 128:uint8, V[4,8]:int8, 0.005, 2:int8, B[4]:int32)"
    ),
    "MatMulInteger": DYNAMIC + "i = MatMulInteger(p, V[8,4]:int8, z); f = Cast<to=1>(i); y = Mul(f, s)",
    "ConvInteger": (
        IMAGES + "p, s, z = DynamicQuantizeLinear(h); i = ConvInteger(p, V[4,8,3,3]:uint8, z, 130:uint8);"
        "f = Cast<to=1>(i); y = Mul(f, s)"
    ),
    "MatMulIntegerToFloat": DYNAMIC + f"y = {MS}.MatMulIntegerToFloat(p, V[8,4]:int8, s, S[4], z, Z[4]:int8, B[4])",
    "DynamicQuantizeMatMul": ROWS + f"y = {MS}.DynamicQuantizeMatMul(h, V[8,4]:int8, S[4], Z[4]:int8, B[4])",
    "QAttention": DYNAMIC + f"y = {MS}.QAttention<num_heads=2>(p, V[8,24]:int8, B[24], s, 0.005, _, z, 2:int8)",
}


def fed(model: Model, seed: int = 0) -> list[dict[str, Array]]:
    """Five batches of four samples."""
    rng = np.random.default_rng(seed)
    shape = [4 if not isinstance(n, int) else n for n in model.inputs[0].shape or ()]
    return [{"x": rng.standard_normal(shape).astype(np.float32)} for _ in range(5)]


def scaled(model: Model) -> Model:
    """The model with scales and integers of a sound size."""
    edit, rng = Edit(model), np.random.default_rng(1)
    scales = {node.inputs[q.scale] for node in model.nodes for q in quantized_operands(node.op_type, node.attributes)
              if q.scale is not None and q.scale < len(node.inputs)}  # fmt: skip
    for name, info in model.weights.items():
        if name in scales and info.shape:
            edit.replace(name, rng.uniform(0.004, 0.006, info.shape).astype(np.float32))
        elif info.dtype == np.int32 and info.shape:
            edit.replace(name, rng.integers(-90, 90, info.shape).astype(np.int32))
        elif info.dtype.kind in "iu" and info.dtype.itemsize == 1 and len(info.shape) > 1:
            middle = 120 if info.dtype == np.uint8 else 0
            edit.replace(name, (middle + rng.integers(-90, 90, info.shape)).astype(info.dtype))
        elif name in ("Z", "O"):
            edit.replace(name, rng.integers(-9, 9, info.shape).astype(info.dtype))
    return edit.done()


def halved(model: Model) -> tuple[Analysis, Plan, Analysis]:
    """The analysed model, a plan that takes half of the first group's channels, and the model as it leaves it."""
    analysis = analyse(model)
    group = next(g for g in analysis.groups if any(site.tensor == "W" for site in g.sites))
    keep = np.zeros(group.size, np.bool_)
    keep[[0, 2, 3, 6]] = True
    plan = Plan.of(analysis.groups, {group.atom.id: keep})
    return analysis, plan, silenced(analysis, plan)


def off(original: Model, made: Model, seed: int) -> float:
    """The relative error of what a model makes of inputs that it was not fitted to."""
    one, other = Session(original.to_bytes()), Session(made.to_bytes())
    pairs = [(one.run(feed)["y"], other.run(feed)["y"]) for feed in fed(original, seed)]
    return float(np.sqrt(sum(np.square(a - b).sum() for a, b in pairs) / sum(np.square(a).sum() for a, _ in pairs)))


def mended(text: str) -> tuple[Model, Model, Repaired, float, float]:
    """A model, the same one repaired, what was done, and the errors before and after; the theorem is checked."""
    model = scaled(build(text))
    analysis, plan, pruned = halved(model)
    found = repaired(analysis, pruned, fed(model))
    new = with_weights(model, found.values)
    again = analyse(new)
    masked, shrunk = cut.mask(again, plan), cut.shrink(again, plan)
    for feed in fed(model, 2):
        whole, small = (Session(m.to_bytes()).run(feed)["y"] for m in (masked, shrunk))
        np.testing.assert_allclose(whole, small, rtol=1e-3, atol=1e-3 * float(np.abs(whole).max()))
    return model, new, found, off(model, pruned.model, 3), off(model, shrunk, 3)


@pytest.mark.parametrize("name", EXACT)
def test_floats_are_refitted(name: str) -> None:
    """What stays makes all that was made, whatever the operator does with the product."""
    _, _, found, before, after = mended(EXACT[name])
    assert not found.left
    assert [repair.kept for repair in found.repairs] == [True]
    assert before > 0.1
    assert after < 0.03


@pytest.mark.parametrize("name", ROUNDED)
def test_integers_are_refitted(name: str) -> None:
    """They stay integers of the same scale and zero point, and what they stand for is nearer to the original."""
    model, new, found, before, after = mended(ROUNDED[name])
    assert not found.left
    assert [repair.kept for repair in found.repairs] == [True]
    for weight, array in found.values.items():
        assert array.dtype == model.weights[weight].dtype
    assert {name for name in model.weights if not np.array_equal(model.array(name), new.array(name))} <= {"V", "B"}
    assert before > 0.1
    assert after < 0.5 * before


def test_the_bias_of_integers_is_refitted() -> None:
    """In 32 bits, by the product of the scales where the operator says no other."""
    for name in ("QLinearConv", "a scale for each output, and a bias of 32 bits", "QGemm"):
        model = scaled(build(ROUNDED[name]))
        analysis = analyse(model)
        layer = next(layer for layer in layers_of(analysis) if layer.weight == "V")
        behind = Surroundings(analysis, Segments(model)).behind(layer)
        own = Stored(model, Weights(model), layer, behind.bias, behind.factor)
        assert behind.bias == "B"
        matrix = own.matrix()
        matrix[..., -1] += 0.25
        stored = own.put(matrix)
        assert stored["B"].dtype == np.int32
        assert np.array_equal(stored["V"], model.array("V"))
        made = Session(with_weights(model, stored).to_bytes()).run(fed(model)[0])["y"]
        first = Session(model.to_bytes()).run(fed(model)[0])["y"]
        assert float(np.median(made - first)) == pytest.approx(0.25, abs=0.06)


def test_what_is_stored_is_judged() -> None:
    """A scale so coarse that what is rounded to it is worse than nothing: the layer keeps its weights."""
    text = ROWS + "v = DequantizeLinear(V[8,4]:int8, 2.0); y = MatMul(h, v)"
    model = build(text)
    edit = Edit(model)
    values = np.zeros((8, 4), np.int8)
    values[[0, 1, 2], [0, 1, 2]] = 1
    edit.replace("V", values)
    model = edit.done()
    analysis, _, pruned = halved(model)
    found = repaired(analysis, pruned, fed(model))
    for repair in found.repairs:
        assert repair.kept == (repair.after < repair.before)
    own = Stored(model, Weights(model), layers_of(analysis)[1])
    for array in found.values.values():
        meant = own.meant({"V": array})
        assert np.array_equal(meant, np.rint(meant / 2) * 2)


def test_an_input_that_goes_stays_unread() -> None:
    """Zeros of the original in a channel that goes are no weights that are free: it is gone in the pruned model."""
    model = build(ROWS + "y = MatMul(h, V[8,4])")
    edit = Edit(model)
    values = np.array(model.array("V"))
    values[[1, 4], [0, 2]] = 0
    edit.replace("V", values)
    analysis, _, pruned = halved(edit.done())
    found = repaired(analysis, pruned, fed(model))
    assert not found.values["V"][[1, 4, 5, 7]].any()
    assert (found.values["V"][[0, 2, 3, 6]] != 0).all()


def test_time_comes_first_in_a_recurrence() -> None:
    """Its samples are counted on the second axis, or on the first where the layout says so; both give the same rows."""
    from onnxprune.recovery.rows import unfolding

    both: Mapping[str, str] = {"time": "", "batch": ",layout=1"}
    x = np.random.default_rng(0).standard_normal((50, 2, 3)).astype(np.float32)
    rows = {}
    for name, said in both.items():
        model = build(f"x[50,2,3] -> y; y = LSTM<hidden_size=5{said}>(x, V[1,20,3], R[1,20,5])")
        layer = layers_of(analyse(model))[0]
        own = x if name == "time" else np.swapaxes(x, 0, 1)
        found = unfolding(layer, model.nodes[layer.node], 10)
        assert found is not None
        assert found.samples(own) == 2
        assert found.rows(own).shape == (1, 20, 3)
        whole = unfolding(layer, model.nodes[layer.node], 1000)
        assert whole is not None
        rows[name] = whole.rows(own)[0]
    assert np.array_equal(np.unique(rows["time"], axis=0), np.unique(rows["batch"], axis=0))


def test_what_a_recurrence_makes_is_not_what_is_fitted() -> None:
    """An activation or an addition behind it is no part of the product of its inputs."""
    model = build("x[7,2,5] -> y; o = RNN<hidden_size=5>(x, V[1,5,5], R[1,5,5], B[1,10]); y = Relu(o)")
    analysis = analyse(model)
    layer = layers_of(analysis)[0]
    behind = Surroundings(analysis, Segments(model)).behind(layer)
    assert (behind.bias, behind.shortcut, behind.bounds) == ("B", "", None)


SHARED = ROWS + "a = MatMul(h, V[8,8]); b = MatMul(a, V); y = MatMul(b, U[8,4])"


def test_what_cannot_be_refitted_is_told() -> None:
    """By name, with the reason, and not silently; what was not changed is not told."""
    analysis, _, pruned = halved(build(SHARED))
    left = repaired(analysis, pruned, fed(analysis.model)).left
    assert set(left.values()) == {"several nodes read its weight"}
    assert len(left) == 2
    recurrence = build(f"{TIME} o = LSTM<hidden_size=5>(h, V[1,20,8], R[1,20,5]); y = Relu(o)")
    assert not repaired(*halved(recurrence)[::2], fed(recurrence)).left


def test_what_is_told_is_short() -> None:
    """Layers of one reason together, three of them by name."""
    left = {"a": "why", "b": "why", "c": "why", "d": "why", "e": "other"}
    told = Recovery("reconstruct", Change(1.0, None, "y"), Change(0.1, None, "y"), left=left).told
    assert told[1:] == ("not repaired: 5 layers ('a', 'b', 'c' and 1 more: why; 'e': other)",)


def test_half_floats_do_not_overflow() -> None:
    """Sums of squares of half floats are made in floats."""
    model = build("x[N,5,3]:float16 -> y; h = MatMul(x, W[3,8]:float16); y = MatMul(h, V[8,4]:float16)")
    analysis, _, pruned = halved(model)
    batches = [{"x": 40 * feed["x"].astype(np.float16)} for feed in fed(build("x[N,5,3] -> y; y = Relu(x)"))]
    found = repaired(analysis, pruned, batches)
    assert [repair.kept for repair in found.repairs] == [True]
    assert found.repairs[0].after < 1e-3
    assert found.values["V"].dtype == np.float16
