"""What an activation cuts off is known from the graph, and is no error of a repair."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.dependency import analyse
from onnxprune.layers import layers_of
from onnxprune.model import Edit
from onnxprune.model.segment import Segments
from onnxprune.recovery import clipping
from onnxprune.recovery.activations import limits_of
from onnxprune.recovery.behind import Surroundings
from onnxprune.recovery.clipping import Bounds, Rows, error, fitted_within, worthwhile
from onnxprune.recovery.leastsquares import Normal, solve
from onnxprune.recovery.rows import unfolding
from onnxprune.recovery.threads import Threads
from onnxprune.runtime.session import Session
from onnxprune.testing import build

CONV = "x[N,5,6,6] -> y\nh = Conv<pads=[1,1,1,1]>(x, W[5,5,3,3], B[5])\n"
NORM = "x[N,5,6,6] -> y\nh = Conv<pads=[1,1,1,1]>(x, W[5,5,3,3])\nn = BatchNormalization(h, G[5], O[5], M[5], V[5])\n"
CLIPPED = {
    "relu": f"{CONV}y = Relu(h)",
    "clip": f"{CONV}y = Clip(h, l, u)",
    "open clip": f"{CONV}y = Clip(h, _, u)",
    "hard sigmoid": f"{CONV}y = HardSigmoid<alpha=0.5, beta=0.4>(h)",
    "relu behind an addition": "x[N,5] -> y\nh = MatMul(x, W[5,7])\nb = Add(h, B[7])\ny = Relu(b)",
    "relu behind a second addition": "x[N,5] -> y\nh = Gemm(x, W[5,7], B[7])\nb = Add(h, C[7])\ny = Relu(b)",
    "relu behind a norm": f"{NORM}y = Relu(n)",
    "clip behind a norm behind a bias": (
        "x[N,5,6,6] -> y\nh = Conv(x, W[5,5,1,1], B[5])\nn = BatchNormalization(h, G[5], O[5], M[5], V[5])\n"
        "y = Clip(n, l, u)"
    ),
    "relu behind a shortcut": f"{CONV}s = Add(x, h)\ny = Relu(s)",
    "relu behind a norm and a shortcut": f"{NORM}s = Add(n, x)\ny = Relu(s)",
}


@pytest.mark.parametrize("name", CLIPPED)
def test_what_comes_through_is_what_lies_within_the_bounds(name: str) -> None:
    """The output of the activation is a straight line in what the layer makes, cut off at the bounds: norms included.

    Some norms turn their inputs round, so that a floor becomes a ceiling.
    """
    text = CLIPPED[name].replace("l, u", "l[], u[]").replace("_, u", "_, u[]")
    model, rng = build(text), np.random.default_rng(1)
    edit = Edit(model)
    for weight, value in (("l", -0.3), ("u", 0.4)):
        if weight in model.weights:
            edit.replace(weight, np.array(value, np.float32))
    if "G" in model.weights:
        edit.replace("G", np.array([1.0, -2.0, 0.5, -0.7, 1.5], np.float32))
        edit.replace("V", np.array([1.0, 2.0, 0.5, 0.7, 1.5], np.float32))
        edit.replace("M", rng.standard_normal(5).astype(np.float32))
        edit.replace("O", rng.standard_normal(5).astype(np.float32))
    model = edit.done()
    analysis = analyse(model)
    (layer,) = layers_of(analysis)
    behind = Surroundings(analysis, Segments(model)).behind(layer)
    assert behind.bounds is not None
    x = rng.standard_normal([32, *(n for n in (model.inputs[0].shape or ())[1:] if isinstance(n, int))])
    x = x.astype(np.float32)
    rows = unfolding(layer, model.nodes[layer.node], 1000)
    assert rows is not None
    made = rows.rows(x) @ np.swapaxes(layer.matrix(model.array("W")).reshape(*layer.shape[:2], -1), 1, 2)
    if behind.bias:
        made = made + behind.factor * model.array(behind.bias).reshape(1, 1, -1)
    if behind.shortcut:
        made = made + behind.share(rows.made(x), 1)
    through = behind.bounds.within(made)[0].astype(np.float64)
    found = rows.made(Session(model.to_bytes()).run({"x": x})["y"])[0].astype(np.float64)
    assert (through != made[0]).any()
    for column, expected in zip(through.T, found.T, strict=True):
        line = np.polyfit(column, expected, 1)
        assert np.abs(np.polyval(line, column) - expected).max() < 1e-4 * np.abs(found).max()


@pytest.mark.parametrize(
    "end",
    [
        "y = Sigmoid(h)",
        "y = Identity(h)",
        "r = Relu(h)\ny = Add(r, h)",
        "y = Clip(h, x, x)",
        "s = Add(h, h)\ny = Relu(s)",
    ],
)
def test_where_nothing_is_cut_off_there_are_no_bounds(end: str) -> None:
    """An activation that tells all inputs apart, one of two readers, limits that are computed, a sum with itself."""
    text = "x[N,5] -> y\nh = MatMul(x, W[5,5])\n" if "x, x" not in end else "x[] -> y\nh = MatMul(V[2,5], W[5,5])\n"
    model = build(text + end)
    analysis = analyse(model)
    surroundings = Surroundings(analysis, Segments(model))
    assert all(surroundings.behind(layer).bounds is None for layer in layers_of(analysis))


def test_limits_of_hard_swish() -> None:
    """It is 0 below -3, and tells all apart above."""
    model = build("x[N,5] -> y\ny = HardSwish(x)")
    assert limits_of(model.nodes[0], model) == (-3.0, np.inf)


def test_least_squares_within_bounds_lose_less() -> None:
    """Fewer inputs than there were make more of what comes through."""
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((2, 400, 8)), rng.standard_normal((2, 6, 8))
    beside = rng.standard_normal((2, 400, 6))
    bounds = Bounds(np.zeros((2, 1, 6)), np.full((2, 1, 6), 4.0))
    keep = np.ones((2, 6, 8), np.bool_)
    x[..., -1], weights[..., -1] = 1.0, -3.0  # a bias, which keeps most of what is made below the floor
    keep[..., 5:-1] = False
    wanted = x @ np.swapaxes(weights, 1, 2)
    normal = Normal.empty(2, 8, 6)
    normal.add(Normal.of(x, wanted))
    rows = [Rows(x, wanted, beside)]
    now = solve(normal, weights, keep, ridge=0.0)
    before, energy = error(rows, now, bounds)
    assert 0 < before < energy
    now = fitted_within(normal, rows, now, keep, 1, bounds, Threads())
    assert error(rows, now, bounds)[0] < 0.98 * before
    assert not now[~keep].any()
    half = rows[0].thinned(0.5)
    assert half.seen.shape == (2, 200, 8)
    assert half.wanted.shape == half.beside.shape == (2, 200, 6)
    assert rows[0].thinned(1.0) is rows[0]


def test_rounds_that_would_take_long_are_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern for each row has to be solved for each row."""
    monkeypatch.setattr(clipping, "WORK", 3 * 8.0**3 / 3 * clipping.ROUNDS)
    bounds = Bounds(np.zeros((1, 1, 4)), np.full((1, 1, 4), np.inf))
    same = np.ones((1, 4, 10), np.bool_)
    same[..., 8:] = False
    each = np.stack([np.roll(same[0, 0], k) for k in range(4)])[None]
    assert worthwhile(same, bounds)
    assert not worthwhile(each, bounds)
    assert not worthwhile(same, None)
