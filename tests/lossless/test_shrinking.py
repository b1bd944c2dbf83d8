"""What is dead goes, what only looks dead stays, and no output changes: run in ONNX Runtime at batch 1 and 3."""

from __future__ import annotations

from tests.lossless.tables import Goes, check, each
from tests.rules.tables import image, rows

PLAIN = "x[N,3,6,6] -> y; h = Conv<pads=[1,1,1,1]>(x, W[8,3,3,3], B[8]); g = Relu(h); y = Conv(g, V[4,8,1,1], C[4])"
PADDED = "x[N,3,6,6] -> y; h = Conv(x, W[8,3,3,3], B[8]); g = Relu(h); y = Conv<pads=[1,1,1,1]>(g, V[4,8,3,3], C[4])"
NORMED = ("x[N,3,6,6] -> y; h = Conv(x, W[8,3,3,3]); n = BatchNormalization(h, S[8], B[8], M[8], R[8]); g = Relu(n);"
          "y = Conv(g, V[4,8,3,3], C[4])")  # fmt: skip
MLP = "x[N,6] -> y; h = MatMul(x, W[6,8]); a = Add(h, B[8]); g = Tanh(a); k = MatMul(g, V[8,4]); y = Add(k, C[4])"
ATTENTION = """
    x[N,5,12] -> y
    q = MatMul(x, Q[12,12]); k = MatMul(x, K[12,12]); v = MatMul(x, V[12,12])
    qr = Reshape(q, {0,0,3,4}); kr = Reshape(k, {0,0,3,4}); vr = Reshape(v, {0,0,3,4})
    qt = Transpose<perm=[0,2,1,3]>(qr); kt = Transpose<perm=[0,2,3,1]>(kr); vt = Transpose<perm=[0,2,1,3]>(vr)
    s = MatMul(qt, kt); p = Softmax(s); o = MatMul(p, vt)
    t = Transpose<perm=[0,2,1,3]>(o); r = Reshape(t, {0,0,12}); y = MatMul(r, O[12,12])
"""
HEAD = slice(4, 8)

