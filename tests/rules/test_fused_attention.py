"""Attention as ONNX Runtime fuses it: heads, widths of queries and keys, and widths of values."""

from __future__ import annotations

import pytest

from tests.rules.tables import Cuts, Refuses, each, prove, refuse, rows
from tests.rules.written_out import prove_written_out

MS = "com.microsoft"
THREE = "q = MatMul(x, Q[6,12]); k = MatMul(x, K[6,12]); v = MatMul(x, V[6,12]);"


def encoder(body: str) -> str:
    """`body` after three projections: it reads q, k, v [N,5,12] and makes g [N,5,12]."""
    return f"x[N,5,6] -> y; {THREE} {body}; y = MatMul(g, O[12,6])"


def grouped(width: int, more: str, steps: int = 5) -> str:
    """Four query heads, two key/value heads."""
    return f"x[2,{steps},6] -> y; q = MatMul(x, Q[6,{4 * width}]); k = MatMul(x, K[6,{2 * width}]);"\
           f"v = MatMul(x, V[6,{2 * width}]); g, a, b = {MS}.GroupQueryAttention<num_heads=4,kv_num_heads=2>"\
           f"(q, k, v, _, _, {{4,4}}:int32, {{5}}:int32{more}); y = MatMul(g, O[{4 * width},6])"  # fmt: skip


def one_tensor(width: int, tables: str, more: str) -> str:
    """The same from one projection, rotated."""
    return f"x[2,5,6] -> y; q = MatMul(x, Q[6,{8 * width}]);"\
           f"g, a, b = {MS}.GroupQueryAttention<num_heads=4,kv_num_heads=2,do_rotary=1{more}>"\
           f"(q, _, _, _, _, {{4,4}}:int32, {{5}}:int32, {tables}); y = MatMul(g, O[{4 * width},6])"  # fmt: skip


