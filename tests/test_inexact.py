"""Inexact by choice: what is fixed by default opens on request, is measured, and nobody claims that it is exact."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from onnxprune import api
from onnxprune.dependency import analyse
from onnxprune.errors import UsageError
from onnxprune.model import Edit, Model
from onnxprune.runtime.change import broken, change
from onnxprune.testing import build, theorem
from tests.commands import Commands

NORMED = """
    x[N,5,6] -> y
    h = MatMul(x, W[6,16]); n = LayerNormalization(h, S[16], B[16]); a = MatMul(n, A[16,12]); r = Relu(a)
    b = MatMul(r, U[12,16]); s = Add(h, b); m = LayerNormalization<epsilon=0.01>(s, T[16], C[16])
    y = MatMul(m, V[16,4])
"""
PIECES = """
    x[N,5,6] -> y
    h = MatMul(x, W[6,16]); m = ReduceMean<axes=[-1]>(h); d = Sub(h, m); p = Pow(d, 2.0); v = ReduceMean<axes=[-1]>(p)
    e = Add(v, 0.00001); q = Sqrt(e); n = Div(d, q); y = MatMul(n, V[16,4])
"""
OPENED = {
    "LayerNorm": (NORMED, "norm"),
    "LayerNorm in pieces": (PIECES, "norm"),
    "GroupNorm's inner factor": (
        """x[N,3,6,6] -> y
        h = Conv(x, W[16,3,1,1]); r = Reshape(h, {0,4,-1}); i = InstanceNormalization(r, S[4], B[4])
        s = Shape(h); t = Reshape(i, s); g = Mul(t, G[16,1,1]); y = Conv(g, V[4,16,1,1])""",
        "norm",
    ),
    "a maximum": ("x[N,6] -> y; h = MatMul(x, W[6,16]); y = ReduceMax<axes=[1]>(h)", "reduce"),
    "Softmax": ("x[N,6] -> y; h = MatMul(x, W[6,16]); s = Softmax<axis=1>(h); y = MatMul(s, V[16,4])", "softmax"),
}


@pytest.mark.parametrize("what", OPENED)
def test_on_request_and_only_then(what: str) -> None:
    """Fixed without the option and with another kind; with it the axis is cut, the model runs, its change is told."""
    text, kind = OPENED[what]
    model = build(text)
    others = frozenset({"norm", "reduce", "softmax"} - {kind})
    assert not any(group.name == "W" and group.size == 16 for group in analyse(model, allow=others).groups)
    result = api.prune(model, rounds=0, round_to="1", allow_inexact=kind)
    report = result.report
    assert any(group.kept < group.size for group in report.groups if "W[1]" in group.sites or "W[0]" in group.sites)
    assert not report.exact
    assert not report.verified
    assert report.output_change is not None
    assert report.output_change > 0.0
    verdict = api.verify(model, result.model)
    assert (verdict.passed, verdict.exact) == (True, False)
    assert json.loads(report.to_json())["exact"] is False


def test_the_rest_of_the_plan_is_still_proven() -> None:
    """A model of which some groups are exact is exact where only those are cut, even with the option."""
    result = api.prune(build(NORMED), rounds=0, round_to="1", allow_inexact=("norm", "softmax"), exclude=("W",))
    assert [group.name for group in result.report.groups if group.kept < group.size] == ["A"]
    assert result.report.exact
    assert result.report.verified
    assert result.report.output_change is None


def test_exact_is_the_default() -> None:
    """Without the option the result is proven, and the report has no change to tell of."""
    report = api.prune(build(NORMED), rounds=0, round_to="1").report
    assert report.verified
    assert report.exact
    assert report.output_change is None


@pytest.mark.parametrize("text", [NORMED, PIECES])
def test_statistics_are_corrected_for_the_new_count(text: str) -> None:
    """Channels that hardly speak are hardly missed: the norm's spread is not counted over fewer indices."""
    model = build(text)
    edit = Edit(model)
    quiet = np.where(np.arange(16) < 8, 1.0, 1e-3).astype(np.float32)
    for name in {"W", "U"} & set(model.weights):
        rows = model.array(name)
        edit.replace(name, (rows - rows[:, :8].mean(axis=1, keepdims=True)) * quiet)  # what speaks has no mean
    for name in {"B", "C"} & set(model.weights):
        edit.replace(name, model.array(name) * quiet)
    quietened = edit.done()
    report = api.prune(quietened, rounds=0, round_to="1", allow_inexact="norm", include=("W",)).report
    assert report.output_change is not None
    assert report.output_change < 0.02


