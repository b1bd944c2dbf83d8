"""Parameters per channel follow their axis; axes that share statistics, scales of blocks and merged norms are fixed."""

from __future__ import annotations

from tests.rules.tables import Cuts, Refuses, each, image, prove, refuse, rows

CUTS = [
    Cuts("BatchNormalization", image("g = BatchNormalization(h, S[8], B[8], M[8], R[8])"), {"W": 8}),
    Cuts("BatchNormalization of rank two", "x[N,5] -> y; h = MatMul(x, W[5,8]);"
         "g = BatchNormalization(h, S[8], B[8], M[8], R[8]); y = MatMul(g, V[8,4])", {"W": 8}),
    Cuts("BatchNormalization with shared parameters", image("g = BatchNormalization(h, S[8], S, S, S)"), {"W": 8}),
    Cuts("InstanceNormalization", image("g = InstanceNormalization(h, S[8], B[8])"), {"W": 8}),
    Cuts("GroupNormalization: whole groups go", image("g = GroupNormalization<num_groups=4>(h, S[8], B[8])"),
         {"W": 4}, opset=21),
    Cuts("GroupNormalization with a scale for each group",
         image("g = GroupNormalization<num_groups=4>(h, S[4], B[4])"), {"W": 4}, opset=18),
    Cuts("GroupNormalization with one channel in a group",
         image("g = GroupNormalization<num_groups=8>(h, S[8], B[8])"), {"W": 8}, opset=21),
    Cuts("LayerNormalization over what follows", "x[N,3,6,6] -> y; h = Conv(x, W[8,3,3,3]);"
         "g = LayerNormalization<axis=2>(h, S[4,4], B[4,4]); y = Conv(g, V[4,8,1,1])", {"W": 8}),
    Cuts("GroupNorm as exported: whole groups go",
         image("r = Reshape(h, {0,4,-1}); i = InstanceNormalization(r, S[4], B[4]); s = Shape(h); t = Reshape(i, s);"
               "m = Mul(t, G[8,1,1]); g = Add(m, C[8,1,1])"), {"W": 4}),
    Cuts("RMSNormalization", rows("g = RMSNormalization<epsilon=0.7>(h, S[8])"), {"W": 8}, opset=23),
    Cuts("RMSNormalization with its own epsilon", rows("s = Mul(h, 0.003); g = RMSNormalization(s, S[8])"), {"W": 8},
         opset=23),
    Cuts("RMSNormalization with a scale that another reads",
         rows("a = RMSNormalization<epsilon=0.7>(h, S[8]); g = Mul(a, S)"), {"W": 8}, opset=23),
    Cuts("RMSNormalization with a scale that is computed",
         rows("s = Exp(S[8]); g = RMSNormalization<epsilon=0.7>(h, s)"), {"W": 8}, opset=23),
    Cuts("RMSNormalization over two axes", "x[N,6] -> y; h = MatMul(x, W[6,24]); r = Reshape(h, {-1,4,6});"
         "n = RMSNormalization<axis=1,epsilon=0.7>(r, S[4,6]); f = Flatten(n); y = MatMul(f, V[24,3])",
         {"W": 4, "W#2": 6}, opset=23),
    Cuts("quantized per tensor", image("q = QuantizeLinear(h, 0.1, 0:uint8); g = DequantizeLinear(q, 0.1, 0:uint8)"),
         {"W": 8}),
    Cuts("a weight quantized per tensor", "x[N,3,6,6] -> y; W = DequantizeLinear(Q[8,3,3,3]:int8, 0.01, 0:int8);"
         "h = Conv(x, W); y = Conv(h, V[4,8,1,1])", {"Q": 8}),
    Cuts("a weight quantized per channel", "x[N,3,6,6] -> y;"
         "W = DequantizeLinear<axis=0>(Q[8,3,3,3]:int8, S[8], Z[8]:int8); h = Conv(x, W); y = Conv(h, V[4,8,1,1])",
         {"Q": 8}),
    Cuts("a weight quantized per channel, read on its other axis", "x[N,3,6,6] -> y; h = Conv(x, W[8,3,3,3]);"
         "U = DequantizeLinear<axis=0>(Q[4,8,1,1]:int8, S[4]); y = Conv(h, U)", {"W": 8}),
    Cuts("a bias quantized per channel", "x[N,3,6,6] -> y; B = DequantizeLinear<axis=0>(Q[8]:int8, S[8]);"
         "h = Conv(x, W[8,3,3,3], B); y = Conv(h, V[4,8,1,1])", {"W": 8}),
    Cuts("an activation quantized per channel",
         image("q = QuantizeLinear<axis=1>(h, S[8], Z[8]:uint8); g = DequantizeLinear<axis=1>(q, S, Z)"), {"W": 8}),
    Cuts("a scale of one element", image("q = QuantizeLinear(h, S[1], Z[1]:uint8); g = DequantizeLinear(q, S, Z)"),
         {"W": 8}),
]  # fmt: skip

REFUSES = [
    Refuses("LayerNormalization over the cut axis", rows("g = LayerNormalization(h, S[8], B[8])"),
            {"W.1": "statistics", "V.0": "statistics"}),
    Refuses("the channels inside a group of a norm", image("g = GroupNormalization<num_groups=2>(h, S[8], B[8])"),
            {"W.0": "statistics", "V.1": "statistics"}, 21),
    Refuses("a norm over one group", image("g = GroupNormalization<num_groups=1>(h, S[8], B[8])"),
            {"W.0": "statistics"}, 21),
    Refuses("a norm over merged channels", image("r = Reshape(h, {0,4,-1}); i = InstanceNormalization(r, S[4], B[4]);"
                                                 "s = Shape(h); g = Reshape(i, s)"), {"W.0": "statistics"}),
    Refuses("quantized in blocks", "x[N,5] -> y; h = MatMul(x, W[5,8]); "
            "U = DequantizeLinear<axis=0,block_size=4>(Q[8,6]:int8, S[2,6]);"
            "y = MatMul(h, U)", {"Q.0": "blocks", "W.1": "blocks"}, 21),
]  # fmt: skip


@each(CUTS)
def test_cuts(case: Cuts) -> None:
    prove(case)


@each(REFUSES)
def test_refuses(case: Refuses) -> None:
    refuse(case)
