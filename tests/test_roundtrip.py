"""What is not pruned comes out as it went in, byte for byte: all of it by an empty plan, by a cut what it spares."""

from __future__ import annotations

import copy
import gzip
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnxprune import api, cut
from onnxprune.dependency import Analysis, analyse
from onnxprune.dimensions import atoms
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.runtime.session import Session
from onnxprune.testing import build, random_keep

MODELS = sorted(path.name for path in (Path(__file__).parent.parent / "models").glob("*.onnx"))
LARGE = 60_000  # bytes of a packed zoo graph above which one of ten is taken


def normalised(model: ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


def filled(data: bytes) -> ModelProto:
    """A zoo graph whose left-out weights lie in a file of zeros: their values do not matter here."""
    proto = ModelProto()
    proto.ParseFromString(data)
    tensors = list(proto.graph.initializer)
    tensors += [a.t for node in proto.graph.node for a in node.attribute if a.HasField("t")]
    for tensor in tensors:
        if tensor.data_location == TensorProto.EXTERNAL:
            dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            del tensor.external_data[:]
            length = int(np.prod(tensor.dims)) * np.dtype(dtype).itemsize
            for key, value in (("location", "zeros"), ("offset", "0"), ("length", str(length))):
                tensor.external_data.add(key=key, value=value)
    return proto


def unchanged(proto: ModelProto, folder: Path | None = None) -> None:
    """An analysis and an empty plan leave every byte: masked, shrunk and written without an edit."""
    before = normalised(proto)
    model = Model.from_proto(copy.deepcopy(proto), folder)
    analysis = analyse(model)
    plan = Plan.of((), {})
    for made in (model, cut.shrink(analysis, plan), cut.mask(analysis, plan)):
        assert normalised(made.to_proto(inline=False)) == before


@pytest.mark.parametrize("name", MODELS)
def test_an_empty_plan_changes_nothing_in_a_real_model(name: str, models: Path) -> None:
    unchanged(Model.load(models / name).to_proto())


@pytest.mark.parametrize("part", range(8))
def test_an_empty_plan_changes_nothing_in_the_zoo(part: int, zoo: Path, tmp_path: Path) -> None:
    """All small graphs of the zoo, and every tenth of the large ones, in eight parts."""
    with (tmp_path / "zeros").open("wb") as file:
        file.truncate(2**31)  # a hole: it takes no space
    paths = sorted((zoo / "skel").glob("*.onnx.gz"))
    chosen = [p for p in paths if p.stat().st_size <= LARGE] + [p for p in paths if p.stat().st_size > LARGE][::10]
    for path in chosen[part::8]:
        try:
            unchanged(filled(gzip.decompress(path.read_bytes())), tmp_path)
        except AssertionError as error:
            raise AssertionError(path.name) from error


def decorated() -> ModelProto:
    """Two branches, one of which will be cut, with everything that a model may carry besides."""
    model = build(
        "x[N,3,6,6] -> y, z; h = Conv<pads=[1,1,1,1]>(x, W[8,3,3,3], B[8]); r = Relu(h); y = Conv(r, V[4,8,1,1]);"
        "k = Conv<pads=[1,1,1,1]>(x, U[6,3,3,3]); s = Sigmoid(k); z = Conv(s, T[4,6,1,1]); d = Identity(z)"
    )
    proto = model.to_proto()
    proto.producer_name, proto.producer_version, proto.domain = "tool", "1.2", "net.example"
    proto.model_version, proto.doc_string = 7, "the model"
    proto.metadata_props.add(key="author", value="somebody")
    proto.opset_import.append(helper.make_opsetid("net.example", 3))
    graph = proto.graph
    graph.doc_string = "the graph"
    graph.input[0].doc_string = "pixels"
    function = helper.make_function(
        "net.example",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    proto.functions.append(function)
    for node in graph.node:
        node.name, node.doc_string = f"{node.op_type}.{node.output[0]}", f"makes {node.output[0]}"
    for name, channels in (("h", 8), ("r", 8), ("k", 6), ("s", 6)):
        graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", channels, 6, 6]))
        graph.value_info[-1].doc_string = f"what {name} is"
    for tensor in graph.initializer:
        tensor.doc_string = f"weight {tensor.name}"
    annotation = graph.quantization_annotation.add(tensor_name="k")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="B")
    return proto


def one_cut(proto: ModelProto, name: str, keep: int) -> tuple[Analysis, ModelProto]:
    analysis = analyse(Model.from_proto(copy.deepcopy(proto)))
    group = next(group for group in analysis.groups if group.name == name)
    plan = Plan.of(analysis.groups, random_keep([group], keep={name: keep}))
    return analysis, cut.shrink(analysis, plan).to_proto()


def test_a_cut_changes_the_tensors_of_its_group_alone() -> None:
    """Weights get smaller, value_info states the new size, all else is byte-identical and in its old place."""
    before = decorated()
    _, after = one_cut(before, "W", 5)
    shapes = {t.name: list(t.dims) for t in after.graph.initializer}
    assert shapes["W"] == [5, 3, 3, 3]
    assert shapes["B"] == [5]
    assert shapes["V"] == [4, 5, 1, 1]
    stated = {v.name: v.type.tensor_type.shape.dim for v in after.graph.value_info}
    assert [d.dim_value or d.dim_param for d in stated["h"]] == ["N", 5, 6, 6]
    assert [d.dim_value or d.dim_param for d in stated["r"]] == ["N", 5, 6, 6]
    undone = copy.deepcopy(after)
    for now, then in zip(undone.graph.initializer, before.graph.initializer, strict=True):
        assert (now.name, now.doc_string) == (then.name, then.doc_string)
        if now.name in ("W", "B", "V"):
            now.CopyFrom(then)
    for value in undone.graph.value_info:
        if value.name in ("h", "r"):
            value.type.tensor_type.shape.dim[1].dim_value = 8
    assert normalised(undone) == normalised(before)


def test_the_names_of_dynamic_sizes_stay() -> None:
    """A symbolic batch is the same symbol in inputs, outputs and value_info."""
    _, after = one_cut(decorated(), "U", 1)
    values = (*after.graph.input, *after.graph.value_info)
    assert {v.type.tensor_type.shape.dim[0].dim_param for v in values} == {"N"}


def test_a_weight_in_a_constant_node_stays_there() -> None:
    """A Constant node keeps its name, its kind of value and its place; only its values are fewer."""
    text = (
        "x[N,3] -> y; W = Constant<value=float[3,4] {1,2,3,4,5,6,7,8,9,1,2,3}>(); h = MatMul(x, W);"
        "B = Constant<value_floats=[1.0,2.0,-3.0,1.0]>(); g = Add(h, B); y = MatMul(g, V[4,2])"
    )
    _, after = one_cut(build(text).to_proto(), "W", 3)
    constants: list[NodeProto] = [node for node in after.graph.node if node.op_type == "Constant"]
    assert [node.attribute[0].name for node in constants] == ["value", "value_floats"]
    assert list(constants[0].attribute[0].t.dims) == [3, 3]
    assert len(constants[1].attribute[0].floats) == 3


def test_an_initializer_that_is_a_graph_input_states_its_new_shape() -> None:
    """In IR version 3 a weight's shape is told twice: both are the new one."""
    text = "x[N,3,6,6] -> y; h = Conv(x, W[8,3,3,3]); y = Conv(h, V[4,8,1,1])"
    _, after = one_cut(build(text, opset=8, ir_version=3).to_proto(), "W", 2)
    stated = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in after.graph.input}
    assert stated["W"] == [2, 3, 3, 3]
    assert stated["V"] == [4, 2, 1, 1]
    assert after.ir_version == 3


