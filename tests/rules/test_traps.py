"""Graphs in which one dimension is used in two ways at once, or a size is read as a number: where cuts go wrong."""

from __future__ import annotations

from tests.rules.tables import Cuts, Refuses, each, prove, refuse

CUTS = [
    Cuts("a wide branch times a narrow one", "x[N,5,6] -> y; a = MatMul(x, A[6,8]); b = MatMul(x, B[6,1]);"
         "g = Mul(a, b); y = MatMul(g, V[8,4])", {"A": 8}),
    Cuts("an axis against itself", "x[N,5,6] -> y; a = MatMul(x, A[6,8]); t = Transpose<perm=[0,2,1]>(a);"
         "g = MatMul(t, a); r = ReduceSum<keepdims=0>(g, {1}); y = MatMul(r, V[8,3])", {"A": 8}),
    Cuts("the diagonal of an einsum", "x[N,6] -> y; a = MatMul(x, A[6,16]); r = Reshape(a, {0,4,4});"
         "t = Einsum<equation=\"nii->ni\">(r); y = MatMul(t, V[4,4])", {"A": 4}),
    Cuts("a weight and its transpose", "x[N,8] -> y; a = MatMul(x, A[8,8]); t = Transpose(A); y = MatMul(a, t)",
         {"A": 8}),
    Cuts("one weight twice in sequence", "x[N,8] -> y; a = MatMul(x, U[8,8]); b = MatMul(a, A[8,8]); c = MatMul(b, A);"
         "y = MatMul(c, V[8,3])", {"U": 8}),
    Cuts("-1 stands for the axis that is cut", "x[2,6] -> y; a = MatMul(x, A[6,8]); r = Reshape(a, {2,-1,2});"
         "s = Relu(r); t = Reshape(s, {2,8}); y = MatMul(t, V[8,4])", {"A": 4, "A#2": 2}),
    Cuts("expanded to the shape of what is cut", "x[N,6] -> y; a = MatMul(x, A[6,8]); s = Shape(a);"
         "e = Expand(E[1,8], s); g = Add(a, e); y = MatMul(g, V[8,4])", {"A": 8}),
    Cuts("a mean by a sum and the width keeps the width", "x[N,6] -> y; a = MatMul(x, A[6,8]); s = ReduceSum(a, {1});"
         "d = Shape<start=1>(a); f = Cast<to=1>(d); m = Div(s, f); g = Mul(a, m); y = MatMul(g, V[8,4])", {"A": 8}),
    Cuts("a decision by the width stays as it was", "x[N,6] -> y; a = MatMul(x, A[6,8]); d = Shape<start=1>(a);"
         "c = Greater(d, {5}); z = Where(c, a, 0.0); y = MatMul(z, V[8,4])", {"A": 8}),
    Cuts("the size of a weight as a number", "x[N,6] -> y; a = MatMul(x, A[6,8]); s = Size(A); f = Cast<to=1>(s);"
         "g = Div(a, f); y = MatMul(g, V[8,4])", {"A": 8}),
    Cuts("a slice of the dynamic batch from its end", "x[N,6] -> y; a = MatMul(x, A[6,8]);"
         "s = Slice(a, {-1}, {9223372036854775807}, {0}); y = MatMul(s, V[8,4])", {"A": 8}),
    Cuts("one index is taken out of the middle", "x[N,6] -> y; a = MatMul(x, A[6,8]); g = Gather<axis=1>(a, {3});"
         "y = MatMul(g, V[1,4])", {"A": 3, "A#2": 4}),
    Cuts("a part of one index stays whole", "x[N,6] -> y; a = MatMul(x, A[6,8]); b, c = Split<axis=1>(a, {1,7});"
         "g = Concat<axis=1>(c, b); y = MatMul(g, V[8,4])", {"A": 7}),
    Cuts("groups that cross a concat", "x[N,3,6,6] -> y; h = Conv(x, W[4,3,3,3]); k = Conv(x, U[4,3,3,3]);"
         "c = Concat<axis=1>(h, k); g = Conv<group=4>(c, Q[8,2,1,1]); y = Conv(g, V[4,8,1,1])",
         {"W": 2, "W#2": 2, "U": 2, "Q": 2}),
    Cuts("an If whose condition the shapes decide", "x[N,3,6,6] -> y; h = Conv(x, W[8,3,3,3]);"
         "s = Shape<start=2,end=3>(h); c = Greater(s, {2});"
         "p = If<then_branch = a () => (int64[4] o) { o = Constant<value = int64[4] {1,1,2,2}>() },"
         "else_branch = b () => (int64[4] q) { q = Constant<value = int64[4] {1,1,1,1}>() }>(c); g = Tile(h, p);"
         "y = Conv(g, V[4,8,1,1])", {"W": 8}),
    Cuts("a norm over the inner of two factors", "x[N,5,6] -> y; h = MatMul(x, W[6,8]); r = Reshape(h, {0,5,2,4});"
         "g = LayerNormalization(r, S[4], B[4]); q = Reshape(g, {0,5,8}); y = MatMul(q, V[8,4])", {"W": 2}),
]  # fmt: skip

REFUSES = [
    Refuses("a Squeeze without axes drops another axis", "x[N,5,6] -> y; h = MatMul(x, W[6,8]); u = Unsqueeze(h, {1});"
            "s = Squeeze(u); y = MatMul(s, V[8,4])", {"W.1": "Squeeze without axes"}),
    Refuses("positions are counted along the width", "x[N,6] -> y; a = MatMul(x, A[6,8]); d = Shape<start=1>(a);"
            "q = Squeeze(d, {0}); r = Range(0, q, 1); f = Cast<to=1>(r); g = Mul(a, f); y = MatMul(g, V[8,4])",
            {"A.1": "computed from shapes"}),
]  # fmt: skip


@each(CUTS)
def test_cuts(case: Cuts) -> None:
    prove(case)


@each(REFUSES)
def test_refuses(case: Refuses) -> None:
    refuse(case)
