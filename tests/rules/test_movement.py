"""Reshapes, transposes and repeats only rename indices: products meet products, and shape constants follow."""

from __future__ import annotations

from tests.rules.tables import Cuts, Refuses, each, image, prove, refuse, rows

PIXELS = "y = Conv(g, V[4,{0},1,1])"


def linear(body: str, wide: int, inputs: str = "x[N,3,6,6]") -> str:
    """`body` between a convolution h[N,8,4,4] and a matrix product that reads f[.,wide]."""
    return f"{inputs} -> y; h = Conv(x, W[8,3,3,3]); {body}; y = MatMul(f, V[{wide},4])"


CUTS = [
    Cuts("Flatten into a linear layer", linear("f = Flatten(h)", 128), {"W": 8}),
    Cuts("Flatten from a negative axis", linear("f = Flatten<axis=-3>(h)", 128), {"W": 8}),
    Cuts("Flatten everything into columns", linear("f = Flatten<axis=0>(h)", 128, "x[1,3,6,6]"), {"W": 8}),
    Cuts("Flatten everything into rows", "x[1,3,6,6] -> y; h = Conv(x, W[8,3,3,3]); f = Flatten<axis=4>(h);"
         "y = MatMul(V[4,128], f)", {"W": 8}),
    Cuts("Flatten after the channels", "x[1,3,6,6] -> y; h = Conv(x, W[8,3,3,3]); f = Flatten<axis=2>(h);"
         "y = MatMul(V[4,8], f)", {"W": 8}),
    Cuts("Reshape to 0, -1", linear("f = Reshape(h, {0,-1})", 128), {"W": 8}),
    Cuts("Reshape to -1, 128", linear("f = Reshape(h, {-1,128})", 128), {"W": 8}),
    Cuts("Reshape with allowzero", linear("f = Reshape<allowzero=1>(h, {-1,128})", 128), {"W": 8}),
    Cuts("Reshape of a constant batch", linear("f = Reshape(h, {1,128})", 128, "x[1,3,6,6]"), {"W": 8}),
    Cuts("one shape for two Reshapes that need the same", linear(
        "a = Reshape(h, S{-1,128}); k = Relu(h); b = Reshape(k, S); f = Add(a, b)", 128), {"W": 8}),
    Cuts("one shape for two Reshapes that need different ones",
         "x[N,3,6,6] -> y; a = Conv(x, A[8,3,3,3]); b = Conv(x, B[8,3,3,3]); c = Reshape(a, S{-1,128});"
         "d = Reshape(b, S); e = MatMul(c, E[128,4]); f = MatMul(d, F[128,4]); y = Add(e, f)", {"A": 8, "B": 8}),
    Cuts("one shape that a constant and a channel share", "x[N,3,6,6] -> y; a = Conv(x, A[8,3,3,3]);"
         "c = Reshape(a, S{-1,128}); e = MatMul(c, E[128,128]); z = Reshape(e, S); y = Relu(z)", {"A": 8}),
    Cuts("the target is computed: batch by Shape and Gather",
         linear("s = Shape(h); b = Gather(s, 0); u = Unsqueeze(b, {0}); t = Concat<axis=0>(u, {-1});"
                "f = Reshape(h, t)", 128), {"W": 8}),
    Cuts("the target is computed: batch by Slice, the rest constant",
         linear("s = Shape(x); b = Slice(s, {0}, {1}); t = Concat<axis=0>(b, {128}); f = Reshape(h, t)", 128),
         {"W": 8}),
    Cuts("the target is computed: every axis by Shape",
         linear("b = Shape<end=1>(h); c = Shape<start=1,end=2>(h); p = Shape<start=2>(h); q = ReduceProd(p);"
                "m = Mul(c, q); t = Concat<axis=0>(b, m); f = Reshape(h, t)", 128), {"W": 8}),
    Cuts("the target is computed: by Size", linear("z = Size(h); b = Shape<end=1>(h); q = Div(z, b);"
         "t = Concat<axis=0>(b, q); f = Reshape(h, t)", 128), {"W": 8}),
    Cuts("the batch is merged with rows", "x[N,5,6] -> y; r = Reshape(x, {-1,6}); h = Gemm(r, W[6,8], B[8]);"
         "s = Shape<end=1>(x); t = Concat<axis=0>(s, {5,8}); g = Reshape(h, t); y = MatMul(g, V[8,4])", {"W": 8}),
    Cuts("the batch is merged with heads",
         "x[N,5,6] -> y; h = MatMul(x, W[6,8]); r = Reshape(h, {0,5,2,4}); t = Transpose<perm=[0,2,1,3]>(r);"
         "s = Shape<end=1>(x); d = Mul(s, {2}); u = Concat<axis=0>(d, {5,4}); m = Reshape(t, u);"
         "k = MatMul(m, K[4,4]); v = Concat<axis=0>(s, {2,5,4}); o = Reshape(k, v); p = Transpose<perm=[0,2,1,3]>(o);"
         "q = Concat<axis=0>(s, {5,8}); g = Reshape(p, q); y = MatMul(g, V[8,3])", {"W": 2, "W#2": 4, "K": 4}),
    Cuts("the batch is found again by dividing batch x heads",
         "x[N,L,6] -> y; h = MatMul(x, W[6,8]); r = Reshape(h, {0,0,2,4}); t = Transpose<perm=[0,2,1,3]>(r);"
         "l = Shape<start=1,end=2>(x); a = Concat<axis=0>({-1}, l, {4}); m = Reshape(t, a); k = MatMul(m, K[4,3]);"
         "s = Shape<end=1>(k); d = Div(s, {2}); u = Concat<axis=0>(d, {2}, l, {3}); o = Reshape(k, u);"
         "p = Transpose<perm=[0,2,1,3]>(o); b = Concat<axis=0>(d, l, {6}); g = Reshape(p, b); y = MatMul(g, V[6,3])",
         {"W": 2, "W#2": 4, "K": 3}),
    Cuts("a table of heads is repeated for every sample",
         "x[N,L,6] -> y; h = MatMul(x, W[6,8]); r = Reshape(h, {0,0,2,4}); t = Transpose<perm=[0,2,1,3]>(r);"
         "l = Shape<start=1,end=2>(x); a = Concat<axis=0>({-1}, l, {4}); m = Reshape(t, a); s = Shape<end=1>(m);"
         "d = Div(s, {2}); u = Concat<axis=0>(d, {1,1}); e = Tile(E[2,4,3], u); z = MatMul(m, e);"
         "b = Concat<axis=0>({-1,2}, l, {3}); o = Reshape(z, b); y = ReduceSum<keepdims=0>(o, {1})",
         {"W": 2, "W#2": 4}),
    Cuts("a scale from the width of a head", "x[N,5,6] -> y; q = MatMul(x, Q[6,8]); k = MatMul(x, K[6,8]);"
         "w = Shape<start=-1>(q); f = Cast<to=1>(w); r = Sqrt(f); i = Div(1.0, r); a = Mul(q, i);"
         "t = Transpose<perm=[0,2,1]>(k); y = MatMul(a, t)", {"Q": 8}),
    Cuts("split into heads and merged again", rows("a = Reshape(h, {0,0,2,4}); b = Transpose<perm=[0,2,1,3]>(a);"
         "c = Transpose<perm=[0,2,1,3]>(b); g = Reshape(c, {0,0,8})"), {"W": 2, "W#2": 4}),
    Cuts("three axes merged into two", linear("a = Reshape(h, {0,2,4,16}); b = Reshape(a, {0,8,16});"
         "f = Reshape(b, {0,128})", 128), {"W": 2, "W#2": 4}),
    Cuts("channel shuffle", image("a = Reshape(h, {0,2,4,6,6}); b = Transpose<perm=[0,2,1,3,4]>(a);"
                                  "g = Reshape(b, {0,8,6,6})"), {"W": 2, "W#2": 4}),
    Cuts("a Reshape that only adds an axis", linear("a = Reshape(h, {0,8,1,16}); f = Reshape(a, {0,128})", 128),
         {"W": 8}),
    Cuts("Squeeze with axes as input", "x[N,3,6,6] -> y; h = Conv(x, W[8,3,3,3]); p = GlobalAveragePool(h);"
         "s = Squeeze(p, {2,-1}); y = MatMul(s, V[8,4])", {"W": 8}),
    Cuts("Squeeze with axes in an attribute", "x[N,3,6,6] -> y; h = Conv(x, W[8,3,3,3]); p = GlobalAveragePool(h);"
         "s = Squeeze<axes=[2,3]>(p); y = MatMul(s, V[8,4])", {"W": 8}, opset=11),
    Cuts("Unsqueeze as input", image("a = Unsqueeze(h, {0,-1}); g = Squeeze(a, {0,5})"), {"W": 8}),
    Cuts("Unsqueeze in an attribute", image("a = Unsqueeze<axes=[1]>(h); g = Squeeze<axes=[1]>(a)"), {"W": 8}, opset=9),
    Cuts("Transpose to channels last and back", image("a = Transpose<perm=[0,2,3,1]>(h); b = Add(a, B[8]);"
                                                      "g = Transpose<perm=[0,3,1,2]>(b)"), {"W": 8}),
    Cuts("Transpose without an order", "x[5,6] -> y; h = MatMul(x, W[6,8]); t = Transpose(h); y = MatMul(V[4,8], t)",
         {"W": 8}),
    Cuts("DepthToSpace", image("g = DepthToSpace<blocksize=2>(h)", reads=2), {"W": 2}),
    Cuts("DepthToSpace, channels first", image("g = DepthToSpace<blocksize=2,mode=\"CRD\">(h)", reads=2), {"W": 2}),
    Cuts("SpaceToDepth", image("g = SpaceToDepth<blocksize=2>(h)", reads=32), {"W": 8}),
    Cuts("pixel shuffle by Reshape", image("a = Reshape(h, {0,2,2,2,6,6}); b = Transpose<perm=[0,1,4,2,5,3]>(a);"
                                           "g = Reshape(b, {0,2,12,12})", reads=2), {"W": 2}),
    Cuts("Tile repeats the channels", image("g = Tile(h, {1,3,1,1})", reads=24), {"W": 8, "V": 3}),
    Cuts("Tile repeats what is beside", image("g = Tile(h, {1,1,2,1})"), {"W": 8}),
    Cuts("Expand over a new axis", rows("u = Unsqueeze(h, {1}); e = Expand(u, {1,3,5,8}); g = ReduceSum<keepdims=0>"
                                        "(e, {1})"), {"W": 8}),
]  # fmt: skip

