"""select: which groups a pattern means."""

from __future__ import annotations

import pytest

from onnxprune.dependency import analyse
from onnxprune.errors import UsageError
from onnxprune.passes.select import Select
from onnxprune.testing import build
from onnxprune.unit import Unit

CHAIN = "x[N,6] -> y; a = MatMul(x, A[6,16]); b = MatMul(a, B[16,16]); y = MatMul(b, C[16,5])"
"""Group A cuts A and B, group B cuts B and C."""


@pytest.mark.parametrize(
    ("select", "chosen"),
    [
        (Select(), ["A", "B"]),
        (Select(include=("A",)), ["A"]),
        (Select(include=("B",)), ["B"]),  # group B alone, although group A cuts the weight B
        (Select(include=("C",)), ["B"]),  # no group has that name: those that cut the weight C
        (Select(include=("[AB]",)), ["A", "B"]),
        (Select(include=("A", "C")), ["A", "B"]),
        (Select(exclude=("A",)), ["B"]),
        (Select(exclude=("*",)), []),
        (Select(include=("*",), exclude=("C",)), ["A"]),
    ],
)
def test_patterns_choose_groups(select: Select, chosen: list[str]) -> None:
    model = build(CHAIN)
    unit = select.run(Unit(source=model, analysis=analyse(model)))
    assert unit.candidates is not None
    assert [group.name for group in unit.candidates] == chosen


def test_a_pattern_that_matches_nothing_names_what_there_is() -> None:
    model = build(CHAIN)
    with pytest.raises(UsageError, match=r"'D\*' matches no prunable group or weight of .*; groups are A, B"):
        Select(include=("D*",)).run(Unit(source=model, analysis=analyse(model)))
