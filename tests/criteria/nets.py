"""Small nets whose groups lie on plain, merged, joined and shuffled axes."""

from __future__ import annotations

from collections.abc import Callable

from onnxprune.dependency import Analysis, analyse
from onnxprune.testing import build

__all__ = ["CARRIED", "NETS", "net"]

NETS = {
    "convolutions": """
        x[N,3,6,6] -> y
        a = Conv<pads=[1,1,1,1]>(x, W1[6,3,3,3], B1[6]); b = Relu(a)
        c = Conv<pads=[1,1,1,1], group=6>(b, D[6,1,3,3], B2[6]); d = Relu(c)
        e = Conv(d, W2[8,6,1,1], B3[8]); f = Relu(e)
        g = GlobalAveragePool(f); h = Flatten(g); y = Gemm(h, V[8,4], B4[4])
    """,
    "perceptron": """
        x[N,6] -> y
        a = Gemm(x, W[6,5], B[5]); b = Sigmoid(a); y = MatMul(b, V[5,2])
    """,
    "merged": """
        x[N,3,4,4] -> y
        a = Conv<kernel_shape=[1,1]>(x, W1[4,3,1,1], B1[4]); b = Conv<kernel_shape=[1,1]>(x, W2[8,3,1,1])
        c = Concat<axis=1>(a, b); d = Relu(c)
        e = Conv<kernel_shape=[1,1], group=2>(d, W3[8,6,1,1]); f = Relu(e)
        g = Flatten(f); y = Gemm(g, V[128,5])
    """,
    "attention": """
        x[N,5,12] -> y
        q = MatMul(x, Q[12,12]); k = MatMul(x, K[12,12]); v = MatMul(x, P[12,18])
        a = Reshape(q, {0,5,3,4}); b = Reshape(k, {0,5,3,4}); c = Reshape(v, {0,5,3,6})
        d = Transpose<perm=[0,2,1,3]>(a); e = Transpose<perm=[0,2,3,1]>(b); f = Transpose<perm=[0,2,1,3]>(c)
        s = MatMul(d, e); p = Softmax(s); o = MatMul(p, f)
        t = Transpose<perm=[0,2,1,3]>(o); u = Reshape(t, {0,5,18}); m = MatMul(u, O[18,12])
        h = Gemm<transB=1>(r, U1[7,12], B1[7]); i = Relu(h); y = MatMul(i, U2[7,3])
    """.replace("h = Gemm", "r = Reshape(m, {-1,12}); h = Gemm"),
}

Carried = tuple[str, int, Callable[[int], list[int]]]

# Where each group is read, by hand: tensor, axis (behind samples and positions), which of its indices go with index i.
CARRIED: dict[str, dict[str, list[Carried]]] = {
    "convolutions": {
        "W1": [("b", 1, lambda i: [i]), ("d", 1, lambda i: [i])],
        "W2": [("f", 1, lambda i: [i])],
    },
    "merged": {
        "W1": [("d", 1, lambda i: [i, 6 + i])],
        "W2": [("d", 1, lambda i: [4 + i, 10 + i])],
        "W3": [("f", 1, lambda i: [i, 4 + i])],
    },
    "perceptron": {"W": [("b", 1, lambda i: [i])]},
    "attention": {
        "Q": [("u", 2, lambda i: [6 * i + k for k in range(6)])],
        "Q#2": [("d", 3, lambda i: [i]), ("e", 2, lambda i: [i])],
        "P": [("u", 2, lambda i: [i, 6 + i, 12 + i])],
        "O": [("m", 2, lambda i: [i])],
        "U1": [("i", 2, lambda i: [i])],
    },
}


def net(name: str) -> Analysis:
    """The analysis of one of `NETS`."""
    return analyse(build(NETS[name]))