UNREAD = [
    Goes("nobody reads it", PLAIN, [("V", (1, [2, 5]), 0.0)], {"unread": 2}, {"W": (6, 3, 3, 3), "V": (4, 6, 1, 1)}),
    Goes("nobody reads it although a border does", PADDED, [("V", (1, 2), 0.0)], {"unread": 1}),
    Goes("one weight that is not zero keeps it", PLAIN, [("V", (1, 2), [[[0.0]], [[0.0]], [[0.5]], [[0.0]]])], {}),
    Goes("both of two readers", image("k = Conv(h, U[8,8,1,1]); g = Concat<axis=1>(h, k)", reads=16),
         [("V", (1, 3), 0.0), ("U", (1, 3), 0.0)], {"unread": 1}),
    Goes("one of two readers does not do", image("k = Conv(h, U[8,8,1,1]); g = Concat<axis=1>(h, k)", reads=16),
         [("V", (1, 3), 0.0)], {}),
    Goes("one index stays", PLAIN, [("V", slice(None), 0.0)], {"unread": 7}, {"W": (1, 3, 3, 3)}),
    Goes("a chain dies from its end", "x[N,6] -> y; a = MatMul(x, A[6,8]); b = Tanh(a); c = MatMul(b, D[8,8]);"
         "d = Tanh(c); y = MatMul(d, E[8,4])", [("E", [1, 2, 3], 0.0), ("D", (1, [0, 4, 5, 6, 7]), 0.0)],
         {"unread": 10, "zero": 4}, {"A": (6, 1), "D": (1, 1)}),
    Goes("what only the dead read is dead", "x[N,6] -> y; a = MatMul(x, A[6,8]); b = Tanh(a); c = MatMul(b, D[8,8]);"
         "d = Tanh(c); y = MatMul(d, E[8,4])", [("E", [1, 2], 0.0), ("D", [5], 0.0), ("D", (1, [1, 2]), 0.25)],
         {"unread": 3}, {"A": (6, 7), "D": (7, 6)}),
    Goes("a head whose output nobody reads", ATTENTION, [("O", HEAD, 0.0)], {"unread": 1},
         {"Q": (12, 8), "O": (8, 12)}),
    Goes("weights behind a Transpose", "x[N,6] -> y; h = MatMul(x, W[6,8]); g = Tanh(h); t = Transpose(V[4,8]);"
         "y = MatMul(g, t)", [("V", (1, [2, 5]), 0.0)], {"unread": 2}, {"W": (6, 6), "V": (4, 6)}),
    Goes("quantized weights are zero at their zero point", image("q = DequantizeLinear(V[4,8,1,1]:int8, 0.02, 3:int8);"
         "y = Conv(h, q)").replace("; y = Conv(g, V[4,8,1,1])", ""), [("V", (1, 2), 3)], {"unread": 1}),
    Goes("a transposed convolution with groups",
         image("t = ConvTranspose<group=2>(h, T[8,3,2,2]); g = Relu(t)", reads=6),
         [("T", [1, 5], 0.0)], {"unread": 1}, {"T": (6, 3, 2, 2)}),
    Goes("a unit of an LSTM that nobody reads",
         "x[5,N,6] -> y; a, b = LSTM<hidden_size=4>(x, W[1,16,6], R[1,16,4]); s = Squeeze(a, {1});"
         "y = MatMul(s, V[4,3])", [("R", (2, 1), 0.0), ("V", 1, 0.0)],
         {"outputs": 1, "unread": 1}, {"W": (1, 12, 6), "R": (1, 12, 3), "V": (3, 3)}),
    Goes("integers are zero at the zero point that the operator has", "x[N,3,6,6] -> y;"
         "p = QuantizeLinear(x, 0.03, 120:uint8); h = QLinearConv(p, 0.03, 120:uint8, W[8,3,3,3]:int8, 0.01, 0:int8,"
         "0.5, 100:uint8); r = QLinearConv(h, 0.5, 100:uint8, V[4,8,1,1]:int8, 0.01, 4:int8, 1.0, 80:uint8);"
         "y = DequantizeLinear(r, 1.0, 80:uint8)", [("V", (1, [2, 5]), 4)], {"unread": 2}, {"W": (6, 3, 3, 3)}),
    Goes("but not at one that is made while the model runs", "x[N,6], z:int8 -> y;"
         "p = QuantizeLinear(x, 0.03, 120:uint8); h = MatMulInteger(p, W[6,8]:int8, 120:uint8, 3:int8);"
         "f = Cast<to=1>(h); q = QuantizeLinear(f, 90.0, 120:uint8); r = MatMulInteger(q, V[8,4]:int8, 120:uint8, z);"
         "y = Cast<to=1>(r)", [("V", [2, 5], 0)], {}),
]  # fmt: skip

QUANTIZED = ("x[N,3,6,6] -> y; p = QuantizeLinear(x, 0.03, 120:uint8); q = DequantizeLinear(p, 0.03, 120:uint8);"
             "w = DequantizeLinear<axis=0>(W[8,3,3,3]:int8, S[8], Z[8]:int8);"
             "b = DequantizeLinear<axis=0>(B[8]:int32, T[8]); c = Conv(q, w, b); h = Relu(c);"
             "k = QuantizeLinear(h, 0.05, 10:uint8); g = DequantizeLinear(k, 0.05, 10:uint8);"
             "v = DequantizeLinear(V[4,8,1,1]:int8, 0.01, 3:int8); y = Conv(g, v)")  # fmt: skip

