"""Reading and writing models: bad files are told clearly, external data keeps its layout, output is all or nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, external_data_helper, helper, numpy_helper

from onnxprune import cut
from onnxprune.dependency import analyse
from onnxprune.errors import ModelReadError, OutputNotWritten
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.runtime.session import Session
from onnxprune.testing import build, random_keep

TEXT = "x[N,40] -> y; h = MatMul(x, W[40,50]); r = Relu(h); y = MatMul(r, V[50,4])"


def proto() -> ModelProto:
    return build(TEXT).to_proto()


def changed(change: Callable[[ModelProto], object]) -> bytes:
    model = proto()
    change(model)
    return bytes(model.SerializeToString())


def shape_of(proto: ModelProto, name: str) -> list[int]:
    return next(list(t.dims) for t in proto.graph.initializer if t.name == name)


BAD = [
    ("an empty file", b"", "is not an ONNX model"),
    ("a text", b"hello, this is not a model at all", "is not an ONNX model"),
    ("a picture", b"\x89PNG\r\n\x1a\n" + bytes(100), "is not an ONNX model"),
    ("a file that is cut short", proto().SerializeToString()[:-300], "cut short"),
    ("a graph without nodes", changed(lambda m: m.graph.ClearField("node")), "holds no nodes"),
    ("no opset", changed(lambda m: m.ClearField("opset_import")), "declares no opset"),
    ("an opset from the future", changed(lambda m: setattr(m.opset_import[0], "version", 999)), "uses opset 999"),
    ("an opset of zero", changed(lambda m: setattr(m.opset_import[0], "version", 0)), "uses opset 0"),
    ("an input that nothing provides", changed(lambda m: m.graph.node[0].input.append("ghost")), "reads 'ghost'"),
    ("an output that nothing provides", changed(lambda m: setattr(m.graph.output[0], "name", "o")), "its output 'o'"),
    ("two weights of one name", changed(lambda m: m.graph.initializer.append(m.graph.initializer[0])), "two initial"),
]


@pytest.mark.parametrize(("fact", "data", "message"), BAD, ids=[row[0].replace(" ", "-") for row in BAD])
def test_what_is_no_model_is_told(fact: str, data: bytes, message: str, tmp_path: Path) -> None:
    """A ModelReadError that names the file and says what is wrong with it."""
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelReadError, match=message) as raised:
        Model.load(path)
    assert "bad.onnx" in str(raised.value)
    assert raised.value.exit_code == 3


def test_a_file_that_does_not_exist_is_told(tmp_path: Path) -> None:
    """With its name, as a ModelReadError."""
    with pytest.raises(ModelReadError, match=r"cannot read the model .*none\.onnx"):
        Model.load(tmp_path / "none.onnx")


# -- external data --------------------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A model with W stored outside and V inside."""
    model = proto()
    for tensor in model.graph.initializer:
        if tensor.name == "W":
            raw = tensor.raw_data
            (tmp_path / "weights.bin").write_bytes(bytes(64) + raw)
            external_data_helper.set_external_data(tensor, "weights.bin", offset=64, length=len(raw))
            tensor.ClearField("raw_data")
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def pruned(model: Model, keep: int = 20) -> Model:
    analysis = analyse(model)
    return cut.shrink(analysis, Plan.of(analysis.groups, random_keep(analysis.groups, keep={"*": keep})))


def test_values_stored_outside_are_those_stored_inside(outside: Path) -> None:
    """Read as a map of the file, from the offset that is stated."""
    assert np.array_equal(Model.load(outside).array("W"), build(TEXT).array("W"))


def test_tensors_outside_stay_outside(outside: Path, tmp_path: Path) -> None:
    """An untouched tensor goes to the new data file, and the runtime gives the same outputs."""
    target = tmp_path / "out" / "copy.onnx"
    Model.load(outside).save(target)
    assert sorted(path.name for path in target.parent.iterdir()) == ["copy.onnx", "copy.onnx.data"]
    written = ModelProto.FromString(target.read_bytes())
    assert [t.name for t in written.graph.initializer if t.data_location == TensorProto.EXTERNAL] == ["W"]
    feed = {"x": np.ones((2, 40), np.float32)}
    assert np.array_equal(Session(target).run(feed)["y"], Session(outside).run(feed)["y"])


def test_a_pruned_tensor_lies_where_it_lay(outside: Path, tmp_path: Path) -> None:
    """What lay outside is written outside, smaller; what lay inside stays inside."""
    target = tmp_path / "out" / "small.onnx"
    smaller = pruned(Model.load(outside))
    smaller.save(target)
    written = ModelProto.FromString(target.read_bytes())
    assert shape_of(written, "W") == [40, 20]
    assert [t.name for t in written.graph.initializer if t.data_location == TensorProto.EXTERNAL] == ["W"]
    assert (target.parent / "small.onnx.data").stat().st_size == 40 * 20 * 4
    feed = {"x": np.ones((2, 40), np.float32)}
    assert np.array_equal(Session(target).run(feed)["y"], Session(smaller.to_bytes()).run(feed)["y"])


