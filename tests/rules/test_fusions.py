"""Fusions that no standard operator is equivalent to; what has no kernel on a CPU is cut and analysed again."""

from __future__ import annotations

import pytest

from tests.rules.tables import Cuts, Refuses, each, image, prove, refuse, rows
from tests.rules.written_out import prove_written_out

MS = "com.microsoft"
IDS = "i[N,5]:int64 -> y;"


def experts(attributes: str, wide: int) -> str:
    return "x[5,6] -> y; h = MatMul(x, W[6,8]); r = MatMul(x, R[6,3]);"\
           f"g = {MS}.MoE<k=2,{attributes}>(h, r, A[3,{wide},8], B[3,{wide}], C[3,8,7], D[3,8]);"\
           "y = MatMul(g, V[8,4])"  # fmt: skip


CUTS = [
    Cuts("GatedAdd", rows(f"k = MatMul(x, U[6,8]); c = MatMul(x, T[6,1]); g = {MS}.GatedAdd(h, k, c)"), {"W": 8}),
    Cuts("GatherND", f"x[3,5,6] -> y; h = MatMul(x, W[6,8]); g = {MS}.GatherND(h, K{{0,1,2,4}}[2,2]);"
         "y = MatMul(g, V[8,4])", {"W": 8}),
    Cuts("CDist", f"x[N,6] -> y; h = MatMul(x, W[6,8]); y = {MS}.CDist<metric=\"sqeuclidean\">(h, C[7,8])", {"W": 8}),
    Cuts("CDist with a root", f"x[N,6] -> y; h = MatMul(x, W[6,8]); y = {MS}.CDist<metric=\"euclidean\">(h, C[7,8])",
         {"W": 8}),
    Cuts("UnfoldTensor", rows(f"u = {MS}.UnfoldTensor<dim=1,size=2,step=1>(h); g = Transpose<perm=[0,1,3,2]>(u)"),
         {"W": 8}),
    Cuts("MaxpoolWithMask", image(f"g = {MS}.MaxpoolWithMask<kernel_shape=[2,2]>(h, M[1,1,6,6]:int32)"), {"W": 8}),
    Cuts("LinearAttentionGate", rows(f"k = MatMul(x, U[6,8]); d, b = {MS}.LinearAttentionGate(h, D[8], E[8], k);"
                                     "g = Add(d, b)"), {"W": 8}),
    Cuts("CausalConvWithState", f"x[N,6,9] -> y; h = MatMul(K[8,6], x); g, s = {MS}.CausalConvWithState"
         "(h, C[8,1,3], B[8]); y = MatMul(V[4,8], g)", {"K": 8}),
    Cuts("experts", experts('activation_type="relu"', 7), {"W": 8, "A": 7}),
    Cuts("experts with a gate", experts('activation_type="swiglu",swiglu_fusion=1', 14), {"W": 8, "A": 7}),
    Cuts("MatMulBnb4", f"x[N,5,32] -> y; h = {MS}.MatMulBnb4<K=32,N=6,block_size=16,quant_type=1>"
         "(x, W[96]:uint8, S[12]); y = MatMul(h, V[6,4])", {"V": 6}),
    Cuts("MatMulBnb4 whose blocks go", f"x[N,5,6] -> y; h = MatMul(x, W[6,64]);"
         f"y = {MS}.MatMulBnb4<K=64,N=6,block_size=16,quant_type=1>(h, A[192]:uint8, S[24])", {"W": 4}),
    Cuts("rows of a table with four bits", IDS + f"h = {MS}.GatherBlockQuantized<gather_axis=0,quantize_axis=1,"
         "block_size=16>(E[9,64]:uint4, i, S[9,4], Z[9,4]:uint4); y = MatMul(h, V[64,4])", {"E": 4}, bounds={"i": 9}),
    Cuts("rows of a table of bytes", IDS + f"h = {MS}.GatherBlockQuantized<gather_axis=0,quantize_axis=1,"
         "block_size=16,bits=4>(E[9,32]:uint8, i, S[9,4]); y = MatMul(h, V[64,4])", {"E": 4}, bounds={"i": 9}),
    Cuts("QEmbedLayerNormalization", IDS + f"j = Cast<to=6>(i); e, m = {MS}.QEmbedLayerNormalization(j, _,"
         "A[9,6]:uint8, B[8,6]:uint8, _, G[6]:uint8, C[6]:uint8, _, 0.1, 0.1, _, 0.1, 0.1, 3:uint8, 3:uint8, _,"
         "3:uint8, 3:uint8); h = MatMul(e, W[6,8]); y = MatMul(h, V[8,6])", {"W": 8}, bounds={"i": 9}),
]  # fmt: skip

