"""Heads, the query heads of a shared key and both head widths go; the scale stays as it was, the keys are fixed."""

from __future__ import annotations

import pytest

from onnxprune.testing import build, cut_sizes, theorem
from tests.rules.tables import Cuts, Refuses, each, prove, refuse


def attention(heads: int = 3, shared: int = 3, width: int = 4, value: int = 4, more: str = "", mask: str = "") -> str:
    """Self-attention over x[N,5,6] in the packed form."""
    return (
        f"x[N,5,6] -> y; q = MatMul(x, Q[6,{heads * width}]); k = MatMul(x, K[6,{shared * width}]);"
        f"v = MatMul(x, V[6,{shared * value}]);"
        f"a = Attention<q_num_heads={heads},kv_num_heads={shared}{more}>(q, k, v{mask});"
        f"y = MatMul(a, O[{heads * value},6])"
    )


def apart(reads: str = "a = Attention(d, e, f)", heads: int = 3, shared: int = 3) -> str:
    """The same with an axis for the heads."""
    return (
        f"x[N,5,6] -> y; q = MatMul(x, Q[6,{heads * 4}]); k = MatMul(x, K[6,{shared * 4}]);"
        f"v = MatMul(x, V[6,{shared * 4}]); a1 = Reshape(q, {{0,0,{heads},4}}); b = Reshape(k, S{{0,0,{shared},4}});"
        "c = Reshape(v, S); d = Transpose<perm=[0,2,1,3]>(a1); e = Transpose<perm=[0,2,1,3]>(b);"
        f"f = Transpose<perm=[0,2,1,3]>(c); {reads};"
        f"t = Transpose<perm=[0,2,1,3]>(a); r = Reshape(t, {{0,0,{heads * 4}}}); y = MatMul(r, O[{heads * 4},6])"
    )


def rotary(attributes: str, tables: str, width: int = 8, positions: str = "") -> str:
    """Two heads of queries and keys that are turned, then their products."""
    turn = f"RotaryEmbedding<num_heads=2{attributes}>"
    return (
        f"x[N,5,6] -> y; q = MatMul(x, Q[6,{2 * width}]); k = MatMul(x, K[6,{2 * width}]); v = MatMul(x, V[6,6]);"
        f"p = Constant<value=int64[1,5] {{0,1,2,3,4}}>(); s = Shape<end=1>(x); o = Concat<axis=0>(s, {{1}});"
        f"i = Tile(p, o); u = {turn}(q, {tables}, i); w = {turn}(k, {tables}, i);"
        "a = Attention<q_num_heads=2,kv_num_heads=2>(u, w, v); y = MatMul(a, O[6,6])"
    )


CUTS = [
    Cuts("heads that are merged", attention(), {"Q": 3, "Q#2": 4, "V": 4}, 23),
    Cuts("values of another width", attention(value=5), {"Q": 3, "Q#2": 4, "V": 5}, 23),
    Cuts("two query heads for each key", attention(4, 2), {"Q": 2, "Q#2": 2, "Q#3": 4, "V": 4}, 23),
    Cuts("one key for all", attention(4, 1), {"Q": 4, "Q#2": 4, "V": 4}, 23),
    Cuts("a scale that is given", attention(more=",scale=0.3"), {"Q": 3, "Q#2": 4, "V": 4}, 23),
    Cuts("causal, with a soft cap", attention(more=",is_causal=1,softcap=2.0"), {"Q": 3, "Q#2": 4, "V": 4}, 23),
    Cuts("a mask for all heads", attention(mask=", M[5,5]"), {"Q": 3, "Q#2": 4, "V": 4}, 23),
    Cuts("a mask for every head", attention(mask=", M[3,5,5]"), {"Q": 3, "Q#2": 4, "V": 4}, 23),
    Cuts("a mask of rank four", attention(mask=", M[1,3,5,5]"), {"Q": 3, "Q#2": 4, "V": 4}, 23),
    Cuts("heads of their own axis", apart(), {"Q": 3, "Q#2": 4, "V": 4}, 23),
    Cuts("heads of their own axis that share keys", apart(heads=4, shared=2),
         {"Q": 2, "Q#2": 2, "Q#3": 4, "V": 4}, 23),
    Cuts("keys and values from before", apart("a, pk, pv = Attention(d, e, f, _, PK[1,3,2,4], PV[1,3,2,4])")
         .replace("N,", "1,"), {"Q": 3, "Q#2": 4, "V": 4}, 23),
    Cuts("queries of one sequence, keys of another", "x[N,5,6], z[N,7,3] -> y; q = MatMul(x, Q[6,8]);"
         "k = MatMul(z, K[3,8]); v = MatMul(z, V[3,6]); a = Attention<q_num_heads=2,kv_num_heads=2>(q, k, v);"
         "y = MatMul(a, O[6,6])", {"Q": 2, "Q#2": 4, "V": 3}, 23),
    Cuts("learnt queries go one by one", "x[1,5,8] -> y; a = Attention<q_num_heads=2,kv_num_heads=2>(L[1,7,8], x, x);"
         "t = Transpose<perm=[0,2,1]>(a); y = MatMul(t, O[7,4])", {"L": 7}, 23),
    Cuts("turned in halves", rotary("", "C[9,4], D[9,4]"), {"Q": 2, "Q#2": 4, "V": 3}, 23),
    Cuts("turned in pairs that lie together", rotary(",interleaved=1", "C[9,4], D[9,4]"),
         {"Q": 2, "Q#2": 4, "V": 3}, 23),
    Cuts("turned in part", rotary(",rotary_embedding_dim=4", "C[9,2], D[9,2]"),
         {"Q": 2, "Q#2": 2, "Q#3": 4, "V": 3}, 23),
    Cuts("turned with an axis for the heads", apart("u = RotaryEmbedding(d, C[1,5,2], D[1,5,2]);"
         "w = RotaryEmbedding(e, C, D); a = Attention(u, w, f)").replace("N,", "1,"), {"Q": 3, "Q#2": 2, "V": 4}, 23),
    Cuts("a cache that is written to", apart("g = TensorScatter(PK[1,3,8,4], e); h = TensorScatter(PV[1,3,8,4], f);"
         "a = Attention(d, g, h)").replace("N,", "1,"), {"Q": 3, "Q#2": 4, "V": 4}, 24),
]  # fmt: skip

