"""What is multiplied and added up over a dimension is silent where it is zero; groups and batches stay apart."""

from __future__ import annotations

from tests.rules.tables import Cuts, Refuses, each, image, prove, refuse, rows

PAD = "pads=[1,1,1,1]"

CUTS = [
    Cuts("Conv with bias", image("g = Conv(h, U[6,8,1,1], B[6])", reads=6), {"W": 8, "U": 6}),
    Cuts("Conv of one dimension", "x[N,3,9] -> y; h = Conv(x, W[8,3,3]); y = Conv(h, V[4,8,2])", {"W": 8}),
    Cuts("Conv of three dimensions", "x[N,3,4,4,4] -> y; h = Conv(x, W[8,3,2,2,2]); y = Conv(h, V[4,8,1,1,1])",
         {"W": 8}),
    Cuts("Conv that pads by itself", image("g = Conv<auto_pad=\"SAME_UPPER\",strides=[2,2]>(h, U[6,8,3,3])", reads=6),
         {"W": 8, "U": 6}),
    Cuts("Conv with dilation", image("g = Conv<dilations=[2,2]>(h, U[6,8,2,2])", reads=6), {"W": 8, "U": 6}),
    Cuts("Conv of constant size without a batch", "x[1,3,6,6] -> y; h = Conv(x, W[8,3,3,3]); y = Conv(h, V[4,8,1,1])",
         {"W": 8}),
    Cuts("depthwise", image(f"g = Conv<group=8,{PAD}>(h, U[8,1,3,3], B[8])"), {"W": 8}),
    Cuts("depthwise that makes three of one", image("g = Conv<group=8>(h, U[24,1,3,3])", reads=24), {"W": 8, "U": 3}),
    Cuts("grouped", image("g = Conv<group=2>(h, U[12,4,3,3])", reads=12), {"W": 2, "W#2": 4, "U": 6}),
    Cuts("grouped after grouped", image("k = Conv<group=4>(h, U[8,2,1,1]); g = Conv<group=2>(k, T[8,4,1,1])"),
         {"W": 2, "W#2": 2, "W#3": 2, "U": 2, "T": 4}),
    Cuts("depthwise in a residual", image(f"k = Conv<group=8,{PAD}>(h, U[8,1,3,3]); g = Add(h, k)"),
         {"W": 8}),
    Cuts("one weight of two convolutions", image("k = Conv(h, U[8,8,1,1]); g = Conv(k, U)"), {"W": 8}),
    Cuts("one weight of two branches", "x[N,3,6,6], z[N,3,6,6] -> y; a = Conv(x, W[8,3,3,3]); b = Conv(z, W);"
         "g = Sub(a, b); y = Conv(g, V[4,8,1,1])", {"W": 8}),
    Cuts("weights in Constant nodes", "x[N,3] -> y; W = Constant<value=float[3,4] {1,2,3,4,5,6,7,8,9,1,2,3}>();"
         "h = MatMul(x, W); B = Constant<value_floats=[1.0,2.0,-3.0,1.0]>(); g = Add(h, B); y = MatMul(g, V[4,2])",
         {"W": 4}),
    Cuts("a weight that the graph transposes", rows("T = Transpose<perm=[1,0]>(U[6,8]); g = MatMul(h, T)", reads=6),
         {"W": 8, "U": 6}),
    Cuts("a weight that the graph scales", image("T = Mul(U[6,8,1,1], 0.5); g = Conv(h, T)", reads=6),
         {"W": 8, "U": 6}),
    Cuts("a weight that a sum reads too", rows("u = ReduceSum<keepdims=0>(U[8,6], {1}); a = Add(h, u);"
                                               "g = MatMul(a, U)", reads=6), {"W": 8, "U": 6}),
    Cuts("initializers that are graph inputs", image("g = Relu(h)"), {"W": 8}, opset=8, ir_version=3),
    Cuts("ConvTranspose", image("g = ConvTranspose<strides=[2,2]>(h, U[8,6,2,2], B[6])", reads=6), {"W": 8, "U": 6}),
    Cuts("ConvTranspose grouped", image("g = ConvTranspose<group=2>(h, U[8,3,2,2], B[6])", reads=6),
         {"W": 2, "W#2": 4, "U": 3}),
    Cuts("ConvTranspose depthwise", image("g = ConvTranspose<group=8>(h, U[8,1,2,2])"), {"W": 8}),
    Cuts("Gemm transB", "x[N,5] -> y; h = Gemm<transB=1>(x, W[8,5], B[8]); y = Gemm<transB=1>(h, V[4,8])", {"W": 8}),
    Cuts("Gemm plain", "x[N,5] -> y; h = Gemm(x, W[5,8], B[8]); y = Gemm(h, V[8,4])", {"W": 8}),
    Cuts("Gemm transA", "x[5,7] -> y; h = Gemm<transA=1>(W[5,8], x); y = Gemm(V[4,8], h)", {"W": 8}),
    Cuts("Gemm scaled", "x[N,5] -> y; h = Gemm<alpha=0.5,beta=2.0>(x, W[5,8], B[8]); y = Gemm<alpha=3.0>(h, V[8,4])",
         {"W": 8}),
    Cuts("Gemm C of one row", "x[N,5] -> y; h = Gemm(x, W[5,8], B[1,8]); y = Gemm(h, V[8,4])", {"W": 8}),
    Cuts("Gemm C of one value", "x[N,5] -> y; h = Gemm(x, W[5,8], B[1]); y = Gemm(h, V[8,4])", {"W": 8}),
    Cuts("Gemm C without axes", "x[N,5] -> y; h = Gemm(x, W[5,8], 0.5); y = Gemm(h, V[8,4])", {"W": 8}),
    Cuts("Gemm C of one column", "x[5,7] -> y; h = Gemm(W[8,5], x, B[8,1]); y = Gemm(V[4,8], h)", {"W": 8}),
    Cuts("Gemm C that another product makes", "x[N,5] -> y; c = Gemm(x, U[5,8]); h = Gemm(x, W[5,8], c);"
         "y = Gemm(h, V[8,4])", {"U": 8}),
    Cuts("MatMul of rank two", "x[N,5] -> y; h = MatMul(x, W[5,8]); y = MatMul(h, V[8,4])", {"W": 8}),
    Cuts("MatMul of rank four", "x[N,2,3,5] -> y; h = MatMul(x, W[5,8]); y = MatMul(h, V[8,4])", {"W": 8}),
    Cuts("MatMul with a vector on the right", "x[N,5] -> y; h = MatMul(x, W[5,8]); y = MatMul(h, V[8])", {"W": 8}),
    Cuts("MatMul with a vector on the left", "x[8,5] -> y; a = Mul(V[8], U[8]); y = MatMul(a, x)", {}),
    Cuts("MatMul with the weight on the left", "x[N,5,6] -> y; h = MatMul(W[8,5], x); y = MatMul(V[4,8], h)", {"W": 8}),
    Cuts("MatMul of batches of weights", "x[N,1,7,5] -> y; h = MatMul(x, W[3,5,8]); y = MatMul(h, V[3,8,4])",
         {"W": 8}),
    Cuts("MatMul whose batches are prunable", "x[N,1,7,5] -> y; h = MatMul(x, W[3,5,8]); k = MatMul(h, V[3,8,4]);"
         "y = ReduceSum<keepdims=0>(k, {1})", {"W": 3, "W#2": 8}),
    Cuts("MatMul of two activations", "x[N,5,6] -> y; q = MatMul(x, Q[6,8]); k = MatMul(x, K[6,8]);"
         "t = Transpose<perm=[0,2,1]>(k); s = MatMul(q, t); p = Softmax<axis=-1>(s); v = MatMul(x, V[6,9]);"
         "o = MatMul(p, v); y = MatMul(o, O[9,6])", {"Q": 8, "V": 9}),
    Cuts("Einsum", "x[N,5,6] -> y; h = Einsum<equation=\"btc,cd->btd\">(x, W[6,8]); y = MatMul(h, V[8,4])", {"W": 8}),
    Cuts("Einsum of two activations", "x[N,5,6] -> y; q = MatMul(x, Q[6,8]); k = MatMul(x, K[6,8]);"
         "y = Einsum<equation=\"bic,bjc->bij\">(q, k)", {"Q": 8}),
    Cuts("Einsum with heads", "x[N,5,6] -> y; q = Einsum<equation=\"btc,chd->bthd\">(x, Q[6,2,4]);"
         "y = Einsum<equation=\"bthd,hdc->btc\">(q, O[2,4,6])", {"Q": 2, "Q#2": 4}),
    Cuts("Einsum outer product", "x[N,5] -> y; a = MatMul(x, A[5,6]); b = MatMul(x, B[5,7]);"
         "s = Einsum<equation=\"ni,nj->nij\">(a, b); y = Einsum<equation=\"nij,ijk->nk\">(s, T[6,7,3])",
         {"A": 6, "B": 7}),
    Cuts("Einsum with three operands", "x[N,5] -> y; a = MatMul(x, A[5,6]); b = MatMul(x, B[5,6]);"
         "y = Einsum<equation=\"ni,ni,ik->nk\">(a, b, T[6,3])", {"A": 6}),
    Cuts("Einsum with an ellipsis", "x[N,5,6] -> y; h = Einsum<equation=\"...c,cd->...d\">(x, W[6,8]);"
         "y = MatMul(h, V[8,4])", {"W": 8}),
    Cuts("Einsum with an ellipsis that is broadcast", "x[N,5,6] -> y; h = Einsum<equation=\"...c,...cd->...d\">"
         "(x, W[1,5,6,8]); y = MatMul(h, V[8,4])", {"W": 8}),
    Cuts("Einsum without an arrow", "x[N,6] -> y; h = Einsum<equation=\"ij,jk\">(x, W[6,8]); y = MatMul(h, V[8,4])",
         {"W": 8}),
    Cuts("Einsum without an arrow, letters out of order", "x[N,6] -> y; h = Einsum<equation=\"zb,ba\">(x, W[6,8]);"
         "y = Einsum<equation=\"ab,ac\">(h, V[8,4])", {"W": 8}),
    Cuts("Einsum of an ellipsis without an arrow", "x[N,5,6] -> y; h = Einsum<equation=\"...c,cd\">(x, W[6,8]);"
         "y = MatMul(h, V[8,4])", {"W": 8}),
    Cuts("Einsum that takes a diagonal", "x[N,5] -> y; T = Mul(A[8,8], B[8,1]); d = Einsum<equation=\"ii->i\">(T);"
         "h = MatMul(x, W[5,8]); g = Mul(h, d); y = MatMul(g, V[8,4])", {"A": 8}),
    Cuts("Einsum that adds up a diagonal", "x[8,5] -> y; h = MatMul(x, W[5,8]); g = Gemm(h, U[8,8]);"
         "T = MatMul(A[6,8], B[8,6]); s = Einsum<equation=\"ii->\">(T); y = Mul(g, s)", {"W": 8, "A": 6, "A#2": 8}),
    Cuts("Einsum that repeats one index", "x[N,5] -> y; h = Einsum<equation=\"nc,cd->nd\">(x, W[5,8]);"
         "y = Einsum<equation=\"nd,md->nm\">(h, V[1,8])", {"W": 8}),
    Cuts("Einsum that adds up what one operand has", "x[N,5] -> y; h = MatMul(x, W[5,8]);"
         "y = Einsum<equation=\"nd,m->nm\">(h, V[3])", {"W": 8}),
    Cuts("DeformConv", image("o = Conv(x, O[18,3,3,3]); m = Conv(x, M[9,3,3,3]);"
         "g = DeformConv<kernel_shape=[3,3]>(h, U[7,8,3,3], o, B[7], m)", reads=7), {"W": 8, "U": 7}, 22),
    Cuts("DeformConv whose channels move in parts", image("o = Conv(x, O[36,3,3,3]);"
         "g = DeformConv<kernel_shape=[3,3],offset_group=2>(h, U[7,8,3,3], o)", reads=7),
         {"W": 2, "W#2": 4, "U": 7}, 22),
    Cuts("DeformConv in groups", image("o = Conv(x, O[18,3,3,3]);"
         "g = DeformConv<kernel_shape=[3,3],group=2>(h, U[6,4,3,3], o)", reads=6), {"W": 2, "W#2": 4, "U": 3}, 22),
    Cuts("attention in heads", "x[N,5,12] -> y; q = MatMul(x, Q[12,12]); k = MatMul(x, K[12,12]);"
         "v = MatMul(x, V[12,12]);"
         "a = Reshape(q, S{0,0,3,4}); b = Reshape(k, S); c = Reshape(v, S); d = Transpose<perm=[0,2,1,3]>(a);"
         "e = Transpose<perm=[0,2,3,1]>(b); f = Transpose<perm=[0,2,1,3]>(c); s = MatMul(d, e);"
         "p = Softmax<axis=-1>(s);"
         "o = MatMul(p, f); t = Transpose<perm=[0,2,1,3]>(o); r = Reshape(t, {0,0,12}); y = MatMul(r, O[12,12])",
         {"Q": 3, "Q#2": 4, "V": 4}),
]  # fmt: skip

REFUSES = [
    Refuses("a kernel's window", image("g = Relu(h)"), {"W.2": "window", "W.3": "window"}),
    Refuses("an operator that nobody knows", "x[N,5,6] -> y; h = MatMul(x, W[6,8]);"
            "g = com.microsoft.ExpandDims(h, 0:int32); y = MatMul(g, V[8,4])",
            {"W.1": "no rule for com.microsoft::ExpandDims"}),
    Refuses("a weight that is a graph input alone",
            "x[N,3,6,6], W[8,3,3,3] -> y; h = Conv(x, W); y = Conv(h, V[4,8,1,1])", {"V.1": "a graph input"}),
]  # fmt: skip


@each(CUTS)
def test_cuts(case: Cuts) -> None:
    prove(case)


@each(REFUSES)
def test_refuses(case: Refuses) -> None:
    refuse(case)
