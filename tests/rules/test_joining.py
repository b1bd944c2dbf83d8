"""Concat, Split, Slice and Pad add up dimensions: parts are cut apart, and bounds count what lies before them."""

from __future__ import annotations

from tests.rules.tables import Cuts, Refuses, each, image, prove, refuse, rows

END = 9223372036854775807

CUTS = [
    Cuts("Concat of two convolutions", image("k = Conv<pads=[1,1,1,1]>(x, U[6,3,3,3]); g = Concat<axis=1>(h, k)",
                                             reads=14), {"W": 8, "U": 6}),
    Cuts("Concat of itself", image("g = Concat<axis=1>(h, h)", reads=16), {"W": 8}),
    Cuts("Concat along a negative axis", image("k = Conv<pads=[1,1,1,1]>(x, U[6,3,3,3]); g = Concat<axis=-3>(h, k)",
                                               reads=14), {"W": 8, "U": 6}),
    Cuts("Concat with an input", image("g = Concat<axis=1>(x, h)", reads=11), {"W": 8}),
    Cuts("Concat with a constant", image("c = Expand(C[1,5,1,1], {1,5,6,6}); g = Concat<axis=1>(h, c)", reads=13)
         .replace("N,", "1,"), {"W": 8, "C": 5}),
    Cuts("Concat beside the cut axis", rows("g = Concat<axis=1>(h, h)"), {"W": 8}),
    Cuts("a dense block", image("k = Conv(h, U[4,8,1,1]); a = Concat<axis=1>(h, k); l = Conv(a, T[4,12,1,1]);"
                                "g = Concat<axis=1>(h, k, l)", reads=16), {"W": 8, "U": 4, "T": 4}),
    Cuts("a residual over two concats", image("k = Conv<pads=[1,1,1,1]>(x, U[8,3,3,3]); a = Concat<axis=1>(h, k);"
         "l = Conv<pads=[1,1,1,1]>(x, S[4,3,3,3]); m = Conv<pads=[1,1,1,1]>(x, T[12,3,3,3]);"
         "b = Concat<axis=1>(l, m); g = Add(a, b)", reads=16), {"W": 4, "W#2": 4, "U": 8}),
    Cuts("Split into equal halves", image("a, b = Split<axis=1>(h); g = Mul(a, b)", reads=4), {"W": 4}, opset=13),
    Cuts("Split into equal halves that stay apart", image(
        "a, b = Split<axis=1>(h); c = Conv(b, U[4,4,1,1]); g = Concat<axis=1>(a, c)"), {"W": 4, "W#2": 4, "U": 4},
        opset=13),
    Cuts("Split by an attribute", image("a, b = Split<axis=1,split=[2,6]>(h); c = Conv(b, U[2,6,1,1]); g = Add(a, c)",
                                        reads=2), {"W": 2, "W#2": 6}, opset=11),
    Cuts("Split by an input", image("a, b = Split<axis=1>(h, {2,6}); c = Conv(b, U[2,6,1,1]); g = Add(a, c)",
                                    reads=2), {"W": 2, "W#2": 6}),
    Cuts("Split in three along a negative axis", rows("a, b, c = Split<axis=-1>(h, {2,2,4}); d = Mul(a, b);"
                                                      "g = Concat<axis=-1>(d, c)", reads=6), {"W": 2, "W#2": 4}),
    Cuts("Split by a number of outputs", image("a, b = Split<axis=1,num_outputs=2>(h); c = Conv(b, U[4,4,1,1]);"
                                               "g = Concat<axis=1>(a, c)"), {"W": 4, "W#2": 4, "U": 4}, opset=18),
    Cuts("Split by a number of outputs, unevenly", image(
        "a, b = Split<axis=1,num_outputs=2>(h); c = Conv(b, U[5,4,1,1]); g = Add(a, c)", wide=9, reads=5),
        {"W": 5, "W#2": 4}, opset=18),
    Cuts("Split in three and joined", image("a, b, c = Split<axis=1>(h); g = Concat<axis=1>(c, a, b)", wide=9, reads=9),
         {"W": 3, "W#2": 3, "W#3": 3}, opset=13),
    Cuts("Split beside the cut axis", "x[N,6,5] -> y; h = MatMul(x, W[5,8]); a, b = Split<axis=1>(h); g = Add(a, b);"
         "y = MatMul(g, V[8,4])", {"W": 8}, opset=13),
    Cuts("Split whose sizes two nodes share", image("a, b = Split<axis=1>(h, S{2,6}); k = Conv<pads=[1,1,1,1]>(x, "
         "U[8,3,3,3]); c, d = Split<axis=1>(k, S); e = Mul(a, c); f = Conv(b, E[2,6,1,1]); l = Conv(d, F[2,6,1,1]);"
         "g = Sum(e, f, l)", reads=2), {"W": 2, "W#2": 6, "U": 6}),
    Cuts("a gated pair", rows("a, b = Split<axis=-1>(h, {4,4}); s = Sigmoid(b); g = Mul(a, s)", reads=4), {"W": 4}),
    Cuts("Slice of a half", image("g = Slice(h, {0}, {4}, {1})", reads=4), {"W": 4, "W#2": 4}),
    Cuts("Slice of both halves", image("a = Slice(h, {0}, {4}, {1}); b = Slice(h, {4}, {8}, {1}); g = Mul(a, b)",
                                       reads=4), {"W": 4}),
    Cuts("Slice to the end of the world", image(f"a = Slice(h, {{0}}, {{3}}, {{1}}); b = Slice(h, {{3}}, {{{END}}}, "
         "{1}); c = Conv(b, U[3,5,1,1]); g = Add(a, c)", reads=3), {"W": 3, "W#2": 5}),
    Cuts("Slice to 2147483647", image("a = Slice(h, {0}, {3}, {1}); b = Slice(h, {3}, {2147483647}, {1});"
         "c = Conv(b, U[3,5,1,1]); g = Add(a, c)", reads=3), {"W": 3, "W#2": 5}),
    Cuts("Slice from a negative start", image(
        f"a = Slice(h, {{-3}}, {{{END}}}, {{1}}); b = Slice(h, {{0}}, {{-3}}, {{1}}); c = Conv(b, U[3,5,1,1]);"
        "g = Add(a, c)", reads=3), {"W": 5, "W#2": 3}),
    Cuts("Slice between negative bounds", image(
        "a = Slice(h, {-6}, {-2}, {1}); b = Slice(h, {0}, {-6}, {1}); c = Conv(b, U[4,2,1,1]); d = Slice(h, {6}, {8},"
        " {1}); e = Conv(d, T[4,2,1,1]); g = Sum(a, c, e)", reads=4), {"W": 2, "W#2": 4, "W#3": 2}),
    Cuts("Slice of an axis that a negative bound keeps whole", image("g = Slice(h, {-8}, {8}, {1})"), {"W": 8}),
    Cuts("Slice of several axes", image("g = Slice(h, {4,1,0}, {8,-1,6}, {1,2,-1})", reads=4), {"W": 4, "W#2": 4}),
    Cuts("Slice without axes", image("g = Slice(h, {0,2}, {1,6})", reads=4).replace("N,", "1,"),
         {"W": 2, "W#2": 4, "W#3": 2}),
    Cuts("Slice by attributes", image("a = Slice<starts=[0],ends=[4],axes=[1]>(h); b = Slice<starts=[4],ends=[8],"
         "axes=[1]>(h); c = Conv(b, U[4,4,1,1]); g = Add(a, c)", reads=4), {"W": 4, "W#2": 4}, opset=9),
    Cuts("Slice beside the cut axis", rows("g = Slice(h, {1}, {4}, {1})"), {"W": 8}),
    Cuts("Slice backwards beside the cut axis", rows("g = Slice(h, {-1}, {-6}, {1}, {-1})"), {"W": 8}),
    Cuts("rotary halves", rows(f"a = Slice(h, {{0}}, {{4}}, {{2}}); b = Slice(h, {{4}}, {{{END}}}, {{2}}); n = Neg(b);"
                               "r = Concat<axis=-1>(n, a); c = Mul(r, S[8]); d = Mul(h, C[8]); g = Add(c, d)"),
         {"W": 4}),
    Cuts("Slice backwards", rows("g = Slice(h, {-1}, {-9}, {2}, {-1})"), {"W": 8}),
    Cuts("both ways", rows("b = Slice(h, {-1}, {-9}, {2}, {-1}); g = Add(b, h)"), {"W": 4}),
    Cuts("every other index", rows("g = Slice(h, {1}, {8}, {2}, {2})", reads=4), {"W": 4}),
    Cuts("bounds that two Slices share", image("a = Slice(h, Z{0}, M{4}, A{1}); b = Slice(h, M, E{8}, A);"
         "c = Conv(b, U[4,4,1,1]); g = Add(a, c)", reads=4), {"W": 4, "W#2": 4}),
    Cuts("bounds computed from the shape", image("s = Shape<start=1,end=2>(h); m = Div(s, {2});"
         "a = Slice(h, {0}, m, {1}); b = Slice(h, m, s, {1}); g = Mul(a, b)", reads=4), {"W": 4}),
    Cuts("bounds computed from the shape of parts that stay apart", image(
        "s = Shape<start=1,end=2>(h); m = Div(s, {2}); a = Slice(h, {0}, m, {1}); b = Slice(h, m, s, {1});"
        "c = Conv(b, U[4,4,1,1]); g = Concat<axis=1>(a, c)"), {"W": 4, "W#2": 4, "U": 4}),
    Cuts("Pad around space", image("g = Pad(h, {0,0,1,1,0,0,1,1})"), {"W": 8}),
    Cuts("Pad around space by reflection", image("g = Pad<mode=\"reflect\">(h, {0,0,1,1,0,0,1,1})"), {"W": 8}),
    Cuts("Pad around space with a value", image("g = Pad(h, {0,0,1,1,0,0,1,1}, 0.5)"), {"W": 8}),
    Cuts("Pad by an attribute", image("g = Pad<pads=[0,0,1,1,0,0,1,1]>(h)"), {"W": 8}, opset=10),
    Cuts("Pad of named axes", image("g = Pad(h, {1,1,1,1}, _, {2,3})"), {"W": 8}, opset=18),
    Cuts("Pad that crops the cut axis", image("g = Pad(h, {0,-2,0,0,0,0,0,0})", reads=6), {"W": 2, "W#2": 6}),
    Cuts("Pad that crops one end and pads the other", image("g = Pad(h, {-3,2}, _, {1})", reads=7),
         {"W": 3, "W#2": 5, "V": 2}, opset=18),
    Cuts("Pad that crops space", image("g = Pad(h, {0,0,-1,1,0,0,1,-2})"), {"W": 8}),
    Cuts("Split into a number of outputs that are not equal", rows("a, b, c = Split<axis=2,num_outputs=3>(h);"
         "d = Add(a, b); e = Concat<axis=2>(d, c); g = Relu(e)", 7, 4), {"W": 3}, opset=18),
    Cuts("Split into a number of outputs of their own sizes", rows("a, b, c = Split<axis=2,num_outputs=3>(h);"
         "d = MatMul(a, A[3,2]); e = MatMul(b, B[3,2]); f = MatMul(c, C[2,2]); i = Add(d, e); g = Add(i, f)", 8, 2),
         {"W": 3, "W#2": 3, "W#3": 2, "A": 2}, opset=18),
    Cuts("amounts that are computed in floats", image("s = Shape(h); f = Cast<to=1>(s); d = Div(f, 5.0); c = Ceil(d);"
         "a = Slice(c, {2}, {4}); i = Cast<to=7>(a); p = Concat<axis=0>({0,0}, i, {0,0}, i); g = Pad(h, p)"), {"W": 8}),
    Cuts("a shortcut that pads channels", image("k = Conv<pads=[1,1,1,1]>(h, U[14,8,3,3]); p = Pad(h, {0,2,0,0,0,4,0,0"
         "}); g = Add(k, p)", reads=14), {"W": 8, "U": 2, "U#2": 4}),
    Cuts("a shortcut that pads channels after strides", image(
        "k = Conv<pads=[1,1,1,1],strides=[2,2]>(h, U[16,8,3,3]); s = Slice(h, {0,0}, {6,6}, {2,3}, {2,2});"
        "p = Pad(s, {0,4,0,0,0,4,0,0}); g = Add(k, p)", reads=16), {"W": 8, "U": 4, "U#2": 4}),
]  # fmt: skip

