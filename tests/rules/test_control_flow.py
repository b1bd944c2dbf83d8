"""If, Loop and Scan: bodies are followed, what they capture and what they hold."""

from __future__ import annotations

from onnx import ModelProto

from onnxprune import cut
from onnxprune.dependency import analyse
from onnxprune.model import Model
from onnxprune.model.nesting import bodies, graphs
from onnxprune.plan import Plan
from onnxprune.testing import build, random_keep, theorem
from tests.rules.tables import Cuts, Refuses, each, prove, refuse

THEN = "then_branch = a () => (float[N,8] p)"
ELSE = "else_branch = b () => (float[N,8] q)"
LOOP = "body = b (int64 i, bool k, float[N,8] s) =>"

CUTS = [
    Cuts("branches that read what is outside", "x[N,6], c[1]:bool -> y; h = MatMul(x, W[6,8]);"
         f"g = If<{THEN} {{ p = Neg(h) }}, {ELSE} {{ q = Relu(h) }}>(c); y = MatMul(g, V[8,4])", {"W": 8}),
    Cuts("a weight that a branch reads", "x[N,6], c[1]:bool -> y; h = MatMul(x, W[6,8]); b = Identity(B[8]);"
         f"g = If<{THEN} {{ p = Mul(h, b) }}, {ELSE} {{ q = Relu(h) }}>(c); y = MatMul(g, V[8,4])", {"W": 8}),
    Cuts("a branch that gives back what is outside", "x[N,6], c[1]:bool -> y; h = MatMul(x, W[6,8]);"
         f"g = If<{THEN} {{ p = Identity(h) }}, {ELSE} {{ q = Relu(h) }}>(c); y = MatMul(g, V[8,4])", {"W": 8}),
    Cuts("a contraction in a branch", "x[N,6], c[1]:bool -> y; h = MatMul(x, W[6,8]); u = Identity(U[8,5]);"
         "v = Identity(V[5,8]); z = Identity(Z[8,8]);"
         f"g = If<{THEN} {{ r = MatMul(h, u) p = MatMul(r, v) }}, {ELSE} {{ q = MatMul(h, z) }}>(c);"
         "y = MatMul(g, T[8,4])", {"W": 8, "U": 5, "V": 8}),
    Cuts("a number that a branch holds", "x[N,6], c[1]:bool -> y; h = MatMul(x, W[6,8]);"
         f"g = If<{THEN} {{ t = Constant<value=int64[3] {{0,2,4}}>() r = Reshape(h, t) e = Neg(r)"
         f" f = Constant<value=int64[2] {{0,8}}>() p = Reshape(e, f) }}, {ELSE} {{ q = Relu(h) }}>(c);"
         "y = MatMul(g, V[8,4])", {"W": 2, "W#2": 4}),
    Cuts("an attribute of a node in a branch", "x[N,3,6,6], c[1]:bool -> y; h = Conv(x, W[8,3,1,1]);"
         "d = Identity(D[8,1,1,1]);"
         "g = If<then_branch = a () => (float[N,8,6,6] p) { p = Conv<group=8>(h, d) },"
         "else_branch = b () => (float[N,8,6,6] q) { q = Relu(h) }>(c); y = Conv(g, V[4,8,1,1])", {"W": 8}),
    Cuts("a branch in a branch", "x[N,6], c[1]:bool, d[1]:bool -> y; h = MatMul(x, W[6,8]);"
         f"g = If<{THEN} {{ p = If<then_branch = e () => (float[N,8] r) {{ r = Neg(h) }},"
         f"else_branch = f () => (float[N,8] s) {{ s = Tanh(h) }}>(d) }}, {ELSE} {{ q = Relu(h) }}>(c);"
         "y = MatMul(g, V[8,4])", {"W": 8}),
    Cuts("two results", "x[N,6], c[1]:bool -> y; h = MatMul(x, W[6,8]); k = MatMul(x, U[6,8]);"
         "g, l = If<then_branch = a () => (float[N,8] p, float[N,8] o) { p = Neg(h) o = Neg(k) },"
         "else_branch = b () => (float[N,8] q, float[N,8] r) { q = Relu(h) r = Relu(k) }>(c);"
         "m = MatMul(g, V[8,4]); n = MatMul(l, T[8,4]); y = Add(m, n)", {"W": 8, "U": 8}),
    Cuts("a condition that is known and a branch that never fits", "x[N,6] -> y; h = MatMul(x, W[6,8]);"
         "r = Shape(h); k = Shape(r); c = Equal(k, {2});"
         f"g = If<{THEN} {{ p = Neg(h) }}, else_branch = b () => (float[N,1,8] q)"
         " { t = Constant<value=int64[1] {1}>() q = Unsqueeze(h, t) }>(c); y = MatMul(g, V[8,4])", {"W": 8}),
    Cuts("a Loop that carries a value", "x[N,6] -> y; h = MatMul(x, W[6,8]);"
         f"g = Loop<{LOOP} (bool l, float[N,8] t) {{ l = Identity(k) t = Relu(s) }}>({{3}}, _, h);"
         "y = MatMul(g, V[8,4])", {"W": 8}),
    Cuts("a Loop with a layer of its own", "x[N,6] -> y; h = MatMul(x, W[6,8]); u = Identity(U[8,5]);"
         f"v = Identity(V[5,8]);"
         f"g = Loop<{LOOP} (bool l, float[N,8] t) {{ l = Identity(k) a = MatMul(s, u) r = Relu(a) m = MatMul(r, v)"
         " t = Add(m, s) }>({3}, _, h); y = MatMul(g, T[8,4])", {"W": 8, "U": 5}),
    Cuts("a Loop that collects", "x[N,6] -> y; h = MatMul(x, W[6,8]); z = Mul(h, 0.5);"
         f"e, g = Loop<{LOOP} (bool l, float[N,8] t, float[N,8] o) {{ l = Identity(k) t = Add(s, h) o = Neg(t) }}>"
         "({3}, _, z); y = MatMul(g, V[8,4])", {"W": 8}),
    Cuts("a Loop that the sizes bound", "x[5,N,6] -> y; h = MatMul(x, W[6,8]); d = Shape<start=0,end=1>(x);"
         "n = Squeeze(d, {0}); z = ReduceMax<axes=[0],keepdims=0>(h);"
         f"e, g = Loop<{LOOP} (bool l, float[N,8] t, float[N,8] o) {{ l = Identity(k) f = Gather<axis=0>(h, i)"
         " t = Add(s, f) o = Identity(t) }>(n, _, z); y = MatMul(g, V[8,4])", {"W": 8}),
    Cuts("a Scan along the first axis", "x[5,3,6], z[3,6] -> y; h = MatMul(x, W[6,8]); w = MatMul(z, Z[6,8]);"
         "f, g = Scan<num_scan_inputs=1, body = b (float[3,8] s, float[3,8] e) => (float[3,8] t, float[3,8] o)"
         " { t = Add(s, e) o = Tanh(t) }>(w, h); y = MatMul(g, V[8,4])", {"W": 8}),
    Cuts("a Scan along another axis", "x[3,5,6], z[3,6] -> y; h = MatMul(x, W[6,8]); w = MatMul(z, Z[6,8]);"
         "f, g = Scan<num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[-2],"
         "body = b (float[3,8] s, float[3,8] e) => (float[3,8] t, float[3,8] o)"
         " { t = Add(s, e) o = Tanh(t) }>(w, h); y = MatMul(g, V[8,4])", {"W": 8}),
]  # fmt: skip

