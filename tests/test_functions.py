"""Model-local functions: followed where groups pass, written out where a cut touches them, calls otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import helper, parser

from onnxprune import cut
from onnxprune.dependency import analyse
from onnxprune.model import Model
from onnxprune.model.nesting import bodies
from onnxprune.model.versions import means_the_same
from onnxprune.plan import Plan
from onnxprune.testing import build, cut_sizes, random_keep, reasons, theorem

HEAD = '<domain: "my", opset_import: ["": 17, "my": 1]>'
ACT = f"{HEAD} Act (a) => (b) {{ s = Sigmoid(a) b = Mul(a, s) }}"
LEAKY = f"{HEAD} Leaky <slope> (a) => (b) {{ b = LeakyRelu<alpha: float = @slope>(a) }}"
DENSE = f"{HEAD} Dense (a, w) => (b) {{ h = MatMul(a, w) b = Relu(h) }}"
TWICE = f"{HEAD} Twice (a, w) => (b) {{ h = my.Dense(a, w) b = my.Act(h) }}"
HEADS = (
    f"{HEAD} Heads (a) => (b) {{ t = Constant<value=int64[3] {{0,2,4}}>() r = Reshape(a, t) e = Neg(r)"
    " f = Constant<value=int64[2] {0,8}>() b = Reshape(e, f) }"
)
BIAS = f"{HEAD} Bias (a) => (b) {{ c = Constant<value=float[8] {{1,2,3,4,5,6,7,8}}>() b = Add(a, c) }}"
MAYBE = (
    f"{HEAD} Maybe (a, c) => (b) {{ b = If<then_branch = f () => (float[N,8] p) {{ p = my.Act(a) }},"
    " else_branch = g () => (float[N,8] q) { q = Neg(a) }>(c) }"
)
SOFT = f"{HEAD} Soft (a) => (b) {{ b = Softmax<axis=-1>(a) }}"


def with_functions(text: str, functions: Sequence[str]) -> Model:
    proto = build(text).to_proto()
    if all(opset.domain != "my" for opset in proto.opset_import):
        proto.opset_import.append(helper.make_opsetid("my", 1))
    proto.functions.extend(parser.parse_function(function) for function in functions)
    return Model.from_proto(proto)


def calls(model: Model) -> list[str]:
    return [node.op_type for node in model.frame.graph.node if node.domain == "my"]


@pytest.mark.parametrize(
    ("body", "functions", "sizes", "left"),
    [
        ("h = MatMul(x, W[6,8]); g = my.Act(h)", [ACT], {"W": 8}, ["Act"]),
        ("h = MatMul(x, W[6,8]); g = my.Leaky<slope=0.5>(h)", [LEAKY], {"W": 8}, ["Leaky"]),
        ("g = my.Dense(x, W[6,8])", [DENSE], {"W": 8}, ["Dense"]),
        ("h = my.Dense(x, W[6,8]); k = my.Act(h); g = my.Dense(k, U[8,8])", [ACT, DENSE], {"W": 8, "U": 8},
         ["Dense", "Act", "Dense"]),
        ("g = my.Twice(x, W[6,8])", [ACT, DENSE, TWICE], {"W": 8}, ["Twice"]),
        ("h = MatMul(x, W[6,8]); k = my.Heads(h); g = my.Act(k)", [ACT, HEADS], {"W": 2, "W#2": 4}, ["Act"]),
        ("h = MatMul(x, W[6,8]); g = my.Bias(h)", [BIAS], {"W": 8}, []),
        ("h = MatMul(x, W[6,8]); k = my.Bias(h); m = MatMul(k, U[8,8]); g = my.Bias(m)", [BIAS], {"W": 8, "U": 8}, []),
        ("h = MatMul(x, W[6,8]); g = my.Act(h)", [ACT.replace("17", "13")], {"W": 8}, ["Act"]),
        ("h = MatMul(x, W[6,8]); g = my.Bias(h)", [BIAS.replace("17", "13")], {"W": 8}, []),
    ],
    ids=["pure", "with an attribute", "an operand is the weight", "several", "nested", "a number inside",
         "a weight inside", "one body for two sizes",
         "an older opset", "a weight inside of an older opset"],
)  # fmt: skip
def test_functions_are_followed(body: str, functions: list[str], sizes: dict[str, int], left: list[str]) -> None:
    """What passes through a call is prunable, proven; calls whose body needs no change are still calls."""
    model = with_functions(f"x[N,6] -> y; {body}; y = MatMul(g, V[8,4])", functions)
    proof = theorem(model)
    assert proof.sizes == sizes
    assert calls(proof.shrunk) == left
    assert theorem(model, {"*": 1}).kept == dict.fromkeys(sizes, 1)


def test_a_function_that_is_no_longer_called_goes() -> None:
    """A body that was written out wherever it was called is not kept beside its copies; others are."""
    text = "x[N,6] -> y; h = MatMul(x, W[6,8]); k = my.Bias(h); g = my.Act(k); y = MatMul(g, V[8,4])"
    shrunk = theorem(with_functions(text, [ACT, BIAS, LEAKY])).shrunk
    assert [function.name for function in shrunk.frame.functions] == ["Act", "Leaky"]


def test_a_function_with_a_branch_is_followed() -> None:
    """Control flow in a function, and a call in that."""
    text = "x[N,6], c[1]:bool -> y; h = MatMul(x, W[6,8]); g = my.Maybe(h, c); y = MatMul(g, V[8,4])"
    for body, left in ((MAYBE, []), (MAYBE.replace("N,8", "N,M"), ["Maybe"])):  # one states the shape that is cut
        proof = theorem(with_functions(text, [ACT, body]))
        assert proof.sizes == {"W": 8}
        assert calls(proof.shrunk) == left


def test_calls_in_a_branch_are_followed() -> None:
    """A call in the branch of an If: written out there where its body is cut, kept where it is not."""
    text = (
        "x[N,6], c[1]:bool -> y; h = MatMul(x, W[6,8]);"
        "g = If<then_branch = f () => (float[N,M] p) { q = my.Act(h) p = my.Bias(q) },"
        "else_branch = e () => (float[N,M] r) { r = my.Act(h) }>(c); y = MatMul(g, V[8,4])"
    )
    proof = theorem(with_functions(text, [ACT, BIAS]))
    assert proof.sizes == {"W": 8}
    (held,) = [node for node in proof.shrunk.frame.graph.node if node.op_type == "If"]
    assert [n.op_type for _, body in bodies(held) for n in body.node] == ["Act", "Constant", "Add", "Act"]


def test_a_call_that_no_cut_touches_stays() -> None:
    """Of two calls of one function, only the one whose body a cut changes is written out."""
    text = (
        "x[N,6] -> y, z; h = MatMul(x, W[6,8]); g = my.Bias(h); y = MatMul(g, V[8,4]);"
        "k = MatMul(x, U[6,8]); l = my.Bias(k); z = MatMul(l, T[8,4])"
    )
    model = with_functions(text, [BIAS])
    analysis = analyse(model)
    (group,) = [g for g in analysis.groups if g.name == "U"]
    shrunk = cut.shrink(analysis, Plan.of(analysis.groups, random_keep([group])))
    assert calls(shrunk) == ["Bias"]
    assert [node.output[0] for node in shrunk.frame.graph.node if node.domain == "my"] == ["g"]
    assert shrunk.frame.functions == model.frame.functions
    whole = cut.shrink(analysis, Plan.of((), {}))
    assert whole.to_bytes() == with_functions(text, [BIAS]).to_bytes()


@pytest.mark.parametrize(
    ("body", "functions", "reason"),
    [
        ("g = my.Soft(h)", [SOFT], "Softmax mixes its indices"),
        ("g = my.Soft(h)", [SOFT.replace("17", "11")], "no rule for my::Soft"),
        ("g = my.Act(h)", [f"{HEAD} Act (a) => (b) {{ b = my.Act(a) }}"], "no rule for my::Act"),
    ],
    ids=["a body that mixes", "another opset", "a function that calls itself"],
)
def test_functions_that_are_refused(body: str, functions: list[str], reason: str) -> None:
    """What mixes inside a function is fixed, and so is what cannot be written out."""
    model = with_functions(f"x[N,6] -> y; h = MatMul(x, W[6,8]); {body}; y = MatMul(g, V[8,4])", functions)
    assert cut_sizes(model) == {}
    assert reasons(model)["W.1"] == reason


@pytest.mark.parametrize(
    ("op_type", "one", "other", "same"),
    [("Relu", 13, 14, True), ("Add", 13, 17, True), ("Add", 6, 7, False), ("Softmax", 11, 13, False),
     ("Reshape", 13, 14, False), ("GroupNormalization", 18, 21, False), ("MatMul", 13, 20, True),
     ("Nothing", 1, 2, False)],
)  # fmt: skip
def test_versions_of_an_operator(op_type: str, one: int, other: int, same: bool) -> None:
    """More types are no other meaning; another default, attribute or operand may be."""
    assert means_the_same(op_type, "", one, other) is same


def test_a_default_of_an_attribute_is_used() -> None:
    """A call that leaves an attribute out gets the function's default, one that gives it its own."""
    text = (
        "x[N,6] -> y, z; h = MatMul(x, W[6,8]); g = my.Soft(h); y = MatMul(g, V[8,4]);"
        "k = my.Soft<axis=1>(h); z = MatMul(k, U[8,4])"
    )
    model = with_functions(text, [])
    proto = model.to_proto()
    softmax = helper.make_node("Softmax", ["a"], ["b"])
    softmax.attribute.add(name="axis", ref_attr_name="axis", type=2)
    function = helper.make_function("my", "Soft", ["a"], ["b"], [softmax], [helper.make_opsetid("", 17)])
    function.attribute_proto.append(helper.make_attribute("axis", 0))
    proto.functions.append(function)
    nodes = [node for node in Model.from_proto(proto).nodes if node.op_type == "Softmax"]
    assert [node.attributes["axis"] for node in nodes] == [0, 1]


def test_a_weight_inside_a_function_keeps_its_values() -> None:
    """What stays of a constant in a body are its own numbers."""
    text = "x[N,6] -> y; h = MatMul(x, W[6,8]); g = my.Bias(h); y = MatMul(g, V[8,4])"
    analysis = analyse(with_functions(text, [BIAS]))
    (group,) = analysis.groups
    keep = np.asarray([True, False, True, True, False, False, False, True])
    shrunk = cut.shrink(analysis, Plan.of(analysis.groups, {group.atom.id: keep}))
    (name,) = [name for name, info in shrunk.weights.items() if info.constant_node is not None]
    assert shrunk.array(name).tolist() == [1, 3, 4, 8]
