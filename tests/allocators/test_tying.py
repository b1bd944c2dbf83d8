"""Tied groups are one candidate: they keep equal counts, and each its own best indices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from onnxprune.allocators import ALLOCATORS, Candidate, Curve, Problem, allocate, candidates, tied
from onnxprune.cost import Costs
from onnxprune.criteria import Evidence, score
from onnxprune.dependency import analyse
from onnxprune.errors import UsageError
from onnxprune.model import Model

GROUPS = [
    Candidate(0, "a.0", 16, step=4, minimum=1, axes=2),
    Candidate(1, "a.1", 32, axes=2),
    Candidate(2, "a.2", 16, step=6, minimum=5, axes=3),
    Candidate(3, "b.0", 16),
]


def test_groups_of_one_size_are_one_candidate() -> None:
    """It keeps what all of them may keep; other sizes and names stay as they are, in order."""
    found = tied(GROUPS, ["a.*"])
    assert [(c.name, c.atoms) for c in found] == [("a.0", (0, 2)), ("a.1", (1,)), ("b.0", (3,))]
    assert (found[0].step, found[0].minimum, found[0].axes) == (12, 5, 5)
    assert tied(GROUPS, []) == tuple(GROUPS)


def test_patterns_that_overlap_join_all() -> None:
    """a.0 with a.2 and a.2 with b.0 is all three."""
    found = tied(GROUPS, ["a.*", "*[.][02]"])
    assert [c.atoms for c in found] == [(0, 2, 3), (1,)]
    assert [c.atoms for c in tied(GROUPS, ["*.0", "a.?"])] == [(0, 2, 3), (1,)]


def test_what_is_left_out_still_counts_for_the_pattern() -> None:
    """A group that a verification found at fault leaves its tie, which is no mistake of the user's."""
    assert [c.atoms for c in tied(GROUPS, ["a.*"], without={0})] == [(1,), (2,), (3,)]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("c.*", "matched none; groups are a.0"), ("a.[01]", r"matched a.0 \(16\), a.1 \(32\)"), ("b.0", "two groups of")],
)
def test_a_pattern_without_two_of_a_size_is_a_usage_error(pattern: str, message: str) -> None:
    """The message says what it matched and what there is."""
    with pytest.raises(UsageError, match=message):
        tied(GROUPS, [pattern])


@pytest.mark.parametrize("sparsity", [None, 0.4])
@pytest.mark.parametrize("name", sorted(set(ALLOCATORS) - {"auto"}))
def test_resnet20_stays_regular(models: Path, name: str, sparsity: float | None) -> None:
    """The blocks of a stage keep equal widths, whatever the allocation, and the target is met."""
    analysis = analyse(Model.load(models / "cifar10_resnet20.onnx"))
    found = candidates(analysis, analysis.groups, tie=["layer?.*.conv1"])
    assert sorted(len(c.atoms) for c in found if c.tied) == [3, 3, 3]
    scores = score(Evidence(analysis), "l2").values
    curves = {c.atom: Curve.of(c.size, [(1, c.size)]) for c in found}
    targets = {"macs": 0.6} if sparsity is None else {}
    sizes = {group.atom.id: group.size for group in analysis.groups}

    def trial(counts: Mapping[int, int]) -> float:
        return sum((1 - kept / sizes[atom]) ** 2 for atom, kept in counts.items())

    problem = Problem(found, Costs.of(analysis), scores, sparsity, targets, curves=curves, trial=trial)
    result = allocate(name, problem)
    assert result.met
    stages = {group.name.split(".")[0] for group in analysis.groups if group.name.endswith(".conv1")}
    for stage in stages:
        kept = {result.counts[g.atom.id] for g in analysis.groups if g.name.startswith(f"{stage}.") and
                g.name.endswith(".conv1")}  # fmt: skip
        assert len(kept) == 1
