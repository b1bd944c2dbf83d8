"""What is compared in place of outputs that sorting has shuffled: the tensors in front of all that jumps."""

from __future__ import annotations

import pytest

from onnxprune.continuity import in_front
from onnxprune.dependency import analyse
from onnxprune.plan import Plan
from onnxprune.testing import build, random_keep

HIDDEN = "x[N,6] -> y; h = MatMul(x, W[6,8]); r = Relu(h); s = MatMul(r, V[8,5])"
CASES = [
    ("nothing jumps", "y = Sigmoid(s)", ()),
    ("sorted scores", "k, i = TopK(s, {3}); y = Identity(k)", ("s",)),
    ("what is picked by them", "k, i = TopK(s, {3}); t = Tanh(s); y = GatherElements<axis=1>(t, i)", ("s", "t")),
    ("a comparison", "g = Greater(s, 0.1); f = Cast<to=1>(g); y = Mul(f, s)", ("s",)),
    ("a jump that is cut", "g = Greater(h, 0.1); f = Cast<to=1>(g); e = Mul(f, h); y = MatMul(e, U[8,2])", ()),
]


@pytest.mark.parametrize(("fact", "tail", "expected"), CASES, ids=[case[0].replace(" ", "-") for case in CASES])
def test_the_tensors_in_front_of_what_jumps(fact: str, tail: str, expected: tuple[str, ...]) -> None:
    """They decide all outputs; there are none where an index is cut behind them."""
    analysis = analyse(build(f"{HIDDEN}; {tail}"))
    assert in_front(analysis, Plan.of(analysis.groups, random_keep(analysis.groups))) == expected
