"""Scales and zero points follow their axis, blocks go whole, and what is silent in integers is the zero point."""

from __future__ import annotations

from tests.rules.tables import Cuts, Refuses, each, prove, refuse

QDQ = "x[N,3,6,6] -> y; p = QuantizeLinear(x, 0.03, 120:uint8); q = DequantizeLinear(p, 0.03, 120:uint8);"
BACK = "k = QuantizeLinear(h, 0.05, 110:uint8); g = DequantizeLinear(k, 0.05, 110:uint8);"
LAST = "v = DequantizeLinear(V[4,8,1,1]:int8, 0.01, 3:int8); y = Conv(g, v)"
INTEGER = "x[N,5,6] -> y; p = QuantizeLinear(x, 0.03, 120:uint8);"
MS = "com.microsoft"

CUTS = [
    Cuts("weights with one scale", QDQ + "w = DequantizeLinear(W[8,3,3,3]:int8, 0.01, 5:int8); h = Conv(q, w);"
         + BACK + LAST, {"W": 8}),
    Cuts("weights with a scale for each output", QDQ + "w = DequantizeLinear<axis=0>(W[8,3,3,3]:int8, S[8], Z[8]:int8);"
         "h = Conv(q, w);" + BACK + LAST, {"W": 8}),
    Cuts("weights with a scale for each input", QDQ + "w = DequantizeLinear(W[8,3,3,3]:int8, 0.01); h = Conv(q, w);"
         + BACK + "v = DequantizeLinear<axis=1>(V[4,8,1,1]:uint8, S[8], Z[8]:uint8); y = Conv(g, v)", {"W": 8}),
    Cuts("a bias in 32 bits with a scale for each output", QDQ
         + "w = DequantizeLinear<axis=0>(W[8,3,3,3]:int8, S[8], Z[8]:int8);"
         "b = DequantizeLinear<axis=0>(B[8]:int32, T[8], U{0,0,0,0,0,0,0,0}:int32); h = Conv(q, w, b);"
         + BACK + LAST, {"W": 8}),
    Cuts("depthwise", QDQ + "w = DequantizeLinear(W[8,3,3,3]:uint8, 0.01, 128:uint8); c = Conv(q, w);"
         "d = QuantizeLinear(c, 0.05, 110:uint8); e = DequantizeLinear(d, 0.05, 110:uint8);"
         "u = DequantizeLinear<axis=0>(U[8,1,3,3]:int8, S[8]); h = Conv<group=8>(e, u);" + BACK + LAST, {"W": 8}),
    Cuts("products of quantized activations", "x[N,5,6] -> y; a = MatMul(x, A[6,8]); b = MatMul(x, B[6,8]);"
         "c = QuantizeLinear(a, 0.03, 120:uint8); d = DequantizeLinear(c, 0.03, 120:uint8);"
         "e = QuantizeLinear(b, 0.03, 100:uint8); f = DequantizeLinear(e, 0.03, 100:uint8);"
         "t = Transpose<perm=[0,2,1]>(f); y = MatMul(d, t)", {"A": 8}),
    Cuts("blocks along the contracted axis", "x[N,5] -> y; h = MatMul(x, W[5,64]);"
         "v = DequantizeLinear<axis=0,block_size=16>(V[64,4]:int8, S[4,4], Z[4,4]:int8); y = MatMul(h, v)",
         {"W": 4}, opset=21),
    Cuts("blocks along the outputs", "x[N,16] -> y; w = DequantizeLinear<axis=0,block_size=16>(W[16,6]:int8, S[1,6]);"
         "h = MatMul(x, w); v = DequantizeLinear<axis=1,block_size=2>(V[6,4]:int8, T[6,2]); y = MatMul(h, v)",
         {"W": 6}, opset=21),
    Cuts("four bits", "x[N,5] -> y; h = MatMul(x, W[5,64]);"
         "v = DequantizeLinear<axis=0,block_size=16>(V[64,4]:int4, S[4,4]); y = MatMul(h, v)", {"W": 4}, opset=21),
    Cuts("four bits without blocks", "x[N,5] -> y; w = DequantizeLinear<axis=1>(W[5,7]:uint4, S[7], Z[7]:uint4);"
         "h = MatMul(x, w); y = MatMul(h, V[7,4])", {"W": 7}, opset=21),
    Cuts("sixteen bits", "x[N,5] -> y; w = DequantizeLinear<axis=1>(W[5,8]:int16, S[8], Z[8]:int16);"
         "h = MatMul(x, w); k = QuantizeLinear(h, 0.05, 30000:uint16); g = DequantizeLinear(k, 0.05, 30000:uint16);"
         "v = DequantizeLinear(V[8,4]:uint16, 0.05, 1:uint16); y = MatMul(g, v)", {"W": 8}, opset=21),
    Cuts("floats of eight bits", "x[N,5] -> y; w = DequantizeLinear<axis=1>(W[5,8]:float8e4m3fn, S[8]);"
         "h = MatMul(x, w); k = QuantizeLinear(h, 0.5, 0:float8e4m3fn); g = DequantizeLinear(k, 0.5, 0:float8e4m3fn);"
         "y = MatMul(g, V[8,4])", {"W": 8}, opset=19),
    Cuts("QLinearConv", "x[N,3,6,6] -> y; p = QuantizeLinear(x, 0.03, 120:uint8);"
         "h = QLinearConv(p, 0.03, 120:uint8, W[8,3,3,3]:int8, S[8], Z[8]:int8, 0.5, 100:uint8, B[8]:int32);"
         "k = QLinearConv<group=8>(h, 0.5, 100:uint8, U[8,1,3,3]:int8, T[8], O[8]:int8, 9.0, 90:uint8);"
         "r = QLinearConv(k, 9.0, 90:uint8, V[4,8,1,1]:uint8, 0.01, 50:uint8, 20.0, 80:uint8);"
         "y = DequantizeLinear(r, 20.0, 80:uint8)", {"W": 8}),
    Cuts("QLinearConv grouped", "x[N,4,6,6] -> y; p = QuantizeLinear(x, 0.03, 120:uint8);"
         "h = QLinearConv(p, 0.03, 120:uint8, W[8,4,1,1]:int8, 0.01, 3:int8, 0.5, 100:uint8);"
         "k = QLinearConv<group=2>(h, 0.5, 100:uint8, U[6,4,1,1]:int8, T[6], O[6]:int8, 1.0, 90:uint8);"
         "y = DequantizeLinear(k, 1.0, 90:uint8)", {"W": 4}),
    Cuts("QLinearMatMul", INTEGER
         + "h = QLinearMatMul(p, 0.03, 120:uint8, W[6,8]:int8, S[8], Z[8]:int8, 1.0, 100:uint8);"
         "k = QLinearMatMul(h, 1.0, 100:uint8, V[8,4]:uint8, 0.05, 30:uint8, 9.0, 90:uint8);"
         "y = DequantizeLinear(k, 9.0, 90:uint8)", {"W": 8}),
    Cuts("QLinearMatMul of two activations", INTEGER
         + "a = QLinearMatMul(p, 0.03, 120:uint8, A[6,8]:int8, 0.01, 0:int8, 0.3, 100:uint8);"
         "b = QLinearMatMul(p, 0.03, 120:uint8, B[6,8]:int8, 0.01, 0:int8, 0.3, 130:uint8);"
         "t = Transpose<perm=[0,2,1]>(b); r = QLinearMatMul(a, 0.3, 100:uint8, t, 0.3, 130:uint8, 1.0, 90:uint8);"
         "y = DequantizeLinear(r, 1.0, 90:uint8)", {"A": 8}),
    Cuts("ConvInteger", "x[N,3,6,6] -> y; p, s, z = DynamicQuantizeLinear(x);"
         "a = ConvInteger(p, W[8,3,3,3]:uint8, z, 99:uint8);"
         "f = Cast<to=1>(a); h = Mul(f, 0.001); d, t, o = DynamicQuantizeLinear(h);"
         "b = ConvInteger(d, V[4,8,1,1]:uint8, o, 33:uint8); y = Cast<to=1>(b)", {"W": 8}),
    Cuts("dynamic quantization", "x[N,5,6] -> y; p, s, z = DynamicQuantizeLinear(x);"
         "a = MatMulInteger(p, W[6,8]:int8, z, Z[8]:int8); f = Cast<to=1>(a); m = Mul(f, s); c = Mul(m, S[8]);"
         "h = Add(c, B[8]); q, t, o = DynamicQuantizeLinear(h); b = MatMulInteger(q, V[8,4]:int8, o, 7:int8);"
         "e = Cast<to=1>(b); y = Mul(e, t)", {"W": 8}),
    Cuts("DynamicQuantizeMatMul", "x[N,5,6] -> y;"
         f"h = {MS}.DynamicQuantizeMatMul(x, W[6,8]:int8, S[8], Z[8]:int8, B[8]);"
         f"y = {MS}.DynamicQuantizeMatMul(h, V[8,4]:uint8, 0.01, 9:uint8)", {"W": 8}),
    Cuts("MatMulIntegerToFloat", "x[N,5,6] -> y; p, s, z = DynamicQuantizeLinear(x);"
         f"h = {MS}.MatMulIntegerToFloat(p, W[6,8]:int8, s, S[8], z, Z[8]:int8, B[8]);"
         "q, t, o = DynamicQuantizeLinear(h);"
         f"y = {MS}.MatMulIntegerToFloat(q, V[8,4]:uint8, t, 0.01, o, 9:uint8)", {"W": 8}),
    Cuts("QGemm", "x[N,6] -> y; p = QuantizeLinear(x, 0.03, 120:uint8);"
         f"h = {MS}.QGemm<transB=1>(p, 0.03, 120:uint8, W[8,6]:int8, S[8], Z[8]:int8, B[8]:int32, 0.5, 100:uint8);"
         f"y = {MS}.QGemm(h, 0.5, 100:uint8, V[8,4]:uint8, 0.01, 40:uint8)", {"W": 8}),
    Cuts("MatMulNBits", "x[N,5,32] -> y;"
         f"h = {MS}.MatMulNBits<K=32,N=7,bits=4,block_size=16>(x, W[7,2,8]:uint8, S[14]);"
         f"y = MatMul(h, V[7,4])", {"W": 7}),
    Cuts("MatMulNBits whose blocks go", "x[N,5,6] -> y; h = MatMul(x, W[6,64]);"
         f"y = {MS}.MatMulNBits<K=64,N=8,bits=4,block_size=16>(h, V[8,4,8]:uint8, S[32], _, _, B[8])", {"W": 4}),
    Cuts("MatMulNBits with zero points", f"x[N,5,32] -> y;"
         f"h = {MS}.MatMulNBits<K=32,N=6,bits=4,block_size=16>(x, W[6,2,8]:uint8, S[12], Z[6]:uint8);"
         f"y = MatMul(h, V[6,4])", {"W": 6}),
    Cuts("MatMulNBits whose zero points share a byte", "x[N,5,6] -> y; h = MatMul(x, W[6,64]);"
         f"y = {MS}.MatMulNBits<K=64,N=3,bits=4,block_size=16>(h, V[3,4,8]:uint8, S[3,4], Z[3,2]:uint8)", {"W": 2}),
    Cuts("the inputs of DynamicQuantizeLSTM", "x[7,3,6] -> y; h = MatMul(x, W[6,8]);"
         f"y = {MS}.DynamicQuantizeLSTM<hidden_size=5>(h, U[1,8,20]:uint8, R[1,5,20]:uint8, B[1,40], _, _, _, _,"
         "{0.01}, {100}:uint8, {0.01}, {100}:uint8)", {"W": 8}),
]  # fmt: skip