ZERO = [
    Goes("a quantized filter at its zero points", QUANTIZED, [("Z", [1, 6], 5), ("W", [1, 6], 5), ("B", [1, 6], 0)],
         {"zero": 2}, {"W": (6, 3, 3, 3), "S": (6,), "Z": (6,), "B": (6,), "T": (6,), "V": (4, 6, 1, 1)}),
    Goes("a quantized filter with a bias below zero", QUANTIZED,
         [("Z", [1, 6], 5), ("W", [1, 6], 5), ("B", [1, 6], -3)], {"zero": 2}),
    Goes("a quantized filter that is 0 beside its zero point", QUANTIZED,
         [("Z", [1, 6], 5), ("W", [1, 6], 0), ("B", [1, 6], 0)], {}),
    Goes("a quantized filter with a bias above zero", QUANTIZED,
         [("Z", [1, 6], 5), ("W", [1, 6], 5), ("B", [1, 6], 3)], {},
         left={"the weights that read it are computed or quantized": 2}),
    Goes("weights and bias that make it are zero", PLAIN, [("W", [1, 6], 0.0), ("B", [1, 6], 0.0)], {"zero": 2}),
    Goes("also where a border is padded", PADDED, [("W", [1, 6], 0.0), ("B", [1, 6], 0.0)], {"zero": 2}),
    Goes("through pools, resizes and gates",
         image("p = MaxPool<kernel_shape=[2,2]>(h); q = AveragePool<kernel_shape=[2,2],pads=[1,1,1,1],"
               "count_include_pad=1>(p); r = Resize<mode=\"cubic\">(q, _, {1.0,1.0,2.0,2.0}); s = Sigmoid(x);"
               "t = ReduceMean<axes=[1,2,3]>(s); g = Mul(r, t)"), [("W", 3, 0.0)], {"zero": 1}),
    Goes("Sigmoid does not map zero to zero", PADDED.replace("Relu", "Sigmoid"),
         [("W", [1], 0.0), ("B", [1], 0.0)], {}, left={"what reads it pads with zeros": 1}),
    Goes("a batch norm without scale and bias", NORMED, [("S", [0, 7], 0.0), ("B", [0, 7], 0.0)], {"zero": 2}),
    Goes("both branches of a residual", image("k = Conv<pads=[1,1,1,1]>(x, U[8,3,3,3]); g = Add(h, k)"),
         [("W", 2, 0.0), ("U", 2, 0.0)], {"zero": 1}),
    Goes("one branch of a residual does not do", image("k = Conv<pads=[1,1,1,1]>(x, U[8,3,3,3]); g = Add(h, k)"),
         [("W", 2, 0.0)], {}),
    Goes("a concatenation remembers which", image("k = Relu(h); g = Concat<axis=1>(k, h)", reads=16),
         [("W", 2, 0.0)], {"zero": 1}, {"V": (4, 14, 1, 1)}),
    Goes("a flattened map goes whole",
         "x[N,3,6,6] -> y; h = Conv(x, W[8,3,3,3]); f = Flatten(h); y = Gemm(f, V[128,4])",
         [("W", 2, 0.0)], {"zero": 1}, {"V": (112, 4)}),
    Goes("a channel shuffle carries it",
         "x[N,4,6,6] -> y; h = Conv<group=2>(x, W[8,2,1,1]); r = Reshape(h, {0,2,4,6,6});"
         "t = Transpose<perm=[0,2,1,3,4]>(r); f = Reshape(t, {0,8,6,6}); y = Conv(f, V[4,8,1,1])",
         [("W", [1, 5], 0.0)], {"zero": 1}, {"V": (4, 6, 1, 1)}),
    Goes("a depthwise convolution carries it",
         image("d = Conv<group=8,pads=[1,1,1,1]>(h, D[8,1,3,3]); g = Relu(d)"), [("W", 2, 0.0)], {"zero": 1}),
    Goes("a depthwise convolution makes it", image("g = Conv<group=8,pads=[1,1,1,1]>(h, D[8,1,3,3])"),
         [("D", 2, 0.0)], {"zero": 1}, {"W": (7, 3, 3, 3)}),
    Goes("a head without values", ATTENTION, [("V", (1, HEAD), 0.0)], {"zero": 1}, {"Q": (12, 8), "O": (8, 12)}),
    Goes("queries that are zero leave equal scores", ATTENTION, [("Q", (1, 1), 0.0), ("Q", (1, 5), 0.0),
                                                                ("Q", (1, 9), 0.0)], {"zero": 1}, {"K": (12, 9)}),
    Goes("padded channels are zeros", image("g = Pad(h, {0,0,0,0,0,4,0,0})", reads=12),
         [], {"zero": 3}, {"V": (4, 9, 1, 1)}),
]  # fmt: skip