def test_the_input_is_not_touched(outside: Path, tmp_path: Path) -> None:
    """Neither the model file nor its data."""
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    pruned(Model.load(outside)).save(tmp_path / "out" / "small.onnx")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_tensor_of_a_node_may_lie_outside(tmp_path: Path) -> None:
    """The value of a Constant node is read, moved and written like a weight."""
    model = proto()
    weight = next(t for t in model.graph.initializer if t.name == "W")
    (tmp_path / "w.bin").write_bytes(weight.raw_data)
    node = helper.make_node("Constant", [], ["W"], value=weight)
    held = node.attribute[0].t
    external_data_helper.set_external_data(held, "w.bin", offset=0, length=len(weight.raw_data))
    held.ClearField("raw_data")
    kept = [t for t in model.graph.initializer if t.name != "W"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    nodes = [node, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    loaded = Model.from_bytes(model.SerializeToString(), folder=tmp_path)
    feed = {"x": np.ones((2, 40), np.float32)}
    expected = Session(proto().SerializeToString()).run(feed)["y"]
    assert np.allclose(Session(loaded.to_bytes()).run(feed)["y"], expected)
    loaded.save(tmp_path / "out" / "m.onnx")
    again = Model.load(tmp_path / "out" / "m.onnx")
    assert np.array_equal(again.array("W"), numpy_helper.to_array(weight))
    assert (tmp_path / "out" / "m.onnx.data").stat().st_size == len(weight.raw_data)


def entry(key: str, value: str) -> Callable[[Path], None]:
    """A change of one entry of the external data of W."""

    def change(path: Path) -> None:
        model = ModelProto.FromString(path.read_bytes())
        for tensor in model.graph.initializer:
            for pair in tensor.external_data:
                if pair.key == key:
                    pair.value = value
        path.write_bytes(model.SerializeToString())

    return change


def linked(path: Path) -> None:
    data = path.parent / "weights.bin"
    data.rename(path.parent.parent / "elsewhere.bin")
    data.symlink_to(path.parent.parent / "elsewhere.bin")


UNTRUSTED = [
    ("the file is missing", lambda path: (path.parent / "weights.bin").unlink(), "cannot be read"),
    ("the file is cut short", lambda path: os.truncate(path.parent / "weights.bin", 100), "cut short"),
    ("a path that climbs", entry("location", "../weights.bin"), "outside the model's folder"),
    ("a path that climbs and returns", entry("location", "a/../../x.bin"), "outside the model's folder"),
    ("an absolute path", entry("location", "/etc/passwd"), "outside the model's folder"),
    ("no path", entry("location", ""), "outside the model's folder"),
    ("the folder itself", entry("location", "."), "outside the model's folder"),
    ("a link that leaves", linked, "outside the model's folder"),
    ("an offset below zero", entry("offset", "-64"), "expected two whole numbers"),
    ("an offset that is no number", entry("offset", "here"), "expected two whole numbers"),
    ("a length that is no number", entry("length", "all"), "expected two whole numbers"),
    ("an offset beyond the end", entry("offset", "999999999999"), "cut short"),
    ("a length that the shape contradicts", entry("length", "12"), "expected 8,000"),
]


@pytest.mark.parametrize(("fact", "change", "message"), UNTRUSTED, ids=[row[0].replace(" ", "-") for row in UNTRUSTED])
def test_external_data_is_not_trusted(fact: str, change: Callable[[Path], object], message: str, outside: Path) -> None:
    """Refused when the model is read, with the tensor's name, before anything is opened that it points to."""
    change(outside)
    with pytest.raises(ModelReadError, match=message) as raised:
        Model.load(outside)
    assert "'W'" in str(raised.value)


def test_external_data_needs_a_folder(outside: Path) -> None:
    """Bytes alone cannot say where their data lies."""
    with pytest.raises(ModelReadError, match="pass the path of the model"):
        Model.from_bytes(outside.read_bytes())


# -- writing --------------------------------------------------------------------------------------------------------


def test_a_saved_model_is_the_model(tmp_path: Path) -> None:
    """Byte for byte, in one file."""
    build(TEXT).save(tmp_path / "m.onnx")
    assert Model.load(tmp_path / "m.onnx").to_bytes() == build(TEXT).to_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_model_may_be_written_over_its_input(outside: Path) -> None:
    """The old data is mapped until the new one stands in its place."""
    model = Model.load(outside)
    pruned(model, 7).save(outside)
    assert Model.load(outside).array("W").shape == (40, 7)


def test_a_failure_in_the_middle_leaves_nothing(outside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when the second of two files is put in its place: neither is there."""
    target = tmp_path / "out"
    target.mkdir()
    replace, calls = os.replace, []

    def fail(source: Path, to: Path) -> None:
        calls.append(to)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        replace(source, to)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputNotWritten, match="No space left on device"):
        Model.load(outside).save(target / "m.onnx")
    assert list(target.iterdir()) == []


def test_an_interrupt_leaves_nothing(outside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while tensors are written: no half file, and what stood at the target still stands."""
    target = tmp_path / "out" / "m.onnx"
    target.parent.mkdir()
    target.write_bytes(b"what was there")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxprune.model.external.numpy_helper.from_array", stop)
    with pytest.raises(KeyboardInterrupt):
        Model.load(outside).save(target)
    assert [(path.name, path.read_bytes()) for path in target.parent.iterdir()] == [("m.onnx", b"what was there")]


def test_a_folder_at_the_target_is_told(tmp_path: Path) -> None:
    """And no temporary file is left beside it."""
    (tmp_path / "m.onnx").mkdir()
    with pytest.raises(OutputNotWritten, match="choose another output path"):
        build(TEXT).save(tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_file_in_the_way_of_a_folder_is_told(tmp_path: Path) -> None:
    """`file/m.onnx` cannot be made."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputNotWritten, match="cannot write"):
        build(TEXT).save(tmp_path / "file" / "m.onnx")