REFUSES = [
    Refuses("Squeeze of whatever is one", "x[N,3,6,6] -> y; h = Conv(x, W[8,3,3,3]); p = GlobalAveragePool(h);"
            "s = Squeeze(p); y = MatMul(s, V[8,4])", {"W.0": "Squeeze without axes"}),
    Refuses("a channel merged with space from the right", "x[N,3,5,5] -> y; h = Conv(x, W[4,3,3,3]);"
            "f = Reshape(h, {0,9,4}); y = MatMul(f, V[4,2])", {"W.0": "common refinement"}),
    Refuses("a target that the run decides", "x[N,3,6,6], s[2]:int64 -> y; h = Conv(x, W[8,3,3,3]); f = Reshape(h, s);"
            "y = MatMul(f, V[128,4])", {"W.0": "shape of 'f' is not known"}, runs=False),
    Refuses("blocks that become space", image("g = DepthToSpace<blocksize=2>(h)", reads=2), {"W.0": "DepthToSpace"}),
    Refuses("a window slides over what was the channels",
            image("t = Transpose<perm=[0,2,1,3]>(h); m = MaxPool<kernel_shape=[2,1]>(t); g = Transpose<perm=[0,2,1,3]>"
                  "(m)", reads=7), {"W.0": "window"}),
]  # fmt: skip


@each(CUTS)
def test_cuts(case: Cuts) -> None:
    prove(case)


@each(REFUSES)
def test_refuses(case: Refuses) -> None:
    refuse(case)
