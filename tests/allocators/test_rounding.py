"""Steps follow from where a group sits: the width of its axes, the machine's block, and how many steps remain."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxprune.allocators import candidates, step_of
from onnxprune.dependency import analyse
from onnxprune.dimensions import Atom, Dimension, Product, Sum
from onnxprune.errors import UsageError
from onnxprune.model import Model

HEADS, WIDTH = Atom(1, 12), Atom(2, 64)


def plain(size: int) -> tuple[Atom, list[Dimension]]:
    return Atom(0, size), [Atom(0, size)]


STEPS: list[tuple[str, tuple[Atom, list[Dimension]], int, int]] = [
    ("a wide group keeps whole blocks", plain(64), 16, 16),
    ("blocks of 8 without AVX-512", plain(64), 8, 8),
    ("two steps have to remain", plain(32), 16, 16),
    ("a narrow group has two steps of eight", plain(16), 16, 8),
    ("from eight on never below four", plain(8), 16, 4),
    ("also where it is not wide enough for two steps of eight", plain(12), 16, 4),
    ("between two widths the smaller block", plain(31), 16, 8),
    ("a small group is not rounded", plain(7), 16, 1),
    ("a head is many columns", (HEADS, [Product((HEADS, WIDTH))]), 16, 1),
    ("a column of each head is twelve", (WIDTH, [Product((HEADS, WIDTH))]), 16, 4),
    ("the axis that asks most decides", (Atom(0, 64), [Product((Atom(0, 64), Atom(3, 49))), Atom(0, 64)]), 16, 16),
    ("halves that go together count twice", (Atom(0, 64), [Sum((Atom(0, 64), Atom(0, 64)))]), 16, 8),
    ("a part of a sum is as wide as itself", (Atom(0, 64), [Sum((Atom(0, 64), Atom(4, 7)))]), 16, 16),
    ("groups of a convolution", (Atom(0, 32), [Product((Atom(0, 32), Atom(5, 4)))]), 16, 4),
]


@pytest.mark.parametrize(("fact", "where", "block", "expected"), STEPS, ids=[s[0] for s in STEPS])
def test_auto_steps(fact: str, where: tuple[Atom, list[Dimension]], block: int, expected: int) -> None:
    """The widths of all axes are multiples of the block, as far as the group is wide enough."""
    atom, axes = where
    assert step_of(atom, axes, "auto", block) == expected
    assert step_of(atom, axes, 5, block) == 5


def test_a_multiple_of_nothing_is_a_usage_error() -> None:
    """`--round-to 0` is refused before anything is rounded."""
    with pytest.raises(UsageError, match="at least 1: found 0"):
        step_of(*plain(64), 0)


def test_candidates_of_a_model(models: Path) -> None:
    """Groups as numbers: sizes and steps, minimums within the size, the axes that each makes up."""
    analysis = analyse(Model.load(models / "cifar10_resnet20.onnx"))
    found = candidates(analysis, analysis.groups, keep_min=12)
    assert {(c.size, c.step) for c in found} == {(8, 4), (16, 8), (32, 16), (64, 16)}
    assert all(c.minimum == min(12, c.size) for c in found)
    axes = {c.name: c.axes for c in found}
    assert axes["layer1.0.conv1"] == 2
    written, read = 1 + 3, 3 + 1  # in stage 1 by the stem and each block, read by each block and the first of stage 2
    halves = (3 + 2 + 1) / 2  # in stage 2, where padding makes the same channels half of an axis
    quarters = (3 + 2 + 1) / 4  # in stage 3, the classifier included
    assert axes["conv1"] == written + read + halves + quarters
    assert [c.name for c in candidates(analysis, analysis.groups[2:4])] == [g.name for g in analysis.groups[2:4]]
