from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.feeds import InputSpec
from onnxprune.runtime.session import Array, Options, Session
from tests.runtime.graphs import FLOAT, linear, network, serialized, unary, value


def test_outputs_come_by_name_from_bytes_and_from_a_file(tmp_path: Path) -> None:
    """Bytes and file of one model give the same outputs, under their names."""
    path = tmp_path / "model.onnx"
    path.write_bytes(linear())
    x = np.ones((2, 3), np.float32)
    from_bytes, from_file = Session(linear()).run({"x": x}), Session(path).run({"x": x})
    assert list(from_bytes) == ["y"]
    np.testing.assert_array_equal(from_bytes["y"], from_file["y"])


def test_inputs_are_described_with_symbols() -> None:
    """A symbolic dimension keeps its name."""
    assert Session(linear()).inputs == (InputSpec("x", np.dtype(np.float32), ("N", 3)),)


@pytest.mark.parametrize("optimise", ["all", "off"])
def test_both_optimisation_levels_run(optimise: str) -> None:
    """The levels agree on what the model computes."""
    feeds = {"x": np.ones((1, 3, 16, 16), np.float32)}
    options = Options(optimise="off") if optimise == "off" else Options(threads=2)
    np.testing.assert_allclose(Session(network(), options).run(feeds)["y"], Session(network()).run(feeds)["y"], 1e-4)


@pytest.mark.parametrize(
    ("dtype", "onnx_type"),
    [
        (np.float16, TensorProto.FLOAT16),
        (np.float64, TensorProto.DOUBLE),
        (np.int8, TensorProto.INT8),
        (np.bool_, TensorProto.BOOL),
        (ml_dtypes.bfloat16, TensorProto.BFLOAT16),
        (ml_dtypes.float8_e4m3fn, TensorProto.FLOAT8E4M3FN),
    ],
)
def test_element_types_go_in_and_come_out(dtype: type, onnx_type: int) -> None:
    """What numpy has and what only ml_dtypes has are both passed through a cast and back unchanged."""
    there = helper.make_node("Cast", ["x"], ["f"], to=FLOAT)
    back = helper.make_node("Cast", ["f"], ["y"], to=onnx_type)
    model = serialized([there, back], [value("x", onnx_type, [2, 2])], [value("y", onnx_type, [2, 2])], opset=19)
    session = Session(model)
    x: Array = np.array([[0, 1], [1, 0]]).astype(dtype)
    y = session.run({"x": x})["y"]
    assert session.inputs[0].dtype == y.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(y, x)


def test_strings_sequences_and_empty_optionals_come_out() -> None:
    """A sequence is a list, a string tensor an object array, an empty optional None."""
    text = Session(unary("Identity", TensorProto.STRING, TensorProto.STRING)).run({"x": np.array(list("abcd"))})
    assert text["y"].tolist() == ["a", "b", "c", "d"]
    x = np.ones(4, np.float32)
    node = helper.make_node("SequenceConstruct", ["x", "x"], ["y"])
    out = helper.make_tensor_sequence_value_info("y", FLOAT, None)
    assert len(Session(serialized([node], [value("x", FLOAT, [4])], [out])).run({"x": x})["y"]) == 2
    kind = helper.make_tensor_type_proto(FLOAT, [4])
    nothing = helper.make_node("Optional", [], ["y"], type=kind)
    out = helper.make_value_info("y", helper.make_optional_type_proto(kind))
    assert Session(serialized([nothing], [value("x", FLOAT, [4])], [out])).run({"x": x}) == {"y": None}


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        ({}, "x"),
        ({"x": np.ones((2, 5), np.float32)}, "dimensions"),
        ({"x": np.ones((2, 3), np.int32)}, "Unexpected input data type"),
        ({"x": np.ones((2, 3), np.float32), "z": np.ones(1)}, "z"),
    ],
)
def test_wrong_feeds_fail_with_the_runtime_s_words(feeds: dict[str, np.ndarray], said: str) -> None:
    """A missing, unknown, wrongly shaped or typed input is a RunFailed of one line."""
    with pytest.raises(RunFailed, match=said) as caught:
        Session(linear()).run(feeds)
    assert "\n" not in caught.value.reason


def test_a_file_that_is_no_model_fails(tmp_path: Path) -> None:
    """Garbage and absence are a RunFailed, not an exception of the runtime."""
    with pytest.raises(RunFailed):
        Session(b"no model")
    with pytest.raises(RunFailed):
        Session(tmp_path / "absent.onnx")


def test_an_unknown_provider_is_refused() -> None:
    """A provider that is not there does not fall back to the processor unseen."""
    with pytest.raises(RunFailed, match=r"no provider 'MarsExecutionProvider'; it has .*CPUExecutionProvider"):
        Session(linear(), Options(providers=("MarsExecutionProvider",)))


@pytest.mark.parametrize(
    "module", ["session", "machine", "feeds", "isolated", "memory", "comparison", "timing", "layers"]
)
def test_reading_a_module_does_not_import_onnxruntime(module: str) -> None:
    """The runtime is imported when the first session is made, and onnx never."""
    code = f"import onnxprune.runtime.{module}, sys; print({{'onnx', 'onnxruntime'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
