"""What ONNX Runtime's optimisers write is pruned like what it was made of."""

from __future__ import annotations

from tests.rules.tables import Cuts, Refuses, each, image, prove, refuse, rows

MS = "com.microsoft"
HEAD = "x[N,3,6,6] -> y; p = QuantizeLinear(x, 0.03, 120:uint8); h = QLinearConv(p, 0.03, 120:uint8,"\
       " W[8,3,3,3]:int8, 0.01, 0:int8, 0.5, 100:uint8);"  # fmt: skip
TAIL = "r = QLinearConv(g, 0.4, 90:uint8, V[4,8,1,1]:int8, 0.01, 4:int8, 1.0, 80:uint8);"\
       "y = DequantizeLinear(r, 1.0, 80:uint8)"  # fmt: skip


def integers(body: str) -> str:
    """`body` between two convolutions of integers: it reads h[N,8,.,.] (scale 0.5, zero 100), makes g (0.4, 90)."""
    return f"{HEAD}{body};{TAIL}"


def encoder(body: str) -> str:
    """`body` after three projections: it reads q, k, v [N,5,12] and makes g [N,5,12]."""
    return f"x[N,5,6] -> y; q = MatMul(x, Q[6,12]); k = MatMul(x, K[6,12]); v = MatMul(x, V[6,12]); {body};"\
           "y = MatMul(g, O[12,6])"  # fmt: skip