REFUSES = [
    Refuses("a branch that mixes", "x[N,6], c[1]:bool -> y; h = MatMul(x, W[6,8]);"
            f"g = If<{THEN} {{ p = Softmax<axis=-1>(h) }}, {ELSE} {{ q = Relu(h) }}>(c); y = MatMul(g, V[8,4])",
            {"W.1": "Softmax mixes", "V.0": "Softmax mixes"}),
    Refuses("a condition that a batch of one turns", "x[N,6] -> y; h = MatMul(x, W[6,8]); d = Shape<end=1>(h);"
            f"c = Equal(d, {{1}}); g = If<then_branch = a () => (float[8] p) {{ t = Constant<value=int64[1] {{0}}>()"
            f" p = Squeeze(h, t) }}, {ELSE} {{ q = Relu(h) }}>(c); y = MatMul(g, V[8,4])",
            {"W.1": "not known"}),
    Refuses("a size that leaves a branch", "x[N,6], c[1]:bool -> y; h = MatMul(x, W[6,8]);"
            "g = If<then_branch = a () => (int64[1] p) { p = Shape<start=1>(h) },"
            "else_branch = b () => (int64[1] q) { q = Constant<value=int64[1] {3}>() }>(c);"
            "f = Cast<to=1>(g); m = MatMul(h, V[8,4]); y = Mul(m, f)",
            {"W.1": "computed from its size", "V.0": "computed from its size"}),
    Refuses("a value that grows in a Loop", "x[N,6] -> y; h = MatMul(x, W[6,8]); u = Identity(U[8,8]);"
            "g = Loop<body = b (int64 i, bool k, float[N,m] s) => (bool l, float[N,n] t)"
            " { l = Identity(k) t = Concat<axis=1>(s, h) }>({3}, _, h); y = ReduceSum<keepdims=1>(g, {1})",
            {"W.1": "not known"}),
    Refuses("the axis that a Loop makes", "x[N,6] -> y; h = MatMul(x, W[6,8]);"
            f"e, g = Loop<{LOOP} (bool l, float[N,8] t, float[N,8] o) {{ l = Identity(k) t = Relu(s) o = Neg(t) }}>"
            "({3}, _, h); t = Transpose<perm=[1,2,0]>(g); y = MatMul(t, V[3,4])", {"V.0": "runs along it"}),
    Refuses("a Loop that a condition may end", "x[N,6] -> y; h = MatMul(x, W[6,8]);"
            f"e, g = Loop<{LOOP} (bool l, float[N,8] t, float[N,8] o) {{ m = ReduceMax<keepdims=0>(x) n = Neg(m)"
            " l = Less(n, m) t = Relu(s) o = Neg(t) }>({3}, _, h); y = MatMul(g, V[8,4])", {"V.0": "not known"}),
    Refuses("an operator that nobody knows holds a body", "x[N,6], c[1]:bool -> y; h = MatMul(x, W[6,8]);"
            f"g = my.If<{THEN} {{ p = Neg(h) }}, {ELSE} {{ q = Relu(h) }}>(c); m = Reshape(g, {{-1,8}});"
            "y = MatMul(h, V[8,4])", {"W.1": "no rule for my::If"}, runs=False),
]  # fmt: skip


