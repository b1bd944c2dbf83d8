from __future__ import annotations

import sys

import numpy as np
import pytest
from onnx import helper

from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.memory import Memory, peak_memory
from tests.runtime.graphs import FLOAT, linear, serialized, value, weight


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is not measured there")
def test_weights_and_activations_are_counted() -> None:
    """A model with 32 MiB of weights and 32 MiB of activations takes at least those, and not ten times as much."""
    node = helper.make_node("MatMul", ["x", "w"], ["m"])
    relu = helper.make_node("Tanh", ["m"], ["y"])
    model = serialized(
        [node, relu], [value("x", FLOAT, ["N", 1024])], [value("y", FLOAT, ["N", 8192])], [weight("w", 1024, 8192)]
    )
    found = peak_memory(model, {"x": np.ones((1024, 1024), np.float32)}, runs=1)
    assert found.peak is not None
    assert found.load is not None
    assert found.run is not None
    assert 32 << 20 < found.load < 320 << 20
    assert 64 << 20 <= found.run < 640 << 20
    if found.arena is not None:
        assert 32 << 20 <= found.arena < 640 << 20


def test_the_peak_is_the_larger_half() -> None:
    """A peak that was not measured is not 0 but None."""
    assert Memory(1, 2, None).peak == Memory(2, 1, None).peak == 2
    assert Memory(1, None, None).peak is None


def test_a_model_that_does_not_run_is_reported() -> None:
    """The failure in the child is the failure here."""
    with pytest.raises(RunFailed, match="dimensions"):
        peak_memory(linear(), {"x": np.ones((1, 5), np.float32)})
