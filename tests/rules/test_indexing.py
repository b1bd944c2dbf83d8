"""Indices that the model holds as numbers follow the cut; what is picked by value stays whole."""

from __future__ import annotations

from tests.rules.tables import Cuts, Refuses, each, image, prove, refuse, rows

CUTS = [
    Cuts("Gather of one index splits it off", "x[N,5] -> y; h = MatMul(x, W[5,12]); r = Reshape(h, {0,3,4});"
         "a = Gather<axis=1>(r, 0); b = Gather<axis=1>(r, 1); c = Gather<axis=1>(r, 2); d = Mul(a, b); e = Add(d, c);"
         "y = MatMul(e, V[4,2])", {"W": 4}),
    Cuts("Gather of the last index", "x[N,5] -> y; h = MatMul(x, W[5,12]); r = Reshape(h, {0,3,4});"
         "a = Gather<axis=1>(r, -1); b = Gather<axis=1>(r, -3); d = Mul(a, b); y = MatMul(d, V[4,2])", {"W": 4}),
    Cuts("Gather beside the cut axis", rows("g = Gather<axis=1>(h, {0,2,2,-1})"), {"W": 8}),
    Cuts("Gather of a run", rows("a = Gather<axis=2>(h, {0,1,2}); b = Gather<axis=2>(h, {3,4,5,6,7});"
                                 "c = MatMul(b, U[5,3]); g = Add(a, c)", reads=3), {"W": 3, "W#2": 5}),
    Cuts("Gather of all", rows("g = Gather<axis=2>(h, {0,1,2,3,4,5,6,7})"), {"W": 8}),
    Cuts("an embedding's width", "i[N,5]:int64 -> y; h = Gather(E[9,8], i); y = MatMul(h, V[8,4])", {"E": 8},
         bounds={"i": 9}),
    Cuts("an embedding that is tied to the last layer", "i[N,5]:int64 -> y; h = Gather(E[9,8], i);"
         "t = Transpose(E); y = MatMul(h, t)", {"E": 8}, bounds={"i": 9}),
    Cuts("an embedding of constant positions", "x[N,5,8] -> y; p = Gather(P[7,8], {0,1,2,3,4}); h = MatMul(x, W[8,8]);"
         "g = Add(h, p); y = MatMul(g, V[8,3])", {"P": 2, "P#2": 8}),
    Cuts("GatherElements beside the cut axis", rows("i = Constant<value=int64[1,1,1] {0}>(); j = Expand(i, {1,5,8});"
                                                    "g = Add(h, B[8])"), {"W": 8}),
    Cuts("GatherND beside the cut axis", "x[3,5,6] -> y; h = MatMul(x, W[6,8]); g = GatherND(h, K{0,1,2,4}[2,2]);"
         "y = MatMul(g, V[8,4])", {"W": 8}),
    Cuts("GatherND in batches that are cut", "x[3,5,6] -> y; h = MatMul(x, W[6,8]); t = Transpose<perm=[2,0,1]>(h);"
         "g = GatherND<batch_dims=1>(t, K{0,1,2,2,1,0,1,1,0,0,2,1,0,2,1,2}[8,2,1]); u = Transpose<perm=[1,2,0]>(g);"
         "y = MatMul(u, V[8,4])", {"W": 8}),
    Cuts("ScatterND beside the cut axis", "x[3,5,6] -> y; h = MatMul(x, W[6,8]); u = Slice(h, {0}, {2}, {0});"
         "v = Slice(u, {0}, {1}, {1}); w = Squeeze(v, {1}); g = ScatterND(h, K{0,1,2,4}[2,2], w);"
         "y = MatMul(g, V[8,4])", {"W": 8}),
    Cuts("OneHot beside", "x[N,5,6] -> y; h = MatMul(x, W[6,8]); a = ArgMax<axis=1,keepdims=0>(h);"
         "o = OneHot<axis=-1>(a, 5, {0.0,1.0}); t = Transpose<perm=[0,2,1]>(o); y = MatMul(t, V[8,4])", {"W": 8}),
    Cuts("Gather in another order", rows("g = Gather<axis=2>(h, {1,0,2,3,4,5,7,6})"), {"W": 8}),
    Cuts("Gather of a part in another order", rows("g = Gather<axis=2>(h, {5,1,3})", reads=3), {"W": 5, "W#2": 3}),
    Cuts("Gather of an index twice", rows("g = Gather<axis=2>(h, {0,0,3,2,2,3})", reads=6), {"W": 3, "W#2": 5}),
    Cuts("an order and its inverse", rows("a = Gather<axis=2>(h, {3,0,2,1,5,7,6,4}); r = Relu(a);"
         "g = Gather<axis=2>(r, {1,3,2,0,7,4,6,5})"), {"W": 8}),
    Cuts("single indices beside an order", "x[N,6] -> y; h = MatMul(x, W[6,2]); a = Gather<axis=1>(h, 0);"
         "b = Gather<axis=1>(h, 1); d = Sub(a, b); e = Unsqueeze(d, {1}); k = MatMul(x, U[6,8]);"
         "g = Gather<axis=1>(k, {1,0,2,3,4,5,7,6}); z = MatMul(g, V[8,4]); y = Add(z, e)", {"U": 8}),
    Cuts("a table whose two axes are picked from as one",
         "x[N,4,6] -> y; h = MatMul(x, W[6,5]); p = Reshape(P[3,3,5], {9,5});"
         "g = Gather(p, {4,3,1,0}); a = Add(h, g); y = MatMul(a, V[5,3])", {"W": 5}),
    Cuts("an order added to itself", rows("a = Gather<axis=2>(h, {1,0,3,2,5,4,7,6}); g = Add(a, h)"), {"W": 4}),
    Cuts("GatherElements of the same indices everywhere", "x[3,6] -> y; h = MatMul(x, W[6,8]);"
         "g = GatherElements<axis=1>(h, K{5,1,3,5,1,3,5,1,3}[3,3]); y = MatMul(g, V[3,4])", {"W": 5, "W#2": 3}),
    Cuts("GatherElements of a run", "x[3,6] -> y; h = MatMul(x, W[6,8]);"
         "g = GatherElements<axis=-1>(h, K{2,3,4,2,3,4,2,3,4}[3,3]); y = MatMul(g, V[3,4])",
         {"W": 2, "W#2": 3, "W#3": 3}),
    Cuts("GatherElements whose other axis is cut", "x[4,6] -> y; t = Transpose(x); h = MatMul(W[3,6], t);"
         "g = GatherElements<axis=1>(h, K{3,0,3,0,3,0}[3,2]); y = MatMul(V[2,3], g)", {"W": 3}),
    Cuts("ScatterElements of the same indices everywhere", "x[3,6] -> y; h = MatMul(x, W[6,8]); u = MatMul(x, U[6,3]);"
         "g = ScatterElements<axis=1>(h, K{5,-7,3,5,-7,3,5,-7,3}[3,3], u); y = MatMul(g, V[8,4])", {"W": 5, "W#2": 3}),
    Cuts("ScatterElements that adds", "x[3,6] -> y; h = MatMul(x, W[6,8]); u = MatMul(x, U[6,4]);"
         "g = ScatterElements<axis=1,reduction=\"add\">(h, K{5,1,5,1,5,1,5,1,5,1,5,1}[3,4], u); y = MatMul(g, V[8,4])",
         {"W": 6, "W#2": 2}),
    Cuts("GatherND of single indices", "x[N,6] -> y; h = MatMul(x, W[6,8]); t = Transpose<perm=[1,0]>(h);"
         "g = GatherND(t, K{5,1,3}[3,1]); u = Transpose<perm=[1,0]>(g); y = MatMul(u, V[3,4])", {"W": 5, "W#2": 3}),
    Cuts("ScatterND of single indices", "x[N,6] -> y; h = MatMul(x, W[6,8]); t = Transpose<perm=[1,0]>(h);"
         "k = MatMul(x, U[6,3]); l = Transpose<perm=[1,0]>(k); g = ScatterND(t, K{5,1,-5}[3,1], l);"
         "u = Transpose<perm=[1,0]>(g); y = MatMul(u, V[8,4])", {"W": 5, "W#2": 3}),
    Cuts("ScatterND of a grid", "x[3,6] -> y; h = MatMul(x, W[6,8]); u = MatMul(x, U[6,2]);"
         "v = Slice(u, {0}, {2}, {0}); g = ScatterND(h, K{0,4,0,1,2,4,2,1}[2,2,2], v); y = MatMul(g, V[8,4])",
         {"W": 6, "W#2": 2}),
    Cuts("GatherND of a grid in which two axes are cut", "x[5,6] -> y; a = MatMul(x, W[6,8]); b = MatMul(x, U[6,4]);"
         "t = Transpose<perm=[1,0]>(a); h = MatMul(t, b);"
         "g = GatherND(h, K{2,3,2,0,2,1,7,3,7,0,7,1,1,3,1,0,1,1}[3,3,2]); k = MatMul(g, V[3,4]);"
         "y = MatMul(T[2,3], k)", {"W": 5, "W#2": 3, "U": 3}),
]  # fmt: skip