REFUSES = [
    Refuses("Slice by bounds that the run decides", "x[N,3,6,6], s[1]:int64 -> y; h = Conv(x, W[8,3,3,3]);"
            "g = Slice(h, {0}, s, {1}); y = ReduceMax<axes=[1]>(g)", {"W.0": "shape of 'g' is not known"}, runs=False),
    Refuses("Slice up to a dynamic length", "x[N,L,8] -> y; s = Shape<start=1,end=2>(x); p = Slice(P[64,8], {0}, s, {0}"
            "); h = Add(x, p); y = MatMul(h, V[8,3])", {"P.0": "dynamic size"}),
    Refuses("Slice backwards from the middle", rows("g = Slice(h, {4}, {-9}, {2}, {-1})", reads=5), {"W.1": "steps"}),
    Refuses("every other index, counted from the end", rows("g = Slice(h, {-7}, {8}, {2}, {2})", reads=4),
            {"W.1": "steps"}),
    Refuses("every other index, not to the end", rows("g = Slice(h, {0}, {5}, {2}, {2})", reads=3), {"W.1": "steps"}),
    Refuses("Pad that mirrors the cut axis", image("g = Pad<mode=\"reflect\">(h, {0,2,0,0,0,0,0,0})", reads=10),
            {"W.0": "padded from its own"}),
    Refuses("Split of sizes that the run decides", "x[N,3,6,6], s[2]:int64 -> y, z; h = Conv(x, W[8,3,3,3]);"
            "y, z = Split<axis=1>(h, s)", {"W.0": "the shape of 'y' is not known"}, runs=False),
]  # fmt: skip


@each(CUTS)
def test_cuts(case: Cuts) -> None:
    prove(case)


@each(REFUSES)
def test_refuses(case: Refuses) -> None:
    refuse(case)