CUTS = [
    Cuts("FusedConv", image(f"g = {MS}.FusedConv<activation=\"Relu\",pads=[1,1,1,1]>(h, U[6,8,3,3], B[6])", reads=6),
         {"W": 8, "U": 6}),
    Cuts("FusedConv in a residual",
         image(f"g = {MS}.FusedConv<activation=\"Relu\",pads=[1,1,1,1]>(h, U[8,8,3,3], B[8], h)"), {"W": 8}),
    Cuts("FusedConv depthwise", image(f"g = {MS}.FusedConv<group=8,activation=\"Clip\",activation_params=[0.0,6.0]>"
                                      "(h, U[8,1,3,3], B[8])"), {"W": 8}),
    Cuts("FusedGemm", "x[N,5] -> y;"
         f"h = {MS}.FusedGemm<transB=1,activation=\"Relu\">(x, W[8,5], B[8]); y = Gemm(h, V[8,4])", {"W": 8}),
    Cuts("FusedMatMul", rows(f"g = {MS}.FusedMatMul<alpha=0.5>(h, U[8,7])", reads=7), {"W": 8, "U": 7}),
    Cuts("FusedMatMul transB", rows(f"g = {MS}.FusedMatMul<transB=1>(h, U[7,8])", reads=7), {"W": 8, "U": 7}),
    Cuts("FusedMatMul transA", "x[5,6] -> y; t = Transpose(x); h = MatMul(x, W[6,8]); k = MatMul(x, K[6,7]);"
         f"s = {MS}.FusedMatMul<transA=1>(h, k); y = MatMul(s, V[7,4])", {"K": 7}),
    Cuts("FusedMatMul of queries and keys", encoder(f"s = {MS}.FusedMatMul<transB=1,alpha=0.3>(q, k);"
         "p = Softmax<axis=-1>(s); g = MatMul(p, v)"), {"Q": 12, "V": 12}),
    Cuts("FusedMatMul transBatch", "x[N,5,6] -> y; q = MatMul(x, Q[6,12]); r = Reshape(q, S{0,0,3,4});"
         f"k = MatMul(x, K[6,12]); l = Reshape(k, S); s = {MS}.FusedMatMul<transBatchA=1,transBatchB=1,transB=1>"
         "(r, l); y = ReduceSum<keepdims=0>(s, {1})", {"Q": 3, "Q#2": 4}),
    *(Cuts(name, rows(f"g = {MS}.{name}(h)"), {"W": 8}) for name in ("Gelu", "QuickGelu", "FastGelu")),
    Cuts("BiasGelu", rows(f"g = {MS}.BiasGelu(h, B[8])"), {"W": 8}),
    Cuts("FastGelu with bias", rows(f"g = {MS}.FastGelu(h, B[8])"), {"W": 8}),
    Cuts("ConvTransposeWithDynamicPads", image(f"g = {MS}.ConvTransposeWithDynamicPads<strides=[2,2]>"
                                               "(h, U[8,6,2,2], {0,0,0,0}, B[6])", reads=6), {"W": 8, "U": 6}),
    Cuts("GridSample", "x[N,3,6,6], t[N,4,4,2] -> y; h = Conv(x, W[8,3,3,3]);"
         f"g = {MS}.GridSample(h, t); y = Conv(g, V[4,8,1,1])", {"W": 8}),
    Cuts("Inverse", f"x[N,3,3] -> y; i = {MS}.Inverse(x); h = MatMul(i, W[3,8]); y = MatMul(h, V[8,2])", {"W": 8}),
    Cuts("Affine of old", image("g = Affine<alpha=2.0,beta=0.5>(h)"), {"W": 8}, opset=7),
    Cuts("old elementwise ones", image("a = ParametricSoftplus<alpha=1.0,beta=2.0>(h);"
                                       "g = ScaledTanh<alpha=1.5,beta=0.5>(a)"), {"W": 8}, opset=7),
    Cuts("Crop", image("g = Crop<border=[1,1,1,1]>(h)"), {"W": 8}, opset=7),
    Cuts("SkipLayerNormalization elsewhere", "x[N,5,6] -> y;"
         f"s, a, b, t = {MS}.SkipLayerNormalization<epsilon=1.0e-5>(x, x, G[6], C[6], D[6]);"
         "h = MatMul(s, W[6,8]); k = MatMul(h, V[8,6]); y = Add(k, t)", {"W": 8}),
    Cuts("SimplifiedLayerNormalization", rows("g = SimplifiedLayerNormalization<axis=-1,epsilon=0.7>(h, S[8])"),
         {"W": 8}),
    Cuts("SkipSimplifiedLayerNormalization", "x[N,5,6] -> y; h = MatMul(x, W[6,8]); k = MatMul(x, U[6,8]);"
         f"g, , , t = {MS}.SkipSimplifiedLayerNormalization<epsilon=0.7>(h, k, S[8], B[8]); u = Add(g, t);"
         "y = MatMul(u, V[8,4])", {"W": 8}),
    Cuts("SkipSimplifiedLayerNormalization without an epsilon", "x[N,5,6] -> y; h = MatMul(x, W[6,8]);"
         f"i = Mul(h, 0.000001); g = {MS}.SkipSimplifiedLayerNormalization(i, i, S[8]); y = MatMul(g, V[8,4])",
         {"W": 8}),
    Cuts("SimplifiedLayerNormalization elsewhere", "x[N,5,6] -> y; s = SimplifiedLayerNormalization<axis=-1>(x, G[6]);"
         "h = MatMul(s, W[6,8]); y = MatMul(h, V[8,6])", {"W": 8}),
    Cuts("EmbedLayerNormalization", "i[N,5]:int64 -> y; j = Cast<to=6>(i);"
         f"e, m = {MS}.EmbedLayerNormalization(j, _, A[9,6], B[8,6], _, G[6], C[6]); h = MatMul(e, W[6,8]);"
         "y = MatMul(h, V[8,6])", {"W": 8}),
    Cuts("QLinearAdd", integers(f"g = {MS}.QLinearAdd(h, 0.5, 100:uint8, h, 0.5, 100:uint8, 0.4, 90:uint8)"), {"W": 8}),
    Cuts("QLinearMul", integers(f"g = {MS}.QLinearMul(h, 0.5, 100:uint8, U[8,1,1]:uint8, 0.1, 9:uint8, 0.4, 90:uint8)"),
         {"W": 8}),
    Cuts("QLinearLeakyRelu", integers(f"g = {MS}.QLinearLeakyRelu<alpha=0.2>(h, 0.5, 100:uint8, 0.4, 90:uint8)"),
         {"W": 8}),
    Cuts("QLinearSigmoid", integers(f"g = {MS}.QLinearSigmoid(h, 0.5, 100:uint8, 0.4, 90:uint8)"), {"W": 8}),
    Cuts("QLinearAveragePool", integers(f"g = {MS}.QLinearAveragePool<kernel_shape=[2,2]>"
                                        "(h, 0.5, 100:uint8, 0.4, 90:uint8)"), {"W": 8}),
    Cuts("QLinearGlobalAveragePool", integers(f"g = {MS}.QLinearGlobalAveragePool(h, 0.5, 100:uint8, 0.4, 90:uint8)"),
         {"W": 8}),
    Cuts("QLinearConcat", integers("k = QLinearConv(h, 0.5, 100:uint8, U[3,8,1,1]:int8, 0.01, 0:int8, 0.3, 70:uint8);"
         "l = QLinearConv(h, 0.5, 100:uint8, T[5,8,1,1]:int8, 0.01, 0:int8, 0.2, 60:uint8);"
         f"g = {MS}.QLinearConcat<axis=1>(0.4, 90:uint8, k, 0.3, 70:uint8, l, 0.2, 60:uint8)"),
         {"W": 8, "U": 3, "T": 5}),
    Cuts("QLinearWhere", integers(f"g = {MS}.QLinearWhere(C{{1,0,1,1}}[1,1,1,4]:bool, h, 0.5, 100:uint8,"
         "h, 0.5, 100:uint8, 0.4, 90:uint8)"), {"W": 8}),
    Cuts("channels last", HEAD + f"t = Transpose<perm=[0,2,3,1]>(h);"
         f"a = {MS}.QLinearConv<channels_last=1,pads=[1,1,1,1],group=8>(t, 0.5, 100:uint8, U[8,1,3,3]:int8, 0.01,"
         "0:int8, 0.5, 110:uint8);"
         f"c = {MS}.QLinearAveragePool<channels_last=1,kernel_shape=[2,2]>(a, 0.5, 110:uint8, 0.4, 90:uint8);"
         f"d = {MS}.NhwcMaxPool<kernel_shape=[2,2]>(c);"
         f"r = {MS}.QLinearConv<channels_last=1>(d, 0.4, 90:uint8, V[4,8,1,1]:int8, 0.01, 4:int8, 1.0, 80:uint8);"
         "y = DequantizeLinear(r, 1.0, 80:uint8)", {"W": 8}),
]  # fmt: skip

REFUSES = [
    Refuses("SkipLayerNormalization", rows(f"g = {MS}.SkipLayerNormalization(h, h, G[8], C[8])"),
            {"W.1": "share the statistics"}),
    Refuses("EmbedLayerNormalization itself", "i[N,5]:int64 -> y; j = Cast<to=6>(i);"
            f"e, m = {MS}.EmbedLayerNormalization(j, _, A[9,6], B[8,6], _, G[6], C[6]); y = MatMul(e, V[6,4])",
            {"A.1": "share the statistics", "V.0": "share the statistics"}),
    Refuses("ImageScaler", image("g = ImageScaler<scale=2.0,bias=[1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0]>(h)"),
            {"W.0": "biases are an attribute"}, opset=7),
    Refuses("Inverse itself", f"x[N,3] -> y; a = MatMul(x, W[3,9]); r = Reshape(a, {{-1,3,3}}); i = {MS}.Inverse(r);"
            "y = MatMul(i, V[3,2])", {"W.1": "Inverse mixes"}),
]  # fmt: skip


@each(CUTS)
def test_cuts(case: Cuts) -> None:
    prove(case)


@each(REFUSES)
def test_refuses(case: Refuses) -> None:
    refuse(case)