CONSTANT = [
    Goes("a bias alone is folded", PLAIN, [("W", [1, 6], 0.0)], {"constant": 2}, {"V": (4, 6, 1, 1), "C": (4,)}),
    Goes("a batch norm without scale", NORMED, [("S", [0, 7], 0.0)], {"constant": 2}, {"S": (6,)}),
    Goes("a reader gets a bias", image("g = Sigmoid(h)"), [("W", 2, 0.0)], {"constant": 1}, {"V_bias": (4,)}),
    Goes("borders of zeros break it", PADDED, [("W", 1, 0.0), ("B", 1, 0.5)], {},
         left={"what reads it pads with zeros": 1}),
    Goes("a matrix product and the sum after it", MLP, [("W", (1, 3), 0.0)], {"constant": 1}, {"V": (7, 4)}),
    Goes("a matrix product without a sum", rows("b = Add(h, B[8]); g = Tanh(b)"), [("W", (1, 3), 0.0)], {},
         left={"what reads it has no bias to take it": 1}),
    Goes("a Gemm with factors", "x[N,6] -> y; h = Gemm(x, W[6,8], B[8]); g = Tanh(h);"
         "y = Gemm<alpha=0.5,beta=2.0,transB=1>(g, V[4,8], C[1,4])", [("W", (1, [3, 4]), 0.0)], {"constant": 2}),
    Goes("a Gemm whose bias is one number", "x[N,6] -> y; h = Gemm(x, W[6,8], B[8]); g = Tanh(h);"
         "y = Gemm(g, V[8,4], 0.5)", [("W", (1, 3), 0.0)], {"constant": 1}),
    Goes("a bias that two share", "x[N,6] -> y, z; h = Gemm(x, W[6,8], B[8]); g = Tanh(h); y = Gemm(g, V[8,4], C[4]);"
         "z = Gemm(x, U[6,4], C)", [("W", (1, 3), 0.0)], {"constant": 1}),
    Goes("a weight that two share", "x[N,6] -> y, z; h = Gemm(x, W[6,8], B[8]); g = Tanh(h); k = Sigmoid(h);"
         "y = Gemm(g, V[8,4], C[4]); z = Gemm(k, V, D[4])", [("W", (1, 3), 0.0)], {"constant": 1}, {"V": (7, 4)}),
    Goes("constants meet through a chain of sums and gates",
         image("a = Add(h, S[8,1,1]); b = Mul(a, T[8,1,1]); c = Clip(b, -0.4, 0.4); g = Div(c, 3.0)"),
         [("W", [2, 5], 0.0)], {"constant": 2}),
    Goes("a mean of a constant is it", image("p = GlobalAveragePool(h); b = Add(p, S[8,1,1]); g = Sigmoid(b)"),
         [("W", 2, 0.0)], {"constant": 1}),
    Goes("in a convolution with groups", image("t = Conv<group=2>(h, T[6,4,1,1], D[6]); g = Relu(t)", reads=6)
         .replace("W[8,3,3,3]", "W[8,3,3,3], B[8]"), [("W", [1, 5], 0.0)], {"constant": 1}, {"T": (6, 3, 1, 1)}),
    Goes("in a transposed convolution of one tap", image("t = ConvTranspose(h, T[8,6,1,1]); g = Relu(t)", reads=6)
         .replace("W[8,3,3,3]", "W[8,3,3,3], B[8]"), [("W", 1, 0.0)], {"constant": 1}, {"T": (7, 6, 1, 1)}),
    Goes("taps that reach a place or not", image("t = ConvTranspose(h, T[8,6,2,2]); g = Relu(t)", reads=6)
         .replace("W[8,3,3,3]", "W[8,3,3,3], B[8]"), [("W", 1, 0.0)], {}, left={"what reads it pads with zeros": 1}),
    Goes("in half precision", "x[N,6]:float16 -> y; h = Gemm(x, W[6,8]:float16, B[8]:float16); g = Relu(h);"
         "y = Gemm(g, V[8,4]:float16, C[4]:float16)", [("W", (1, 3), 0.0)], {"constant": 1}),
    Goes("all channels are constants", PLAIN, [("W", slice(None), 0.0)], {"constant": 7}, {"W": (1, 3, 3, 3)}),
]  # fmt: skip