REFUSES = [
    Refuses("zero points of a table that share a byte", IDS + f"h = {MS}.GatherBlockQuantized<gather_axis=0,"
            "quantize_axis=1,block_size=16,bits=4>(E[9,32]:uint8, i, S[9,4], Z[9,2]:uint8); y = MatMul(h, V[64,4])",
            {"S.1": "share a byte", "V.0": "only whole ones can go"}, runs=False),
    Refuses("blocks that go on in the next row", f"x[N,5,40] -> y;"
            f"h = {MS}.MatMulBnb4<K=40,N=6,block_size=16,quant_type=1>(x, W[120]:uint8, S[15]); y = MatMul(h, V[6,4])",
            {"V.0": "go on from one row to the next"}),
    Refuses("MaxpoolWithMask of each channel", image(f"g = {MS}.MaxpoolWithMask<kernel_shape=[2,2]>"
            "(h, M[1,8,6,6]:int32)"), {"W.0": "a mask of its own"}, runs=False),
    Refuses("the experts themselves", experts('activation_type="relu"', 7), {"R.1": "experts are chosen by value"}),
    Refuses("blocks inside", f"x[N,5,6] -> y; h = MatMul(x, W[6,64]);"
            f"y = {MS}.MatMulBnb4<K=64,N=6,block_size=16,quant_type=1>(h, A[192]:uint8, S[24])",
            {"W.1": "only whole ones can go"}),
    Refuses("a convolution that looks back with the channels last", "x[N,9,6] -> y; h = MatMul(x, K[6,8]);"
            f"g, s = {MS}.CausalConvWithState<channels_last=1>(h, C[8,1,3], B[8]); y = MatMul(g, V[8,4])",
            {"K.1": "does not carry it"}, runs=False),
]  # fmt: skip

GELU = "c = Constant<value=float {1.41421356}>() o = Constant<value=float {1.0}>() p = Constant<value=float {0.5}>()"\
       " d = Div(r, c) e = Erf(d) f = Add(e, o) h = Mul(r, f) g = Mul(h, p)"  # fmt: skip
LAST, FIRST = "Transpose<perm=[0,2,3,1]>", "Transpose<perm=[0,3,1,2]>"
GROUPED = f"t = {FIRST}(s) n = GroupNormalization<num_groups: int = @groups>(t, w, b) m = {LAST}(n)"\
          " g = Sigmoid(m) y = Mul(m, g)"  # fmt: skip