REFUSES = [
    Refuses("the keys of a causal attention, and its queries",
            "x[1,5,8] -> y; a = Attention<q_num_heads=2,kv_num_heads=2,is_causal=1>(L[1,7,8], x, x);"
            "t = Transpose<perm=[0,2,1]>(a); y = MatMul(t, O[7,4])", {"L.1": "depends on its order"}, 23),
    Refuses("learnt keys", "x[1,5,8] -> y; y = Attention<q_num_heads=2,kv_num_heads=2>(x, K[1,7,8], V[1,7,8])",
            {"K.1": "softmax of attention", "V.1": "softmax of attention"}, 23),
    Refuses("the two halves that are turned together", rotary("", "C[9,4], D[9,4]"),
            {"Q.1": "turns pairs", "K.1": "turns pairs"}, 23),
    Refuses("the axis that a cache is written along", "x[1,2,3,6] -> y; w = Transpose<perm=[0,1,3,2]>(x);"
            "e = MatMul(w, W[3,5]); f = Transpose<perm=[0,1,3,2]>(e); g = TensorScatter(C[1,2,8,6], f);"
            "y = Relu(g)", {"W.1": "writes to it by position"}, 24),
]  # fmt: skip


@each(CUTS)
def test_cuts(case: Cuts) -> None:
    prove(case)


@each(REFUSES)
def test_refuses(case: Refuses) -> None:
    refuse(case)


def test_the_scale_is_written_down_and_the_heads_are_counted() -> None:
    shrunk = theorem(build(attention(4, 2), opset=23), {"Q": 1, "Q#2": 1, "Q#3": 2}).shrunk
    (node,) = (node for node in shrunk.nodes if node.op_type == "Attention")
    assert (node.attributes["q_num_heads"], node.attributes["kv_num_heads"]) == (1, 1)
    assert node.attributes["scale"] == pytest.approx(0.5)


def test_a_scale_is_not_written_where_the_width_stays() -> None:
    shrunk = theorem(build(attention(), opset=23), {"Q": 2, "Q#2": 4, "V": 4}).shrunk
    (node,) = (node for node in shrunk.nodes if node.op_type == "Attention")
    assert "scale" not in node.attributes


@pytest.mark.parametrize(("decay", "beta"), [(8, 2), (2, 2), (2, 1)])
def test_linear_attention(decay: int, beta: int) -> None:
    """ONNX Runtime knows no opset 27 yet, so the facts are all that can be tested."""
    model = build(
        "x[1,5,6] -> y; q = MatMul(x, Q[6,16]); k = MatMul(x, K[6,8]); v = MatMul(x, V[6,10]);"
        f"d = MatMul(x, D[6,{decay}]); b = MatMul(x, B[6,{beta}]);"
        "a, s = LinearAttention<q_num_heads=4,kv_num_heads=2>(q, k, v, S[1,2,4,5], d, b); y = MatMul(a, O[20,6])",
        opset=27,
    )
    assert cut_sizes(model) == {"Q": 2, "Q#2": 2, "Q#3": 4, "V": 5}


def test_a_causal_convolution_with_a_state() -> None:
    """Opset 27, too."""
    model = build(
        "x[1,3,9] -> y; h = Conv(x, W[8,3,1]); g, s = CausalConvWithState(h, K[8,1,4], B[8], P[1,8,3]);"
        "y = Conv(g, V[4,8,1])",
        opset=27,
    )
    assert cut_sizes(model) == {"W": 8}
