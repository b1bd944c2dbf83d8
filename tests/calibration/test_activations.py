"""Moments, pooled means and maps are those of the tensors that are computed, whatever axis the samples are on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import onnxprune
from onnxprune.calibration import collect, gather
from onnxprune.criteria import Criterion, criterion_of
from onnxprune.data import Samples
from onnxprune.dependency import analyse
from onnxprune.errors import PassFailed, UsageError
from onnxprune.layers import layers_of
from onnxprune.model import Array, Model
from onnxprune.runtime.session import Session
from onnxprune.statistics import Gram, Maps, Moments, Pooled, Request
from onnxprune.testing import build
from tests.calibration.test_grams import samples_for
from tests.test_functions import ACT, DENSE, with_functions

# a model, the tensor t, its axis, and how numpy brings samples and indices to the front
TENSORS: dict[str, tuple[str, int, Callable[[Array], Array]]] = {
    "samples first": ("x[N,3,4,5] -> y\nt = Relu(x)\ny = Flatten(t)", 1, lambda t: t),
    "negative axis": ("x[N,3,4,5] -> y\nt = Relu(x)\ny = Flatten(t)", -1, lambda t: t.transpose(0, 3, 1, 2)),
    "an input": ("t[N,3,4] -> y\ny = Flatten(t)", 2, lambda t: t.transpose(0, 2, 1)),
    "samples second": (
        "x[N,3,4] -> y\nr = Relu(x)\nt = Transpose<perm=[1,0,2]>(r)\ny = Exp(t)", 2, lambda t: t.transpose(1, 2, 0),
    ),
    "merged with a sequence": (
        "x[N,3,4] -> y\nr = Relu(x)\nt = Reshape(r, {-1,4})\ny = Exp(t)", 1,
        lambda t: t.reshape(-1, 3, 4).transpose(0, 2, 1),
    ),
    "merged behind a sequence": (
        "x[N,3,4] -> y\nr = Relu(x)\ns = Transpose<perm=[1,0,2]>(r)\nt = Reshape(s, {-1,4})\ny = Exp(t)", 1,
        lambda t: t.reshape(3, -1, 4).transpose(1, 2, 0),
    ),
    "one index each": ("x[N,6] -> y\nt = Relu(x)\ny = Exp(t)", 1, lambda t: t),
    "half precision": ("x[N,6] -> y\nt = Cast<to=10>(x)\ny = Cast<to=1>(t)", 1, lambda t: t.astype(np.float32)),
}  # fmt: skip


def tensor_of(model: Model, samples: Samples, name: str = "t") -> Array:
    """The values of a tensor over all samples."""
    if name in samples.arrays:
        return samples.arrays[name]
    dtype = np.float16 if "Cast" in model.nodes[0].op_type else np.float32
    return np.asarray(Session(model.with_outputs({name: np.dtype(dtype)}).to_bytes()).run(dict(samples.arrays))[name])


@pytest.mark.parametrize("name", list(TENSORS))
def test_activations_are_told_by_index(name: str) -> None:
    """All three kinds of statistics, against numpy."""
    text, axis, front = TENSORS[name]
    model = build(text)
    samples = samples_for(model)
    values = front(tensor_of(model, samples))
    found = collect(analyse(model), samples, [Moments("t", axis), Pooled("t", axis), Maps("t", axis, 3)], batch=2)
    assert not found.unanswered
    others = (0, *range(2, values.ndim))
    moments, double = found.moments("t", axis), values.astype(np.float64)
    assert moments.count == values.size // values.shape[1]
    np.testing.assert_allclose(moments.total, double.sum(axis=others), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(moments.absolute, np.abs(double).sum(axis=others), rtol=1e-9)
    np.testing.assert_allclose(moments.squares, np.square(double).sum(axis=others), rtol=1e-9)
    np.testing.assert_allclose(moments.variance, double.var(axis=others), rtol=1e-9)
    assert np.array_equal(moments.zeros, (values == 0).sum(axis=others))
    assert np.array_equal(moments.maximum, np.abs(values).max(axis=others))
    np.testing.assert_allclose(found.pooled("t", axis), double.mean(axis=tuple(range(2, values.ndim))), rtol=1e-9)
    assert np.array_equal(found.maps("t", axis, 3), values[:3])
    assert found.samples == 5


@pytest.mark.parametrize("batch", [1, 2])
def test_a_fixed_batch_counts_each_sample_once(batch: int) -> None:
    """The last sample repeats in the last batch, and what it gives is taken off; at batch one all is one sample."""
    form = "r = Relu(x)\nt = Transpose<perm=[1,0,2]>(r)\ny = Exp(t)"
    fixed, free = build(f"x[{batch},3,4] -> y\n{form}"), build(f"x[N,3,4] -> y\n{form}")
    requests: list[Request] = [Moments("t", 2), Pooled("t", 2), Maps("t", 2, 3)]
    one, two = (collect(analyse(m), samples_for(m), requests) for m in (fixed, free))
    assert one.moments("t", 2).count == two.moments("t", 2).count
    np.testing.assert_allclose(one.moments("t", 2).squares, two.moments("t", 2).squares, rtol=1e-9)
    assert np.array_equal(one.moments("t", 2).zeros, two.moments("t", 2).zeros)
    assert np.array_equal(one.moments("t", 2).maximum, two.moments("t", 2).maximum)
    np.testing.assert_allclose(one.pooled("t", 2), two.pooled("t", 2), rtol=1e-9)
    assert np.array_equal(one.maps("t", 2, 3), two.maps("t", 2, 3))


def test_quantized_activations_count_as_what_they_stand_for() -> None:
    """Integers of a QOperator graph, by the scale that whoever reads them is given."""
    model = build("x[N,4] -> y\nq = QuantizeLinear(x, 0.1, 12:uint8)\n"
                  "t = QLinearMatMul(q, 0.1, 12:uint8, W[4,6]:int8, 0.02, 0:int8, 0.05, 7:uint8)\n"
                  "y = DequantizeLinear(t, 0.05, 7:uint8)")  # fmt: skip
    samples = samples_for(model)
    values = Session(model.to_bytes()).run(dict(samples.arrays))["y"]
    found = collect(analyse(model), samples, [Moments("t", 1)]).moments("t", 1)
    np.testing.assert_allclose(found.total, values.sum(axis=0), rtol=1e-5, atol=1e-5)
    assert np.array_equal(found.zeros, (values == 0).sum(axis=0))


def test_sizes_are_those_of_the_samples() -> None:
    """A length that the analysis took an example of is as long as the samples are."""
    model = build("x[N,T,4] -> y\nt = Relu(x)\nr = Reshape(t, {-1,4})\ny = MatMul(r, W[4,6])")
    analysis = analyse(model)
    (layer,) = layers_of(analysis)
    samples = samples_for(model)
    found = collect(analysis, samples, [Gram(layer), Pooled("r", 1)], batch=2)
    values = np.maximum(samples.arrays["x"], 0)
    assert found.gram(layer).rows == 35
    np.testing.assert_allclose(found.pooled("r", 1), values.mean(axis=1), rtol=1e-5)


REFUSED: dict[str, Request] = {
    "'W' is a constant": Moments("W", 0),
    "'nothing' is no tensor": Moments("nothing", 0),
    "'x' has no axis 5": Moments("x", 5),
    "axis 0 of 'x' is that of the samples": Pooled("x", 0),
    "nobody says what the integers of 'q' stand for": Moments("q", 1),
}


@pytest.mark.parametrize("reason", list(REFUSED))
def test_what_cannot_be_told_has_a_reason(reason: str) -> None:
    """Nothing that was asked for is left out without a word."""
    model = build("x[N,4] -> y\nh = MatMul(x, W[4,6])\nq = Cast<to=3>(x)\nz = Cast<to=1>(q)\ny = MatMul(z, V[4,2])")
    request = REFUSED[reason]
    found = collect(analyse(model), samples_for(model), [request])
    assert reason in found.unanswered[request]


def test_tensors_of_bodies_are_not_told() -> None:
    """Statistics are of the main graph."""
    model = build("x[N,4] -> y\ny = If<then_branch = g () => (float[N,4] u) { u = Relu(x) }, "
                  "else_branch = h () => (float[N,4] v) { v = Exp(x) }>(1:bool)")  # fmt: skip
    inner = next(name for node in model.nodes if node.within for name in node.outputs)
    found = collect(analyse(model), samples_for(model), [Moments(inner, 1), Moments("x", 1)])
    assert "is made inside a body of If" in found.unanswered[Moments(inner, 1)]
    assert found.has(Moments("x", 1))


def test_a_model_that_does_not_run_is_told() -> None:
    """In the words of the runtime, from a child process."""
    model = build("x[N,4] -> y\nr = Reshape(x, {2,2,4})\ny = Relu(r)")
    with pytest.raises(PassFailed, match="the original model does not run on here: "):
        collect(analyse(model), samples_for(model, 5), [Moments("r", 2)])


# What criteria are given


def test_a_criterion_is_given_what_it_asked_for() -> None:
    """Statistics, and labels with them; what is known is not computed again."""
    model = build("x[N,4] -> y\nh = MatMul(x, W[4,6])\ny = MatMul(h, V[6,2])")
    analysis, samples = analyse(model), samples_for(model)
    labelled = Samples("here", samples.arrays, np.arange(5))
    asks = Criterion("asks", "", lambda e: {}, lambda a: [Moments("h", 1)], "labels")
    evidence = gather(asks, analysis, labelled)
    assert evidence.statistics.moments("h", 1).count == 5
    assert evidence.labels is labelled.labels
    assert gather(asks, analysis, labelled, known=evidence.statistics).statistics is evidence.statistics
    assert gather(criterion_of("l2"), analysis, None).statistics.samples == 0


@pytest.mark.parametrize(
    ("data", "given", "message"),
    [
        ("samples", False, r"'asks' judges by what the model computes: give --calibration data\.npz \("),
        ("labels", False, r"give --calibration data\.npz with an array 'labels'"),
        ("labels", True, r"'asks' needs labels, and here has none"),
        ("runs", True, r"'asks' runs the model, which cannot be done here"),
    ],
)
def test_a_criterion_without_its_data_says_what_to_give(data: str, given: bool, message: str) -> None:
    """Before anything runs."""
    model = build("x[N,4] -> y\ny = MatMul(x, W[4,6])")
    asks = Criterion("asks", "", lambda e: {}, data=data)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        gather(asks, analyse(model), samples_for(model) if given else None)


def test_tensors_of_a_function_are_told() -> None:
    """A call becomes the nodes that it stands for, where a statistic is asked of one of them."""
    model = with_functions("x[N,8] -> y\nh = my.Dense(x, W[8,8])\ny = my.Act(h)", [DENSE, ACT])
    analysis, samples = analyse(model), samples_for(model)
    inner = next(node.outputs[0] for node in model.nodes if node.op_type == "MatMul")
    (layer,) = layers_of(analysis)
    found = collect(analysis, samples, [Moments(inner, 1), Gram(layer)])
    values = samples.arrays["x"].astype(np.float64)
    np.testing.assert_allclose(found.gram(layer).matrix[0], values.T @ values, rtol=1e-4, atol=1e-4)
    product = values @ model.array("W")
    np.testing.assert_allclose(found.moments(inner, 1).squares, np.square(product).sum(axis=0), rtol=1e-4)


def test_a_run_prunes_by_activations_and_by_runs() -> None:
    """What a criterion needs is computed on the way: matrices for obs, damped runs for forward."""
    model = build("x[N,3,8,8] -> y\nh = Conv(x, W[8,3,3,3])\nr = Relu(h)\ny = Conv(r, V[4,8,1,1])")
    for criterion in ("obs", "forward"):
        result = onnxprune.prune(model, sparsity=0.5, criterion=criterion, calibration="random:4", rounds=0)
        assert result.model.weights["W"].shape == (4, 3, 3, 3)
    with pytest.raises(UsageError, match="'obs' judges by what the model computes: give --calibration"):
        onnxprune.prune(model, sparsity=0.5, criterion="obs")