CUTS = [
    Cuts("Attention", f"x[N,5,6] -> y; g = {MS}.Attention<num_heads=3>(x, W[6,36], B[36]); y = MatMul(g, O[12,6])",
         {"W": 3, "W#2": 4, "W#3": 4}),
    Cuts("Attention whose values are wider", f"x[N,5,6] -> y;"
         f"g = {MS}.Attention<num_heads=3,qkv_hidden_sizes=[12,12,15]>(x, W[6,39], B[39]); y = MatMul(g, O[15,6])",
         {"W": 3, "W#2": 4, "W#3": 5}),
    Cuts("Attention that looks back, with a scale", "x[N,5,6] -> y;"
         f"g = {MS}.Attention<num_heads=3,unidirectional=1,scale=0.7>(x, W[6,36], B[36], _, _, M[1,3,5,5]);"
         "y = MatMul(g, O[12,6])", {"M": 3, "W": 4, "W#2": 4}),
    Cuts("Attention that reads a pruned input", rows(f"k = {MS}.Attention<num_heads=3>(h, U[8,36], B[36]);"
         "g = MatMul(k, O[12,8])"), {"W": 8, "U": 3, "U#2": 4, "U#3": 4, "O": 8}),
    Cuts("QAttention", "x[N,5,6] -> y; p, s, z = DynamicQuantizeLinear(x);"
         f"g = {MS}.QAttention<num_heads=3>(p, W[6,36]:int8, B[36], s, 0.01, _, z, 2:int8); y = MatMul(g, O[12,6])",
         {"W": 3, "W#2": 4}),
    Cuts("MultiHeadAttention", encoder(f"g = {MS}.MultiHeadAttention<num_heads=3>(q, k, v)"),
         {"Q": 3, "Q#2": 4, "V": 4}),
    Cuts("MultiHeadAttention with biases and scores",
         encoder(f"g = {MS}.MultiHeadAttention<num_heads=3>(q, k, v, B[36], _, M[1,3,5,5])"),
         {"Q": 3, "Q#2": 4, "V": 4}),
    Cuts("MultiHeadAttention whose values are wider", "x[N,5,6] -> y; q = MatMul(x, Q[6,12]); k = MatMul(x, K[6,12]);"
         f"v = MatMul(x, V[6,15]); g = {MS}.MultiHeadAttention<num_heads=3>(q, k, v); y = MatMul(g, O[15,6])",
         {"Q": 3, "Q#2": 4, "V": 5}),
    Cuts("GroupQueryAttention", grouped(16, ""), {"Q": 2, "Q#2": 2, "Q#3": 2}),
    Cuts("GroupQueryAttention with scores and a sink for each head", grouped(8, ", _, _, _, M[1,4,5,5], H[4]"),
         {"Q": 2, "Q#2": 2}),
    Cuts("GroupQueryAttention of one tensor, rotated", one_tensor(32, "C[9,16], S[9,16]", ""),
         {"Q": 2, "Q#2": 2, "Q#3": 2}),
    Cuts("GroupQueryAttention of one tensor, pairs that lie together and a rest",
         one_tensor(64, "C[9,16], S[9,16]", ",rotary_interleaved=1,scale=0.3"), {"Q": 2, "Q#2": 2, "Q#3": 2, "Q#4": 2}),
    Cuts("DecoderMaskedMultiHeadAttention", "x[N,1,6] -> y;" + THREE
         + f"g = {MS}.DecoderMaskedMultiHeadAttention<num_heads=3>(q, k, v); y = MatMul(g, O[12,6])",
         {"Q": 3, "Q#2": 4}),
    Cuts("LinearAttention", "x[N,5,6] -> y;" + THREE + f"g, s = {MS}.LinearAttention<q_num_heads=3,kv_num_heads=3,"
         'update_rule="linear">(q, k, v); y = MatMul(g, O[12,6])', {"Q": 3, "Q#2": 4, "V": 4}),
    Cuts("MRotaryEmbedding", "x[N,5,6], i[3,N,5]:int64 -> y; q = MatMul(x, Q[6,12]);"
         f"r = {MS}.MRotaryEmbedding<num_heads=3,mrope_section=[1,1,0]>(q, i, C[9,2], S[9,2]); y = MatMul(r, O[12,6])",
         {"Q": 3}, bounds={"i": 9}),
    Cuts("RotaryEmbedding of merged heads", "x[N,5,6], i[N,5]:int64 -> y; q = MatMul(x, Q[6,12]);"
         f"r = {MS}.RotaryEmbedding<num_heads=3>(q, i, C[9,2], S[9,2]); k = MatMul(x, K[6,12]);"
         f"l = {MS}.RotaryEmbedding<num_heads=3>(k, i, C, S);  v = MatMul(x, V[6,12]);"
         f"g = {MS}.MultiHeadAttention<num_heads=3>(r, l, v); y = MatMul(g, O[12,6])",
         {"Q": 3, "Q#2": 2, "V": 4}),
    Cuts("RotaryEmbedding of heads as wide as the tables", "x[N,5,6], i[N,5]:int64 -> y; q = MatMul(x, Q[6,12]);"
         f"r = {MS}.RotaryEmbedding(q, i, C[9,2], S[9,2]); y = MatMul(r, O[12,6])", {"Q": 3, "Q#2": 2},
         bounds={"i": 9}),
    Cuts("RotaryEmbedding in part, of pairs that lie together", "x[N,5,6], i[N,5]:int64 -> y; q = MatMul(x, Q[6,24]);"
         f"r = {MS}.RotaryEmbedding<num_heads=3,rotary_embedding_dim=4,interleaved=1>(q, i, C[9,2], S[9,2]);"
         "y = MatMul(r, O[24,6])", {"Q": 3, "Q#2": 2, "Q#3": 4}, bounds={"i": 9}),
    Cuts("RotaryEmbedding with an axis for the heads", "x[N,5,6], i[N,5]:int64 -> y; q = MatMul(x, Q[6,12]);"
         f"a = Reshape(q, {{0,0,3,4}}); b = Transpose<perm=[0,2,1,3]>(a);"
         f"r = {MS}.RotaryEmbedding(b, i, C[9,2], S[9,2]);"
         "c = Transpose<perm=[0,2,1,3]>(r); d = Reshape(c, {0,0,12}); y = MatMul(d, O[12,6])", {"Q": 3, "Q#2": 2},
         bounds={"i": 9}),
]  # fmt: skip

REFUSES = [
    Refuses("the halves of rotated heads", "x[N,5,6], i[N,5]:int64 -> y; q = MatMul(x, Q[6,12]);"
            f"r = {MS}.RotaryEmbedding<num_heads=3>(q, i, C[9,2], S[9,2]); y = MatMul(r, O[12,6])",
            {"Q.1": "RotaryEmbedding turns pairs"}),
    Refuses("widths that are no multiple of 8", grouped(12, ""), {"Q.1": "whole multiples of 8"}, runs=False),
    Refuses("widths inside", grouped(16, ""), {"Q.1": "whole multiples of 8"}),
    Refuses("the halves of heads that the operator rotates", one_tensor(32, "C[9,16], S[9,16]", ""),
            {"Q.1": "rotated against each other"}),
    Refuses("norms of queries and keys", grouped(16, ", _, _, _, _, _, _, _, A[16], B[16]"),
            {"Q.1": "share the statistics"}, runs=False),
    Refuses("pairs in sections", "x[N,5,6], i[3,N,5]:int64 -> y; q = MatMul(x, Q[6,12]);"
            f"r = {MS}.MRotaryEmbedding<num_heads=3,mrope_section=[1,1,0]>(q, i, C[9,2], S[9,2]);"
            "y = MatMul(r, O[12,6])", {"C.1": "turned in sections"}, runs=False),
    Refuses("a state with slots", "x[N,5,6] -> y;" + THREE + f"g, s = {MS}.LinearAttention<q_num_heads=3,"
            "kv_num_heads=3,state_window=2>(q, k, v); y = MatMul(g, O[12,6])", {"Q.1": "does not carry it"},
            runs=False),
]  # fmt: skip