REFUSES = [
    Refuses("a block that is not whole", "x[N,5] -> y; h = MatMul(x, W[5,40]);"
            "v = DequantizeLinear<axis=0,block_size=16>(V[40,4]:int8, S[3,4]); y = MatMul(h, v)",
            {"W.1": "in blocks, the last of them a part"}, opset=21),
    Refuses("positions inside a block", "x[N,5] -> y; h = MatMul(x, W[5,64]);"
            "v = DequantizeLinear<axis=0,block_size=16>(V[64,4]:int8, S[4,4]); y = MatMul(h, v)",
            {"W.1": "only whole ones can go"}, opset=21),
    Refuses("zero points that share a byte", "x[N,5,6] -> y; h = MatMul(x, W[6,32]);"
            f"y = {MS}.MatMulNBits<K=32,N=4,bits=4,block_size=16>(h, V[4,2,8]:uint8, S[8], Z[4]:uint8)",
            {"W.1": "share a byte"}),
    Refuses("zero points of an odd number of blocks", "x[N,5,6] -> y; h = MatMul(x, W[6,48]);"
            f"y = {MS}.MatMulNBits<K=48,N=4,bits=4,block_size=16>(h, V[4,3,8]:uint8, S[12], Z[8]:uint8)",
            {"W.1": "share a byte"}),
    Refuses("units that are quantized at every step", f"x[7,3,6] -> y;"
            f"l = {MS}.DynamicQuantizeLSTM<hidden_size=5>(x, U[1,6,20]:uint8, R[1,5,20]:uint8, B[1,40], _, _, _, _,"
            "{0.01}, {100}:uint8, {0.01}, {100}:uint8); y = MatMul(l, V[5,4])", {"V.0": "all units together"}),
]  # fmt: skip


@each(CUTS)
def test_cuts(case: Cuts) -> None:
    prove(case)


@each(REFUSES)
def test_refuses(case: Refuses) -> None:
    refuse(case)