DUPLICATE = [
    Goes("equal weights and biases", PADDED, [("W", [2, 5], ("like", 0)), ("B", [2, 5], ("like", 0))],
         {"duplicate": 2}, {"V": (4, 6, 3, 3)}),
    Goes("equal weights and another bias", PADDED, [("W", 2, ("like", 0))], {}),
    Goes("equal in all four parameters of the norm",
         NORMED, [(name, 2, ("like", 0)) for name in ("W", "S", "B", "M", "R")], {"duplicate": 1}),
    Goes("another variance", NORMED, [(name, 2, ("like", 0)) for name in ("W", "S", "B", "M")], {}),
    Goes("twins of twins", "x[N,6] -> y; a = Gemm(x, A[6,8]); b = Tanh(a); c = Gemm(b, D[8,8]); d = Tanh(c);"
         "y = Gemm(d, E[8,4])", [("A", (1, 3), ("like", 0)), ("D", (1, 6), ("like", 1))], {"duplicate": 2}),
    Goes("a flattened map", "x[N,3,6,6] -> y; h = Conv(x, W[8,3,3,3]); f = Flatten(h); y = Gemm(f, V[128,4])",
         [("W", 2, ("like", 7))], {"duplicate": 1}, {"V": (112, 4)}),
    Goes("a residual asks both", image("k = Conv<pads=[1,1,1,1]>(x, U[8,3,3,3]); g = Add(h, k)"),
         [("W", 2, ("like", 0)), ("U", 2, ("like", 0))], {"duplicate": 1}),
    Goes("in a convolution with groups", image("t = Conv<group=2>(h, T[6,4,3,3]); g = Relu(t)", reads=6),
         [("W", [1, 5], ("like", [0, 4]))], {"duplicate": 1}, {"T": (6, 3, 3, 3)}),
    Goes("twins of different groups", image("t = Conv<group=2>(h, T[6,4,3,3]); g = Relu(t)", reads=6),
         [("W", 5, ("like", 0))], {}),
    Goes("in a transposed convolution", image("t = ConvTranspose(h, T[8,6,2,2]); g = Relu(t)", reads=6),
         [("W", [1, 5], ("like", [0, 4]))], {"duplicate": 2}, {"T": (6, 6, 2, 2)}),
    Goes("two heads that are one", ATTENTION,
         [(n, (1, HEAD), ("like", slice(0, 4))) for n in ("Q", "K", "V")], {"duplicate": 1}, {"O": (8, 12)}),
    Goes("a scale tells them apart", PADDED.replace("Relu(h)", "Mul(h, S[8,1,1])"),
         [("W", 2, ("like", 0)), ("B", 2, ("like", 0))], {}),
]  # fmt: skip

GRAPH = [
    Goes("nothing", PLAIN, [], {}),
    Goes("nodes that lead nowhere", PLAIN + "; z = Conv(g, U[5,8,1,1])", [], {"nodes": 1, "initializers": 1}),
    Goes("an Identity", PLAIN.replace("Relu(h)", "Identity(h)"), [], {"identities": 1}),
    Goes("an Identity that is an output", "x[N,3] -> y, z; y = Relu(x); z = Identity(y)", [], {}),
    Goes("flat indices that nobody reads", image("g, i = MaxPool<kernel_shape=[2,2]>(h)"), [("W", 1, 0.0)],
         {"outputs": 1, "zero": 1}, beyond_plan=True),
]  # fmt: skip


@each([*UNREAD, *ZERO])
def test_dead(case: Goes) -> None:
    check(case)


@each(CONSTANT)
def test_constant(case: Goes) -> None:
    check(case)


@each(DUPLICATE)
def test_duplicate(case: Goes) -> None:
    check(case)


@each(GRAPH)
def test_graph(case: Goes) -> None:
    check(case)