ONE = "PackedAttention <num_heads, qkv_hidden_sizes, scale> (x, w, b, o, c) => (y) {"\
      " i = Constant<value=int64[1] {0}>() r = Unsqueeze(x, i) a = com.microsoft.Attention"\
      "<num_heads: int = @num_heads, qkv_hidden_sizes: ints = @qkv_hidden_sizes, scale: float = @scale>"\
      "(r, w, b) y = Squeeze(a, i) }"  # fmt: skip
MANY = "PackedMultiHeadAttention <num_heads, scale> (q, k, v, b, o, c, m) => (y) { i = Constant<value=int64[1] {0}>()"\
       " q1 = Unsqueeze(q, i) k1 = Unsqueeze(k, i) v1 = Unsqueeze(v, i) a = com.microsoft.MultiHeadAttention"\
       "<num_heads: int = @num_heads, scale: float = @scale>(q1, k1, v1, b, , m) y = Squeeze(a, i) }"  # fmt: skip
BY_HEADS = "PackedMultiHeadAttention <num_heads, scale> (x, k, v, b, o, c) => (y) { i = Constant<value=int64[1] {0}>()"\
           " q0, k0, v0 = Split<axis=2>(x) q2 = Flatten(q0) k2 = Flatten(k0) v2 = Flatten(v0) q1 = Unsqueeze(q2, i)"\
           " k1 = Unsqueeze(k2, i) v1 = Unsqueeze(v2, i) a = com.microsoft.MultiHeadAttention"\
           "<num_heads: int = @num_heads, scale: float = @scale>(q1, k1, v1) y = Squeeze(a, i) }"  # fmt: skip
SPARSE = "SparseAttention <num_heads, kv_num_heads, scale> (q, k, v, p, l, r, c, t, n) => (y, a, b) {"\
         " o = Constant<value=int32 {1}>() e = Sub(n, o)"\
         " y, a, b = com.microsoft.GroupQueryAttention<num_heads: int = @num_heads, kv_num_heads: int = @kv_num_heads,"\
         " scale: float = @scale>(q, k, v, , , e, t) }"  # fmt: skip
PACKED = "x[4,6] -> y; o = Constant<value=int32[1,4] {0,1,2,3}>(); c = Constant<value=int32[2] {0,4}>();"
NO_KERNEL = {
    "PackedAttention": (PACKED + f"g = {MS}.PackedAttention<num_heads=3,qkv_hidden_sizes=[12,12,15]>"
                        "(x, W[6,39], B[39], o, c); y = MatMul(g, O[15,6])", {"W": 3, "W#2": 4, "W#3": 5},
                        [ONE]),
    "PackedMultiHeadAttention": (PACKED + THREE + f"g = {MS}.PackedMultiHeadAttention<num_heads=3>(q, k, v, B[36], o,"
                                 "c, M[1,3,4,4]); y = MatMul(g, O[12,6])", {"Q": 3, "Q#2": 4, "V": 4},
                                 [MANY]),
    "one tensor by heads": (PACKED + "q = MatMul(x, Q[6,36]); r = Reshape(q, {0,3,3,4});"
                            f"g = {MS}.PackedMultiHeadAttention<num_heads=3>(r, _, _, _, o, c); y = MatMul(g, O[12,6])",
                            {"Q": 3, "Q#2": 4}, [BY_HEADS]),
    "SparseAttention": ("x[2,16,6] -> y; q = MatMul(x, Q[6,64]); k = MatMul(x, K[6,32]); v = MatMul(x, V[6,32]);"
                        f"g, a, b = {MS}.SparseAttention<num_heads=4,kv_num_heads=2,sparse_block_size=16>"
                        "(q, k, v, P[2,2,16,16], L[2,2,16,16], {0,1}[1,2]:int32, {0}[1,1]:int32, 16:int32,"
                        "{16,16}:int32); y = MatMul(g, O[64,6])", {"Q": 2, "Q#2": 2, "Q#3": 2}, [SPARSE]),
}  # fmt: skip


@each(CUTS)
def test_cuts(case: Cuts) -> None:
    prove(case)


@each(REFUSES)
def test_refuses(case: Refuses) -> None:
    refuse(case)


@pytest.mark.parametrize("name", NO_KERNEL)
def test_what_no_cpu_runs(name: str) -> None:
    """Removing is silencing where the operator does what its documentation says."""
    text, sizes, bodies = NO_KERNEL[name]
    prove_written_out(text, sizes, bodies)