BRANCHES = build(
    f"""x[N,6], c[1]:bool -> y
    h = MatMul(x, W[6,8])
    g = If<{THEN} {{ m = MatMul(h, A) r = Relu(m) p = MatMul(r, B) }}, {ELSE} {{ m = MatMul(h, C) q = Tanh(m) }}>(c)
    y = MatMul(g, V[8,4])
    k = Neg(A[8,5]); l = Neg(B[5,8]); n = Neg(C[8,8])"""
)


def moved(model: Model, names: str = "ABC") -> Model:
    """The model with initializers in the bodies that read them, and both branches calling their first tensor `m`."""
    proto = model.to_proto()
    for graph in list(graphs(proto.graph))[1:]:
        read = {name for node in graph.node for name in node.input}
        graph.initializer.extend(t for t in proto.graph.initializer if t.name in read and t.name in names)
    for values, gone in (
        (proto.graph.initializer, [t for t in proto.graph.initializer if t.name in names]),
        (proto.graph.node, [n for n in proto.graph.node if n.op_type == "Neg"]),
    ):
        for one in gone:
            values.remove(one)
    return Model.from_proto(proto)


def test_weights_of_a_body_are_cut_where_they_are() -> None:
    """Initializers of branches get smaller in their branch, whatever their tensors are called elsewhere."""
    model = moved(BRANCHES)
    proof = theorem(model)
    assert proof.sizes == {"W": 8, "A": 5, "B": 8}
    assert theorem(model, {"*": 1}).kept == {"W": 1, "A": 1, "B": 1}
    shrunk = proof.shrunk.to_proto()
    (holder,) = [node for node in shrunk.graph.node if node.op_type == "If"]
    held = {name: {t.name: list(t.dims) for t in body.initializer} for name, body in bodies(holder)}
    assert held == {"then_branch": {"A": [4, 3], "B": [3, 4]}, "else_branch": {"C": [4, 4]}}
    assert [node.output[0] for _, body in bodies(holder) for node in body.node] == ["m", "r", "p", "m", "q"]
    assert not any(t.name in "ABC" for t in shrunk.graph.initializer)


def test_a_body_that_no_cut_touches_keeps_its_bytes() -> None:
    """Names that two branches share, and everything else in them, come out as they went in."""
    model = moved(BRANCHES)
    analysis = analyse(model)
    (group,) = [g for g in analysis.groups if g.name == "A"]
    shrunk = cut.shrink(analysis, Plan.of(analysis.groups, random_keep([group])))

    def branch(proto: ModelProto) -> bytes:
        node = next(n for n in proto.graph.node if n.op_type == "If")
        return bytes(dict(bodies(node))["else_branch"].SerializeToString(deterministic=True))

    assert branch(shrunk.to_proto()) == branch(moved(BRANCHES).to_proto())
    empty = cut.shrink(analysis, Plan.of((), {}))
    assert empty.to_bytes() == moved(BRANCHES).to_bytes()


@each(CUTS)
def test_cuts(case: Cuts) -> None:
    prove(case)


@each(REFUSES)
def test_refuses(case: Refuses) -> None:
    refuse(case)