def test_an_unknown_kind_is_refused() -> None:
    """The mistake is named, and what there is."""
    with pytest.raises(UsageError, match=r"'norms'.*norm, reduce, softmax"):
        api.prune(build(NORMED), allow_inexact="norm,norms")
    with pytest.raises(UsageError, match=r"'norms'.*norm, reduce, softmax"):
        api.inspect(build(NORMED), allow_inexact=("norms",))


def test_what_it_would_open_can_be_seen_before(onnxprune: Commands, desk: Path) -> None:
    """`inspect` and `explain` take the same option: what is opened is marked, what is exact is not."""
    build(NORMED).save("normed.onnx")
    found = {g.name: g.exact for g in api.inspect("normed.onnx", allow_inexact="norm").groups}
    assert found == {"A": True, "W": False}
    assert all(g.exact for g in api.inspect("normed.onnx").groups)
    assert "channel, not exact" in onnxprune("inspect", "normed.onnx", "--allow-inexact", "norm").out
    assert "not exact" not in onnxprune("inspect", "normed.onnx").out
    opened = onnxprune("explain", "normed.onnx", "V", "--allow-inexact", "norm,reduce").out
    assert "prunable on request alone, not exactly, group 'W'" in opened
    assert "its indices share the statistics" in onnxprune("explain", "normed.onnx", "V").out


def test_a_norm_in_pieces_agrees_with_its_mask() -> None:
    """Opened or not, the pieces of a norm are cut consistently: the theorem's two models are equal."""
    assert theorem(build(PIECES)).sizes == {}


def outputs(**values: object) -> list[dict[str, object]]:
    return [dict(values)]


def test_change_is_relative_and_a_divergence() -> None:
    """Equal outputs have none; twice the output is a change of one; scores diverge, images do not."""
    x = np.asarray([[1.0, 2.0, 3.0]], np.float32)
    assert change(outputs(y=x), outputs(y=x)).relative == 0.0
    found = change(outputs(y=x, z=x), outputs(y=2 * x, z=x))
    assert found.relative == pytest.approx(1.0)
    assert found.output == "y"
    assert found.divergence is not None
    assert found.divergence > 0.01
    image = np.ones((1, 3, 4, 4), np.float32)
    assert change(outputs(y=image), outputs(y=image * 0)).divergence is None
    assert change(outputs(y=image * 0), outputs(y=image * 0)).relative == 0.0


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ({}, "is None"),
        ({"y": np.ones((2, 2), np.float32)}, "(2, 3) and is float32(2, 2)"),
        ({"y": np.ones((2, 3), np.float64)}, "float64"),
        ({"y": np.full((2, 3), np.nan, np.float32)}, "finite"),
        ({"y": [1.0]}, "is [1.0]"),
    ],
)
def test_outputs_that_cannot_be_compared(after: dict[str, object], words: str) -> None:
    """Missing, another shape, another type, no longer finite: each is said."""
    said = broken(outputs(y=np.ones((2, 3), np.float32)), [after])
    assert said is not None
    assert words in said
    assert broken(outputs(y=["a"]), outputs(y=["b"])) is None
    assert broken(outputs(y=["a"]), outputs(y=np.ones(2))) == "output 'y' is no list any more"


def sizes(model: Model, allow: str) -> dict[str, int]:
    return {group.name: group.size for group in analyse(model, allow=frozenset({allow})).groups}


def test_only_what_may_open_does() -> None:
    """Positions of an ArgMax, the order of TopK and training statistics stay fixed whatever is asked for."""
    for body in ("y = ArgMax<axis=1>(h)", "y, i = TopK<axis=1>(h, {2})"):
        model = build(f"x[N,6] -> y; h = MatMul(x, W[6,16]); {body}")
        assert all(sizes(model, kind) == {} for kind in ("norm", "reduce", "softmax"))