REFUSES = [
    Refuses("positions up to a dynamic length", "x[N,L,8] -> y; s = Shape<start=1,end=2>(x); l = Squeeze(s, {0});"
            "r = Range(0, l, 1); p = Gather(P[64,8], r); h = Add(x, p); y = MatMul(h, V[8,3])", {"P.0": "at run time"}),
    Refuses("a vocabulary", "i[N,5]:int64 -> y; h = Gather(E[9,8], i); y = MatMul(h, V[8,4])",
            {"E.0": "made at run time"}),
    Refuses("Gather by what the run decides", "x[N,5,6], i[2]:int64 -> y; h = MatMul(x, W[6,8]);"
            "g = Gather<axis=2>(h, i); y = MatMul(g, V[2,4])", {"W.1": "made at run time"}),
    Refuses("GatherElements along the cut axis", "x[3,6] -> y; h = MatMul(x, W[6,8]);"
            "g = GatherElements<axis=1>(h, K{0,1,2,4,3,2}[3,2]); y = MatMul(g, V[2,4])", {"W.1": "picks its indices"}),
    Refuses("ScatterND that writes a place twice", "x[2,6] -> y; h = MatMul(x, W[6,8]); t = Transpose<perm=[1,0]>(h);"
            "k = MatMul(x, U[6,2]); l = Transpose<perm=[1,0]>(k); g = ScatterND(t, K{3,3}[2,1], l);"
            "u = Transpose<perm=[1,0]>(g); y = MatMul(u, V[8,4])", {"U.1": "picks its indices"}),
    Refuses("GatherND along a diagonal", "x[5,6] -> y; a = MatMul(x, W[6,8]); b = MatMul(x, U[6,4]);"
            "t = Transpose<perm=[1,0]>(a); h = MatMul(t, b); g = GatherND(h, K{0,0,1,1,2,2}[3,2]);"
            "r = Unsqueeze(g, {0}); y = MatMul(r, V[3,4])", {"W.1": "picks its indices", "U.1": "picks its indices"}),
    Refuses("GatherElements by indices of the input", "x[3,6], i[3,2]:int64 -> y; h = MatMul(x, W[6,8]);"
            "g = GatherElements<axis=1>(h, i); y = MatMul(g, V[2,4])", {"W.1": "picks its indices"}, runs=False),
    Refuses("NonZero", "x[2,6] -> y; h = MatMul(x, W[6,8]); n = NonZero(h); y = Cast<to=1>(n)",
            {"W.1": "NonZero picks by value"}),
    Refuses("MaxPool's indices are an output", "x[N,3,6,6] -> y, i; h = Conv(x, W[8,3,3,3]);"
            "m, i = MaxPool<kernel_shape=[2,2]>(h); y = Conv(m, V[4,8,1,1])", {"W.0": "flat indices of MaxPool"}),
    Refuses("MaxUnpool", image("m, i = MaxPool<kernel_shape=[2,2],strides=[2,2]>(h); "
                               "g = MaxUnpool<kernel_shape=[2,2],strides=[2,2]>(m, i)"), {"W.0": "flat indices"}),
]  # fmt: skip


@each(CUTS)
def test_cuts(case: Cuts) -> None:
    prove(case)


@each(REFUSES)
def test_refuses(case: Refuses) -> None:
    refuse(case)