def test_a_weight_that_a_caller_may_replace_is_cut_and_stays_replaceable() -> None:
    """From IR version 4 on such a weight is a default value. It is cut, its stated shape follows, and the note says
    what that means to who feeds it; what is dead in it is not removed by `shrink`, for another value may be fed."""
    proto = build("x[N,3,6,6] -> y; h = Conv(x, W[8,3,3,3]); y = Conv(h, V[4,8,1,1])", opset=8, ir_version=3).to_proto()
    proto.ir_version = 8
    result = api.prune(proto, sparsity=0.5, rounds=0, round_to="1")
    assert result.model.weights["V"].shape == (4, 4, 1, 1)
    assert result.model.overridable == {"V", "W"}
    assert [note for note in result.report.notes if "feeds one of them" in note]
    feed = {"x": np.ones((2, 3, 6, 6), np.float32), "V": np.zeros((4, 4, 1, 1), np.float32)}
    assert not Session(result.model.to_bytes()).run(feed)["y"].any()
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))
    assert api.shrink(proto, rounds=0).model.weights["V"].shape == (4, 8, 1, 1)


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.float32])
def test_a_weight_keeps_its_type_and_its_values(kind: type[np.generic]) -> None:
    """What stays of a weight are its own numbers, bit by bit."""
    proto = build("x[N,3] -> y; h = MatMul(x, W[3,6]); y = MatMul(h, V[6,2])").to_proto()
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(kind), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    analysis, after = one_cut(proto, "W", 4)
    (group,) = analysis.groups
    kept = np.flatnonzero(next(iter(random_keep([group], keep={"W": 4}).values())))
    assert [atom.id for atom in atoms(analysis.dims("W")[1])] == [group.atom.id]
    then, now = (next(t for t in p.graph.initializer if t.name == "W") for p in (proto, after))
    assert np.array_equal(numpy_helper.to_array(now), numpy_helper.to_array(then)[:, kept])
    assert now.data_type == then.data_type


def test_weights_stored_as_lists_come_out_as_they_went_in() -> None:
    """float_data instead of raw_data: what no cut touches keeps even that."""
    proto = build("x[N,3] -> y; h = MatMul(x, W[3,6]); y = MatMul(h, V[6,2])").to_proto()
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor).ravel().tolist()
        tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.FLOAT, tensor.dims, values))
    unchanged(proto)
