"""What no cut can pass through says so by a reason of its own, whether its shapes are known or not."""

from __future__ import annotations

from tests.rules.tables import Refuses, each, refuse

REFUSES = [
    Refuses("a sequence", "x[N,5] -> y; h = MatMul(x, W[5,8]); k = MatMul(x, K[5,8]); s = SequenceConstruct(h, k);"
            "g = SequenceAt(s, 0); y = MatMul(g, V[8,4])", {"W.1": "handles a sequence", "V.0": "handles a sequence"}),
    Refuses("parts of a tensor as a sequence", "x[N,5] -> y; h = MatMul(x, W[5,8]);"
            "s = SplitToSequence<axis=1>(h, {4,4}); y = ConcatFromSequence<axis=1>(s)", {"W.1": "handles a sequence"}),
    Refuses("an optional", "x[N,5] -> y; h = MatMul(x, W[5,8]); o = Optional(h); g = OptionalGetElement(o);"
            "y = MatMul(g, V[8,4])", {"W.1": "handles an optional", "V.0": "handles an optional"}),
    Refuses("what is picked by value", "x[3,5] -> y; h = MatMul(x, W[5,8]); u = Unique<axis=1>(h); y = Relu(u)",
            {"W.1": "Unique picks by value"}),
    Refuses("a window", "x[N,5] -> y; h = MatMul(x, W[5,8]); w = HannWindow(8); g = Mul(h, w); y = MatMul(g, V[8,4])",
            {"W.1": "HannWindow makes a table"}),
    Refuses("random numbers", "x[N,5] -> y; h = MatMul(x, W[5,8]); r = RandomUniform<shape=[8]>(); z = Mul(r, 0.0);"
            "g = Add(h, z); y = MatMul(g, V[8,4])", {"W.1": "anew at every run"}),
    Refuses("draws", "x[N,5] -> y; h = MatMul(x, W[5,8]); m = Multinomial<sample_size=3>(h); y = Cast<to=1>(m)",
            {"W.1": "Multinomial picks by value"}, runs=False),
]  # fmt: skip


@each(REFUSES)
def test_refuses(case: Refuses) -> None:
    refuse(case)
