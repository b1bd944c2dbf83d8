"""Fusions that no standard operator is equivalent to; what has no kernel on a CPU is cut and analysed again."""

from __future__ import annotations

import pytest

from onnxprune import cut
from onnxprune.dependency import analyse
from onnxprune.plan import Plan
from onnxprune.testing import build, cut_sizes, random_keep, reasons
from tests.rules.tables import Cuts, Refuses, each, image, prove, refuse, rows

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

NO_KERNEL = {  # what only a GPU runs: graph, groups, and a fixed axis with its reason
    "BiasAdd": (rows(f"g = {MS}.BiasAdd(h, B[8], h)"), {"W": 8}, ("V.1", "a graph output")),
    "BiasDropout": (rows(f"g = {MS}.BiasDropout(h, B[8], h)"), {"W": 8}, ("V.1", "a graph output")),
    "BiasSoftmax": (rows(f"k = MatMul(x, U[6,8]); s = {MS}.BiasSoftmax<axis=2>(h, M[5,8]); g = Mul(s, k)"), {},
                    ("W.1", "Softmax mixes")),
    "BiasSplitGelu": (rows(f"g = {MS}.BiasSplitGelu(h, B[8])", reads=4), {"W": 4}, ("V.1", "a graph output")),
    "GemmFastGelu": (rows(f"g = {MS}.GemmFastGelu(h, U[8,7], B[7])", reads=7), {"W": 8, "U": 7},
                     ("V.1", "a graph output")),
    "FusedMatMulActivation": (rows(f"g = {MS}.FusedMatMulActivation<transB=1,activation=\"Relu\">(h, U[7,8])", reads=7),
                              {"W": 8, "U": 7}, ("V.1", "a graph output")),
    "GroupNorm": (rows(f"r = Unsqueeze(h, {{2}}); n = {MS}.GroupNorm<groups=4,activation=1>(r, G[8], C[8]);"
                       "g = Squeeze(n, {2})"), {"W": 4}, ("W.1", "share the statistics")),
    "GroupNorm behind the batch": (image(f"g = {MS}.GroupNorm<groups=4,activation=0,channels_last=0>(h, G[8], C[8])"),
                                   {"W": 4}, ("G.0", "share the statistics")),
    "SkipGroupNorm": (rows(f"r = Unsqueeze(h, {{2}}); k = MatMul(x, U[6,8]); m = ReduceMean<axes=[1],keepdims=0>(k);"
                           f"n, s = {MS}.SkipGroupNorm<groups=4,activation=1>(r, G[8], C[8], m, B[8]); t = Add(n, s);"
                           "g = Squeeze(t, {2})"), {"W": 4}, ("U.1", "share the statistics")),
    "NhwcConv": ("x[N,6,6,3] -> y;" f"h = {MS}.NhwcConv<pads=[1,1,1,1]>(x, W[8,3,3,3], B[8]);"
                 f"g = {MS}.NhwcConv<group=8>(h, D[8,3,3,1]); y = {MS}.NhwcConv(g, V[4,1,1,8])", {"W": 8},
                 ("W.1", "a window slides over it")),
    "NhwcFusedConv": ("x[N,6,6,3] -> y;" f"h = {MS}.NhwcFusedConv<pads=[1,1,1,1]>(x, W[8,3,3,3], B[8]);"
                      f"y = {MS}.NhwcFusedConv(h, V[4,8,1,1])", {"W": 8}, ("W.2", "a window slides over it")),
    "rows without padding": (rows(f"l = Constant<value=int32[1] {{5}}>(); m = Expand(l, {{3}});"
                                  f"p, o, c, q = {MS}.RemovePadding(h, m); r = Relu(p); g = {MS}.RestorePadding(r, o)"),
                             {"W": 8}, ("V.1", "a graph output")),
}  # fmt: skip


@each(CUTS)
def test_cuts(case: Cuts) -> None:
    prove(case)


@each(REFUSES)
def test_refuses(case: Refuses) -> None:
    refuse(case)


@pytest.mark.parametrize("name", NO_KERNEL)
def test_what_no_cpu_runs_is_cut_alike(name: str) -> None:
    """After a cut to a half, the same groups are found again, half as large: weights, numbers and shapes still fit."""
    text, sizes, (axis, reason) = NO_KERNEL[name]
    model = build(text)
    assert cut_sizes(model) == sizes, reasons(model)
    assert reason in reasons(model)[axis]
    analysis = analyse(model)
    shrunk = cut.shrink(analysis, Plan.of(analysis.groups, random_keep(analysis.groups)))
    assert cut_sizes(shrunk) == {group: -(-size // 2) for group, size in sizes.items()}
