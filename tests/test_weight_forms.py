"""However a weight is stored or made, it is cut where it lies; what is made in a way that mixes is stored instead."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from onnxprune import cut
from onnxprune.cost import Costs
from onnxprune.dependency import analyse
from onnxprune.model import Model
from onnxprune.model.sparse import dense, sparse
from onnxprune.plan import Plan
from onnxprune.testing import build, cut_sizes, random_keep, reasons, theorem
from onnxprune.weights import parameters
from tests.rules.tables import Cuts, Refuses, each, prove, refuse

WIDE = "x[N,6] -> y; h = MatMul(x, W[6,8])"
FOUR = "value=float[8,4] {1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8}"
STANDARD = (
    "x[N,3,6,6] -> y; m = ReduceMean<axes=[1,2,3]>(W[8,3,3,3]); d = Sub(W, m); q = Mul(d, d);"
    "v = ReduceMean<axes=[1,2,3]>(q); s = Sqrt(v); w = Div(d, s); h = Conv<pads=[1,1,1,1]>(x, w);"
    "n = ReduceMean<axes=[1,2,3]>(V[5,8,3,3]); u = Sub(V, n); g = Conv(h, u); y = Conv(g, T[4,5,1,1])"
)

CUTS = [
    Cuts("behind Transpose", f"{WIDE}; v = Transpose(V[4,8]); y = MatMul(h, v)", {"W": 8}),
    Cuts("behind Identity", f"{WIDE}; v = Identity(V[8,4]); y = MatMul(h, v)", {"W": 8}),
    Cuts("behind Cast", f"{WIDE}; v = Cast<to=1>(V[8,4]:float16); y = MatMul(h, v)", {"W": 8}),
    Cuts("behind DequantizeLinear", f"{WIDE}; v = DequantizeLinear<axis=0>(V[8,4]:int8, S[8]); y = MatMul(h, v)",
         {"W": 8}),
    Cuts("behind Mul by a constant", f"{WIDE}; v = Mul(V[8,4], 0.5); y = MatMul(h, v)", {"W": 8}),
    Cuts("behind Unsqueeze and Reshape", f"{WIDE}; u = Unsqueeze(V[32], {{0}}); v = Reshape(u, {{8,4}});"
         "y = MatMul(h, v)", {"W": 8}),
    Cuts("a Constant node of floats", f"{WIDE}; b = Constant<value_floats=[1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0]>();"
         "g = Add(h, b); y = MatMul(g, V[8,4])", {"W": 8}),
    Cuts("a Constant node of one float", f"{WIDE}; b = Constant<value_float=2.0>(); g = Mul(h, b);"
         "y = MatMul(g, V[8,4])", {"W": 8}),
    Cuts("Constant nodes of integers", f"{WIDE}; t = Constant<value_ints=[0,2,4]>(); r = Reshape(h, t);"
         "a = Constant<value_int=8>(); c = Unsqueeze(a, {0}); f = Concat<axis=0>({0}, c); g = Reshape(r, f);"
         "y = MatMul(g, V[8,4])", {"W": 2, "W#2": 4}),
    Cuts("a Constant node with a tensor", f"{WIDE}; v = Constant<{FOUR}>(); y = MatMul(h, v)", {"W": 8}),
    Cuts("initializers that are inputs, too", f"{WIDE}; y = MatMul(h, V[8,4])", {"W": 8}, 8, 3),
    Cuts("a product of two", f"{WIDE}; v = MatMul(A[8,3], B[3,5]); g = MatMul(h, v); y = MatMul(g, V[5,4])",
         {"W": 8, "A": 3, "B": 5}),
    Cuts("a weight and an update of low rank", f"{WIDE}; p = MatMul(A[8,3], B[3,5]); s = Mul(p, 0.5);"
         "v = Add(U[8,5], s); g = MatMul(h, v); y = MatMul(g, V[5,4])", {"W": 8, "A": 3, "B": 5}),
    Cuts("standardised, and quantized on the way and at its end", "x[N,3,6,6] -> y;"
         "m = ReduceMean<axes=[1,2,3]>(W[8,3,3,3]); d = Sub(W, m); e = QuantizeLinear(d, 0.1, 0:int8);"
         "f = DequantizeLinear(e, 0.1, 0:int8); q = Mul(f, f); v = ReduceMean<axes=[1,2,3]>(q); s = Sqrt(v);"
         "w = Div(d, s); i = QuantizeLinear(w, 0.05, 0:int8); j = DequantizeLinear(i, 0.05, 0:int8);"
         "h = Conv(x, j); y = Conv(h, V[4,8,1,1])", {"DequantizeLinear_9": 8}),
    Cuts("standardised", STANDARD, {"Conv_6": 8, "Conv_9": 5}),
    Cuts("scaled by its norm over the axis that is read", f"{WIDE}; n = ReduceSumSquare<axes=[0],keepdims=1>(U[8,5]);"
         "s = Sqrt(n); d = Div(U, s); v = Mul(G[5], d); g = MatMul(h, v); y = MatMul(g, V[5,4])",
         {"W": 8, "MatMul_5": 5}),
    Cuts("a norm that is written as a sum", f"{WIDE}; q = Mul(U[8,5], U); n = ReduceSum<keepdims=1>(q, {{0}});"
         "s = Sqrt(n); v = Div(U, s); g = MatMul(h, v); y = MatMul(g, V[5,4])", {"W": 8, "MatMul_5": 5}),
    Cuts("standardised by a norm in training mode",
         "x[N,3,6,6] -> y; h = Conv(x, W[8,3,3,3]); r = Reshape(U[6,8,1,1], {1,6,-1});"
         "n, a, b = BatchNormalization<training_mode=1>(r, S[6], B[6], M[6], R[6]); u = Reshape(n, {6,8,1,1});"
         "g = Conv(h, u); y = Conv(g, V[4,6,1,1])", {"W": 8, "Conv_4": 6}),
    Cuts("softmax of a weight", f"{WIDE}; v = Softmax<axis=0>(U[8,5]); g = MatMul(h, v); y = MatMul(g, V[5,4])",
         {"W": 8, "MatMul_2": 5}),
    Cuts("made once, read twice", "x[N,6] -> y; w = Softmax<axis=1>(U[6,8]); h = MatMul(x, w); k = MatMul(x, w);"
         "s = Add(h, k); y = MatMul(s, V[8,4])", {"MatMul_1": 8}),
]  # fmt: skip

REFUSES = [
    Refuses("softmax of what is no constant", "x[N,6], z[1,1] -> y; h = MatMul(x, W[6,8]); u = Mul(U[8,5], z);"
            "v = Softmax<axis=0>(u); y = MatMul(h, v)", {"W.1": "Softmax mixes"}),
    Refuses("made anew at every run", f"{WIDE}; u = Softmax<axis=0>(U[8,5]); r = Bernoulli(u); y = MatMul(h, r)",
            {"W.1": "anew at every run"}, runs=False),
    Refuses("a quantized weight stays one", "x[N,5] -> y; h = MatMul(x, W[5,8]); "
            "u = DequantizeLinear<axis=0,block_size=4>(Q[8,6]:int8, S[2,6]); y = MatMul(h, u)",
            {"W.1": "blocks"}, 21),
    Refuses("a quantized weight that is standardised stays quantized", f"{WIDE};"
            "u = DequantizeLinear(Q[8,6]:int8, 0.1);"
            "m = ReduceMean<axes=[0]>(u); d = Sub(u, m); y = MatMul(h, d)", {"W.1": "ReduceMean"}),
    Refuses("a computed weight that is an output as well", "x[N,6] -> y, v; h = MatMul(x, W[6,8]);"
            "v = Softmax<axis=0>(U[8,5]); y = MatMul(h, v)", {"W.1": "Softmax mixes"}),
]  # fmt: skip


@each(CUTS)
def test_cuts(case: Cuts) -> None:
    prove(case)


@each(REFUSES)
def test_refuses(case: Refuses) -> None:
    refuse(case)


def test_what_is_stored_replaces_what_was_computed() -> None:
    """A cut leaves no node and no weight behind that only served the computation, and costs are exact."""
    model = build(STANDARD)
    proof = theorem(model)
    assert {node.op_type for node in proof.shrunk.nodes} == {"Conv"}
    analysis = analyse(model)
    plan = Plan.of(analysis.groups, random_keep(analysis.groups))
    assert Costs.of(analysis).params(plan.counts) == parameters(proof.shrunk) == parameters(cut.shrink(analysis, plan))


def test_nothing_is_stored_without_a_cut() -> None:
    """A plan that cuts nothing leaves the computation as it was."""
    model = build(STANDARD)
    analysis = analyse(model)
    assert analysis.model.folded
    assert cut.shrink(analysis, Plan.of((), {})).to_bytes() == build(STANDARD).to_bytes()


def test_a_computation_that_carries_its_axes_stays() -> None:
    """Where the factors themselves can be cut, they are: a low-rank product stays one."""
    proof = theorem(f"{WIDE}; v = MatMul(A[8,3], B[3,5]); g = MatMul(h, v); y = MatMul(g, V[5,4])")
    assert [node.op_type for node in proof.shrunk.nodes] == ["MatMul"] * 4


def sparsely(model: Model, name: str, flat: bool, node: bool) -> Model:
    """The model with half of a weight zero and stored sparsely, as an initializer or in a Constant node."""
    proto = model.to_proto()
    (tensor,) = [t for t in proto.graph.initializer if t.name == name]
    values = numpy_helper.to_array(tensor).copy()
    values[np.random.default_rng(0).random(values.shape) < 0.5] = 0
    proto.graph.initializer.remove(tensor)
    like = helper.make_sparse_tensor(
        helper.make_tensor(name, 1, [0], []), helper.make_tensor("", 7, [0] if flat else [0, 2], []), values.shape
    )
    stored = sparse(values, like)
    assert np.array_equal(dense(stored), values)
    if node:
        stored.values.name = ""
        proto.graph.node.insert(0, helper.make_node("Constant", [], [name], sparse_value=stored))
    else:
        proto.graph.sparse_initializer.append(stored)
    return Model.from_proto(proto)


@pytest.mark.parametrize("flat", [True, False], ids=["numbers", "coordinates"])
@pytest.mark.parametrize("node", [True, False], ids=["Constant", "initializer"])
def test_sparse_weights_are_cut_and_stay_sparse(flat: bool, node: bool) -> None:
    """A sparse weight is read as a dense one, and written with the places of what is left of it."""
    model = sparsely(build("x[N,6] -> y; h = MatMul(x, W[6,8]); r = Relu(h); y = MatMul(r, V[8,4])"), "V", flat, node)
    proof = theorem(model)
    assert proof.sizes == {"W": 8}
    proto: ModelProto = proof.shrunk.to_proto()
    (stored,) = proto.graph.sparse_initializer or [
        n.attribute[0].sparse_tensor for n in proto.graph.node if n.op_type == "Constant"
    ]
    assert list(stored.dims) == [4, 4]
    assert len(stored.indices.dims) == (1 if flat else 2)
    assert np.count_nonzero(dense(stored)) == stored.values.dims[0]
    empty = cut.shrink(analyse(model), Plan.of((), {}))
    assert empty.to_bytes() == model.to_bytes()


def test_sequences_are_refused_in_words() -> None:
    """What goes through a sequence or an optional is fixed, and everything around it is not."""
    text = (
        "x[N,6] -> y; h = MatMul(x, W[6,8]); s = SplitToSequence<axis=1>(h, {4,4}); i = Constant<value_int=1>();"
        "g = SequenceAt(s, i); k = MatMul(x, U[6,8]); t = Tanh(k); m = MatMul(t, V[8,4]); y = Add(g, m)"
    )
    assert cut_sizes(text) == {"U": 8}
    assert reasons(text)["W.1"] == "SplitToSequence handles a sequence of tensors, which has no axes"
    theorem(text)
    text = (
        "x[N,6] -> y; h = MatMul(x, W[6,8]); o = Optional(h); g = OptionalGetElement(o); k = MatMul(x, U[6,4]);"
        "m = MatMul(g, V[8,4]); y = Add(k, m)"
    )
    assert reasons(text)["W.1"] == "Optional handles an optional value, which has no axes"
