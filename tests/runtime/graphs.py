"""Small models for the tests of the runtime, as serialized bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
value = helper.make_tensor_value_info


def serialized(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    weights: Sequence[TensorProto] = (),
    opset: int = 17,
) -> bytes:
    graph = helper.make_graph(nodes, "test", inputs, outputs, list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())


def weight(name: str, *shape: int, seed: int = 0) -> TensorProto:
    values = np.random.default_rng(seed).standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return numpy_helper.from_array(values.astype(np.float32), name)


def unary(op: str, dtype: int = FLOAT, result: int = FLOAT, shape: Sequence[int | str] = (4,)) -> bytes:
    """y = op(x)."""
    node = helper.make_node(op, ["x"], ["y"])
    return serialized([node], [value("x", dtype, shape)], [value("y", result, None)])


def linear(width: int = 4) -> bytes:
    """y = x W, x of shape (N, 3)."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="linear")
    return serialized([node], [value("x", FLOAT, ["N", 3])], [value("y", FLOAT, ["N", width])], [weight("w", 3, width)])


def network(width: int = 32) -> bytes:
    """conv1, relu1, conv2, add, relu2, gap, flat, mm, bias: what fusion does to names is seen on it."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "conv2", pads=[1] * 4),
        helper.make_node("Add", ["c2", "r1"], ["a"], "add"),
        helper.make_node("Relu", ["a"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"], "gap"),
        helper.make_node("Flatten", ["g"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "w3"], ["m"], "mm"),
        helper.make_node("Add", ["m", "b3"], ["y"], "bias"),
    ]
    weights = [
        weight("w1", width, 3, 3, 3),
        weight("b1", width),
        weight("w2", width, width, 3, 3),
        weight("w3", width, 10),
        weight("b3", 10),
    ]
    return serialized(nodes, [value("x", FLOAT, ["N", 3, 16, 16])], [value("y", FLOAT, ["N", 10])], weights)


def endless() -> bytes:
    """A loop of 2^62 rounds: it ends only when it is killed."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Relu", ["state"], ["next"])],
        "body",
        [value("round", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("state", FLOAT, [4])],
        [value("go_on", TensorProto.BOOL, []), value("next", FLOAT, [4])],
    )
    node = helper.make_node("Loop", ["rounds", "", "x"], ["y"], body=body)
    rounds = numpy_helper.from_array(np.array(2**62), "rounds")
    return serialized([node], [value("x", FLOAT, [4])], [value("y", FLOAT, [4])], [rounds])
