"""bench: models side by side, in order, and nothing claimed that was not measured."""

from __future__ import annotations

import json
from typing import Any

import pytest

import onnxprune
from onnxprune.errors import PassFailed, UsageError
from onnxprune.testing import build

IMAGE = "x[N,3,H,8] -> y; a = Conv(x, A[4,3,1,1]); y = Conv(a, B[2,4,1,1])"
WORDS = "ids[N,5]:int64 -> y; e = Gather(E[9,4], ids); y = MatMul(e, W[4,2])"


def test_rows_are_in_the_order_of_the_models() -> None:
    result = onnxprune.bench([build(IMAGE), build(WORDS), build(IMAGE)], rounds=3, batch=2, size="H=6")
    assert [row.params for row in result.rows] == [20, 44, 20]
    assert result.rows[0].speedup == 1.0
    assert not any(row.significant for row in result.rows)
    assert "too few" in result.rows[1].why
    assert (result.rounds, result.sessions, result.layers) == (3, 3, ())
    assert all(row.latency_ms > 0 and row.bytes > 0 for row in result.rows)


def test_layers_of_two_models_of_one_name_stay_apart() -> None:
    result = onnxprune.bench([build(IMAGE), build(WORDS)], rounds=1, per_layer=True, memory=False)
    assert len({row.model for row in result.rows}) == 1
    assert [{layer.op_type for layer in times.rows} for times in result.layers] == [{"Conv"}, {"Gather", "MatMul"}]
    assert result.rows[0].peak_memory is None


def test_the_json_is_versioned_and_finite() -> None:
    found = json.loads(onnxprune.bench([build(IMAGE)], rounds=1).to_json())
    assert found["schema_version"] == 1
    assert found["rows"][0]["latency_ms"] > 0


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"sessions": 0}, {"threads": 0}, {"batch": 0}])
def test_numbers_that_are_too_small(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} is 0: expected at least 1"):
        onnxprune.bench([build(IMAGE)], **wrong)


def test_a_dimension_that_no_model_has() -> None:
    with pytest.raises(UsageError, match="no model has a symbolic dimension 'W'; there are: H, N"):
        onnxprune.bench([build(IMAGE)], size=["W=3"])
    with pytest.raises(UsageError, match="no model to measure"):
        onnxprune.bench([])


def test_the_model_that_does_not_run_is_named() -> None:
    bad = build("x[N,6] -> y; r = Reshape(x, {7,9}); y = Relu(r)")
    bad.source = "bad.onnx"
    with pytest.raises(
        PassFailed, match=r"'bad.onnx' does not run in ONNX Runtime \(CPUExecutionProvider\) on x \[1, 6\]"
    ):
        onnxprune.bench([build(IMAGE), bad], rounds=1)
