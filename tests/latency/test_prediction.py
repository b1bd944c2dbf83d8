"""What is predicted of a pruned model follows from its stamp; of a model that was made otherwise nothing is said."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import onnxprune
from onnxprune import cut, prediction
from onnxprune.cost import Term
from onnxprune.dependency import Analysis, analyse
from onnxprune.latency import LatencyModel
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.prediction import predictions
from onnxprune.stamp import stamped
from onnxprune.testing import build
from tests.commands import Commands

TEXT = "x[N,3] -> y; a = Gemm(x, A[3,8]); r = Relu(a); y = Gemm(r, B[8,2])"
FEED = {"x": np.ones((1, 3), np.float32)}
Asked = list[dict[str, Any]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A latency model that takes a millisecond for each index that stays, and what was asked of it."""
    calls: Asked = []

    def a_millisecond_each(analysis: Analysis, candidates: object, feed: object, **options: Any) -> LatencyModel:
        calls.append({"sizes": dict(analysis.shapes.sizes), **options})
        atoms = [group.atom for group in analysis.groups]
        return LatencyModel(tuple(Term("", 1.0, (atom,)) for atom in atoms), 8.0, 0.0, "a machine")

    monkeypatch.setattr(prediction, "latency_model", a_millisecond_each)
    return calls


def pruned(original: Model, kept: int, **stated: Any) -> Model:
    analysis = analyse(original)
    plan = Plan.of(analysis.groups, {analysis.groups[0].atom.id: np.arange(8) < kept})
    return stamped(cut.shrink(analysis, plan), analysis, plan, **stated)


def test_the_stamp_says_how_many_stayed(asked: Asked) -> None:
    """Models cut from one original share its table; threads, provider and seed are those of the measurement."""
    original = build(TEXT)
    models = [original, pruned(original, 5), pruned(original, 2)]
    assert predictions(models, FEED, {}, threads=2, seed=3) == [8, 5, 2]
    (only,) = asked
    assert (only["threads"], only["provider"], only["seed"]) == (2, "CPUExecutionProvider", 3)


def test_of_what_was_made_otherwise_nothing_is_said(asked: Asked) -> None:
    """No stamp, the stamp of another original, a branch that went: None, and the table is still that of the first."""
    original, other = build(TEXT), build(TEXT.replace("Relu", "Sigmoid"))
    models = [original, other, pruned(other, 5), pruned(original, 5, dropped=("Add_1",)), original]
    assert predictions(models, FEED, {}) == [8, None, None, None, None]
    assert len(asked) == 1


def test_sizes_that_were_asked_for_come_before_those_of_the_stamp(asked: Asked) -> None:
    original = build("x[N,T,3] -> y; a = MatMul(x, A[3,8]); r = Relu(a); y = MatMul(r, B[8,2])")
    analysis = analyse(original, {"T": 7})
    plan = Plan.of(analysis.groups, {analysis.groups[0].atom.id: np.arange(8) < 3})
    cut_at_seven = stamped(cut.shrink(analysis, plan), analysis, plan)
    feed = {"x": np.ones((1, 5, 3), np.float32)}
    assert predictions([original, cut_at_seven], feed, {"T": 5}) == [8, 3]
    assert predictions([original, cut_at_seven], feed, {}) == [8, 3]
    assert [call["sizes"]["T"] for call in asked] == [5, 7]


def test_bench_shows_predicted_beside_measured(asked: Asked, onnxprune: Commands) -> None:
    """In the table and in the JSON; without the option there is neither."""
    original = build(TEXT)
    original.save("a.onnx")
    pruned(original, 5).save("b.onnx")
    build("x[N,3] -> y; y = Relu(x)").save("c.onnx")
    command = ("bench", "a.onnx", "b.onnx", "c.onnx", "--rounds", 1)
    told = onnxprune(*command, "--predict").out
    assert "predicted" in told
    assert "5.000 ms" in told
    rows = json.loads(onnxprune(*command, "--predict", "--json", "-").out)["rows"]
    assert [row["predicted_ms"] for row in rows] == [8, 5, None]
    assert "predicted" not in onnxprune(*command).out
    rows = json.loads(onnxprune(*command, "--json", "-").out)["rows"]
    assert [row["predicted_ms"] for row in rows] == [None] * 3


def test_a_pruned_model_is_predicted_for_real(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """From pruning to the prediction, with nothing in between made up."""
    from onnxprune.latency import model

    for name, value in {"PROFILED": 3, "WHOLE": 4, "HELD_OUT": 1, "PROFILE_MS": 0.01, "SESSION_MS": 0.01}.items():
        monkeypatch.setattr(model, name, value)
    monkeypatch.setenv("ONNXPRUNE_CACHE", str(tmp_path))
    original = build(TEXT)
    smaller = onnxprune.prune(original, sparsity=0.5, rounds=0).model
    rows = onnxprune.bench([original, smaller], rounds=1, predict=True, memory=False).rows
    assert all(row.predicted_ms is not None and row.predicted_ms > 0 for row in rows)