NO_KERNEL = {  # what only a GPU runs: graph, groups, and what the operators are
    "BiasAdd": (rows(f"g = {MS}.BiasAdd(h, B[8], h)"), {"W": 8},
                ["BiasAdd (x, b, s) => (y) { a = Add(x, b) y = Add(a, s) }"]),
    "BiasDropout": (rows(f"g = {MS}.BiasDropout(h, B[8], h)"), {"W": 8},
                    ["BiasDropout (x, b, s) => (y) { a = Add(x, b) y = Add(a, s) }"]),
    "BiasSoftmax": (rows(f"k = MatMul(x, U[6,8]); t = Transpose<perm=[0,2,1]>(h); s = {MS}.BiasSoftmax<axis=2>"
                         "(t, M[1,5]); r = Transpose<perm=[0,2,1]>(s); g = Mul(r, k)"), {"W": 8},
                    ["BiasSoftmax (x, b) => (y) { a = Add(x, b) y = Softmax<axis=2>(a) }"]),
    "BiasSplitGelu": (rows(f"g = {MS}.BiasSplitGelu(h, B[8])", reads=4), {"W": 4},
                      [f"BiasSplitGelu (x, b) => (y) {{ s = Add(x, b) l, r = Split<axis=-1>(s) {GELU}"
                       " y = Mul(l, g) }"]),
    "GemmFastGelu": (rows(f"g = {MS}.GemmFastGelu(h, U[8,7], B[7])", reads=7), {"W": 8, "U": 7},
                     [f"GemmFastGelu (x, w, b) => (g) {{ m = MatMul(x, w) r = Add(m, b) {GELU} }}"]),
    "FusedMatMulActivation": (rows(f"g = {MS}.FusedMatMulActivation<transB=1,activation=\"Relu\">(h, U[7,8])", reads=7),
                              {"W": 8, "U": 7}, ["FusedMatMulActivation (x, w) => (y) { t = Transpose(w)"
                                                 " m = MatMul(x, t) y = Relu(m) }"]),
    "GroupNorm": (rows(f"r = Unsqueeze(h, {{2}}); n = {MS}.GroupNorm<groups=4,activation=1>(r, G[8], C[8]);"
                       "g = Squeeze(n, {2})"), {"W": 4}, [f"GroupNorm <groups> (s, w, b) => (y) {{ {GROUPED} }}"]),
    "GroupNorm behind the batch": (image(f"g = {MS}.GroupNorm<groups=4,activation=0,channels_last=0>(h, G[8], C[8])"),
                                   {"W": 4}, ["GroupNorm <groups> (x, w, b) => (y)"
                                              " { y = GroupNormalization<num_groups: int = @groups>(x, w, b) }"]),
    "SkipGroupNorm": (rows(f"r = Unsqueeze(h, {{2}}); k = MatMul(x, U[6,8]); m = ReduceMean<keepdims=0>(k, {{1}});"
                           f"n, s = {MS}.SkipGroupNorm<groups=4,activation=1>(r, G[8], C[8], m, B[8]); t = Add(n, s);"
                           "g = Squeeze(t, {2})"), {"W": 4},
                      ["SkipGroupNorm <groups> (x, w, b, k, z) => (y, s) { i = Constant<value=int64[2] {1,2}>()"
                       f" l = Unsqueeze(k, i) a = Add(x, l) s = Add(a, z) {GROUPED} }}"]),
    "NhwcConv": ("x[N,6,6,3] -> y;" f"h = {MS}.NhwcConv<pads=[1,1,1,1],group=1>(x, W[8,3,3,3], B[8]);"
                 f"g = {MS}.NhwcConv<group=8,pads=[0,0,0,0]>(h, D[8,3,3,1], E[8]);"
                 f"y = {MS}.NhwcConv<group=1,pads=[0,0,0,0]>(g, V[4,1,1,8], F[4])", {"W": 8},
                 [f"NhwcConv <pads, group> (x, w, b) => (y) {{ a = {FIRST}(x) v = {FIRST}(w)"
                  f" c = Conv<pads: ints = @pads, group: int = @group>(a, v, b) y = {LAST}(c) }}"]),
    "NhwcFusedConv": ("x[N,6,6,3] -> y;" f"h = {MS}.NhwcFusedConv<pads=[1,1,1,1]>(x, W[8,3,3,3], B[8]);"
                      f"k = {MS}.NhwcFusedConv<pads=[0,0,0,0]>(h, U[8,8,1,1], C[8]);"
                      f"y = {MS}.NhwcFusedConv<pads=[0,0,0,0]>(k, V[4,8,1,1], F[4])", {"W": 8, "U": 8},
                      [f"NhwcFusedConv <pads> (x, w, b) => (y) {{ a = {FIRST}(x) c = Conv<pads: ints = @pads>(a, w, b)"
                       f" y = {LAST}(c) }}"]),
    "rows without padding": (rows(f"m = Constant<value=int32[1] {{5}}>(); p, o, c, q = {MS}.RemovePadding(h, m);"
                                  f"r = Relu(p); g = {MS}.RestorePadding(r, o)"), {"W": 8},
                             ["RemovePadding (x, m) => (p, o, c, q) { p = Flatten<axis=2>(x)"
                              " o = ReduceMax<axes=[2],keepdims=0>(x) c = Identity(m) q = Identity(m) }",
                              "RestorePadding (p, o) => (y) { s = Shape(o) l = Constant<value=int64[1] {-1}>()"
                              " t = Concat<axis=0>(s, l) y = Reshape(p, t) }"]),
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
    prove_written_out(text, sizes, bodies, opset=21 if "GroupNorm" in name else 17)
