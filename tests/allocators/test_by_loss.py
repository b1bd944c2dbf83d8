"""Allocators that weigh losses find the least there is on small problems, and repeat what they find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxprune.allocators import ALLOCATORS, Candidate, Curve, Problem, Trial, allocate, needs_of, registry
from onnxprune.allocators.amc import TRIALS
from onnxprune.allocators.between import between
from onnxprune.allocators.erk import density
from onnxprune.allocators.guard import guarded
from onnxprune.cost import Costs, Term
from onnxprune.dimensions import Atom
from onnxprune.errors import UsageError


@st.composite
def separable(draw: st.DrawFn) -> Problem:
    """A few groups, each with a price for an index, sometimes in blocks, and convex losses or not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    found = [Candidate(i, f"g{i}", draw(st.integers(2, 9))) for i in range(draw(st.integers(1, 4)))]
    terms = [Term(c.atom, draw(st.integers(1, 9)), (Atom(c.atom, c.size),), draw(st.sampled_from([1, 1, 2, 4])))
             for c in found]  # fmt: skip
    curves = {c.atom: Curve.of(c.size, [(k, rng.random()) for k in range(1, c.size)]) for c in found}
    share = draw(st.floats(0.1, 1))
    return Problem(found, Costs({"macs": tuple(terms)}), {}, None, {"macs": share}, 1.0, curves)


def loss(problem: Problem, counts: Mapping[int, int]) -> float:
    return sum(problem.curves[c.atom].at(counts[c.atom]) for c in problem.candidates)


@given(separable())
def test_knapsack_is_the_optimum(problem: Problem) -> None:
    """Of all counts within the budget, tried one by one, none loses less."""
    limit = problem.targets["macs"] * problem.costs.total("macs") * (1 + 1e-9)
    every = (dict(enumerate(kept)) for kept in product(*(range(1, c.size + 1) for c in problem.candidates)))
    fitting = [counts for counts in every if problem.costs.total("macs", counts) <= limit]
    found = allocate("knapsack", problem)
    if fitting:
        assert problem.costs.total("macs", found.counts) <= limit
        assert loss(problem, found.counts) == pytest.approx(min(loss(problem, counts) for counts in fitting))


@given(st.integers(2, 40), st.integers(0, 2**32), st.booleans())
def test_a_curve_follows_scores_between_measured_counts(size: int, seed: int, flat: bool) -> None:
    """What was measured stays; in between losses never rise with what stays, and grow ever faster with what goes."""
    rng = np.random.default_rng(seed)
    scores = np.zeros(size) if flat else np.sort(rng.random(size))
    counts = sorted({1, *rng.integers(1, size, 3).tolist()} - {size})
    curve = Curve.of(size, [(kept, float(rng.random())) for kept in counts])
    found = curve.along(scores)
    assert found.kept == tuple(range(1, size + 1))
    for kept, loss_there in zip(curve.kept, curve.loss, strict=True):
        assert found.at(kept) == loss_there
    assert all(more <= less + 1e-12 for less, more in pairwise(found.loss))
    for low, high in pairwise(curve.kept):
        steps = [found.at(kept) - found.at(kept + 1) for kept in range(low, high)]
        assert all(first >= second - 1e-9 for first, second in pairwise(steps))
        middle = (low + high) // 2
        assert found.at(middle) <= curve.at(middle) + 1e-9


@st.composite
def any_problem(draw: st.DrawFn) -> Problem:
    """A separable problem that can be tried, with a loss of all together that is not a sum, and with scores."""
    problem = draw(separable())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scores = {c.atom: rng.random(c.size) for c in problem.candidates}
    return replace(
        problem, scores=scores, trial=lambda counts: loss(problem, counts) ** 1.5, seed=draw(st.integers(0, 9))
    )


@given(any_problem(), st.floats(0, 0.95), st.sampled_from(sorted(ALLOCATORS)))
def test_a_sparsity_is_a_target_too(problem: Problem, sparsity: float, name: str) -> None:
    """What is reached is counted over indices, and what is not met is said."""
    asked = replace(problem, targets={}, sparsity=sparsity)
    found = allocate(name, asked)
    size = sum(c.size for c in problem.candidates)
    assert found.reached == {"sparsity": pytest.approx(1 - sum(found.counts.values()) / size)}
    assert found.met or found.reason
    if name not in ("auto", "best", "global", "uniform"):  # these round as people expect of them
        floor = 1 - sum(1 for _ in problem.candidates) / size
        assert found.reached["sparsity"] >= min(sparsity, floor) - 1e-9


@given(any_problem(), st.sampled_from(sorted(ALLOCATORS)))
def test_the_same_problem_has_the_same_answer(problem: Problem, name: str) -> None:
    """Nothing depends on what was asked before."""
    assert allocate(name, problem) == allocate(name, problem)


@given(any_problem())
def test_amc_is_no_worse_than_uniform(problem: Problem) -> None:
    """Of all that it tried, which the uniform allocation is one of, it answers the best."""
    found, common = allocate("amc", problem), allocate("uniform", problem)
    assert problem.trial is not None
    assert not common.met or problem.trial(found.counts) <= problem.trial(common.counts)


def _rows(trial: Trial | None = None) -> Problem:
    """Ten groups of equal cost, the n-th of which loses n times as much as the first, the more the fewer stay."""
    found = [Candidate(i, f"g{i}", 16) for i in range(10)]
    costs = Costs({"macs": tuple(Term(c.atom, 1, (Atom(c.atom, 16),)) for c in found)})
    curves = {c.atom: Curve.of(16, [(k, (c.atom + 1) * (16 - k) ** 2) for k in range(1, 16)]) for c in found}
    return Problem(found, costs, {}, None, {"macs": 0.5}, curves=curves, trial=trial)


def test_netadapt_takes_where_it_hurts_least() -> None:
    """Where losses are sums it comes near the optimum, in few more trials than one for each group and step."""
    tried = []

    def trial(counts: Mapping[int, int]) -> float:
        tried.append(counts)
        return loss(_rows(), counts)

    problem = _rows(trial)
    found, best = allocate("netadapt", problem), allocate("knapsack", problem)
    assert found.met
    assert loss(problem, found.counts) <= 1.1 * loss(problem, best.counts)
    assert loss(problem, found.counts) < 0.8 * loss(problem, allocate("uniform", problem).counts)
    assert len(tried) < 10 * 16 / 2  # most are not tried anew at each step


def test_amc_learns() -> None:
    """Its answer loses clearly less than the uniform one, within the trials that it has."""
    tried = []

    def trial(counts: Mapping[int, int]) -> float:
        tried.append(counts)
        return loss(_rows(), counts)

    problem = _rows(trial)
    found = allocate("amc", problem)
    assert loss(problem, found.counts) < 0.85 * loss(problem, allocate("uniform", problem).counts)
    assert len(tried) == TRIALS + 1


def test_sensitivity_is_one_threshold() -> None:
    """No group gives up more than the threshold, and none could give one index more below it."""
    problem = replace(_rows(), tolerance=1.0)
    found = allocate("sensitivity", problem)
    losses = [problem.curves[c.atom].at(found.counts[c.atom]) for c in problem.candidates]
    more = [c for c in problem.candidates if found.counts[c.atom] > 1]
    nexts = [problem.curves[c.atom].at(found.counts[c.atom] - 1) for c in more]
    assert max(losses) <= min(nexts)


@pytest.mark.parametrize(("name", "message"), [(n, "give --calibration") for n in ALLOCATORS if needs_of(n)])
def test_without_samples_it_is_a_usage_error(name: str, message: str) -> None:
    """What can be neither looked up nor tried is not guessed."""
    with pytest.raises(UsageError, match=message):
        allocate(name, replace(_rows(), curves={}))


def test_lamp_by_hand() -> None:
    """Squares 1, 4, 9 are shares 1/14, 4/13 and 1 of those no smaller; equal scores 1/3, 1/2, 1."""
    found = [Candidate(0, "steep", 3), Candidate(1, "flat", 3)]
    costs = Costs({"macs": tuple(Term(c.atom, 1, (Atom(c.atom, 3),)) for c in found)})
    scores = {0: np.array([3.0, 1.0, 2.0]), 1: np.full(3, 7.0)}
    kept = [
        dict(allocate("lamp", Problem(found, costs, scores, None, {"macs": left / 6})).counts) for left in (5, 4, 3, 2)
    ]
    assert kept == [{0: 2, 1: 3}, {0: 1, 1: 3}, {0: 1, 1: 2}, {0: 1, 1: 1}]


def test_erk_by_hand() -> None:
    """(8 + 8 + 3 + 3) / (8 8 3 3) = 22/576 against (32 + 32 + 2) / 32^2 = 66/1024; a bias plays no part."""
    a, b, three, one = Atom(0, 8), Atom(1, 32), Atom(90, 3), Atom(91, 1)
    terms = (
        Term("v", 1, (Atom(92, 8), a, three, three)),
        Term("w", 1, (b, Atom(93, 32), one, one)),
        Term("c", 1, (b,)),
    )
    found = [Candidate(0, "a", 8), Candidate(1, "b", 32)]
    costs = Costs({"params": terms})
    assert [density(costs, c) for c in found] == [pytest.approx(22 / 576), pytest.approx(66 / 1024)]
    counts = allocate("erk", Problem(found, costs, targets={"params": 0.5})).counts
    assert counts[0] / 8 == pytest.approx(counts[1] / 32 * (22 / 576) / (66 / 1024), abs=1 / 8)


def test_deep_cuts_are_compared_by_what_can_be_repaired() -> None:
    """KL rewards flat outputs there; curves, of shallow cuts too, take the divergence."""
    assert needs_of("amc") == {"trial": "linear", "guard": "repaired"}
    assert needs_of("netadapt") == {"trial": "outputs", "guard": "repaired"}
    assert needs_of("best") == {"curves": "outputs", "trial": "repaired"}
    others = {name: needs_of(name) for name in ALLOCATORS if name not in ("amc", "best", "netadapt")}
    assert {loss for needs in others.values() for loss in needs.values()} == {"outputs"}


@pytest.mark.parametrize("curves", [True, False], ids=["with curves", "without"])
def test_best_takes_the_proposal_whose_trial_loses_least(curves: bool) -> None:
    """Each is tried once, whole; what misses the targets is taken only where all do."""
    tried: list[tuple[int, ...]] = []
    rng = np.random.default_rng(0)
    ready = replace(_rows(), scores={atom: rng.random(16) * (atom + 1) for atom in range(10)})
    wanted = dict(allocate("lamp", ready).counts)

    def trial(counts: Mapping[int, int]) -> float:
        tried.append(tuple(counts.values()))
        return sum(abs(counts[atom] - kept) for atom, kept in wanted.items())

    problem = replace(ready, trial=trial, curves=ready.curves if curves else {})
    found = allocate("best", problem)
    names = ["global", "uniform", "lamp", *(["knapsack"] if curves else [])]
    proposed = [allocate(name, problem) for name in names]
    if curves:
        proposed.append(between(problem, proposed[0], proposed[3]))
    assert tried == [tuple(one.counts.values()) for one in proposed]
    assert (dict(found.counts), found.met) == (wanted, True)
    assert found.told.startswith("allocation: lamp, whose trial loses least (global ")
    assert allocate("auto", problem) == found
    assert dict(allocate("auto", replace(problem, trial=None)).counts) == dict(allocate("global", problem).counts)
    short = replace(problem, candidates=[replace(c, minimum=c.size - 1) for c in problem.candidates])
    assert not allocate("best", short).met


def test_best_tries_what_lies_between_two_estimates() -> None:
    """And takes it where it loses least."""
    rng = np.random.default_rng(0)
    problem = replace(_rows(), scores={atom: rng.random(16) * (atom + 1) for atom in range(10)})
    first, second = (allocate(name, problem) for name in ("global", "knapsack"))
    wanted = dict(between(problem, first, second).counts)
    assert wanted not in (dict(first.counts), dict(second.counts))
    found = allocate("best", replace(problem, trial=lambda counts: float(dict(counts) != wanted)))
    assert dict(found.counts) == wanted
    assert found.told.startswith("allocation: between global and knapsack, whose trial loses least (global 1, ")


@given(any_problem(), st.booleans())
def test_what_lies_between_meets_the_targets(problem: Problem, by_sparsity: bool) -> None:
    """On the steps of the groups; half of one and the same is the same."""
    if by_sparsity:
        problem = replace(problem, targets={}, sparsity=0.4)
    one, other = (allocate(name, problem) for name in ("global", "knapsack"))
    found = between(problem, one, other)
    assert found.met or not (one.met and other.met)
    assert all(found.counts[c.atom] in c.options for c in problem.candidates)
    if other.met and not by_sparsity:
        assert dict(between(problem, other, other).counts) == dict(other.counts)


@pytest.mark.parametrize("liked", ["netadapt", "uniform"])
def test_a_search_ends_no_worse_than_uniform(liked: str) -> None:
    """By what is left after repair; where nobody can say, or both are one, the answer is that of the search."""
    problem = replace(_rows(), trial=lambda counts: sum((16 - kept) * (atom + 1) for atom, kept in counts.items()))
    answers = {name: dict(allocate(name, problem).counts) for name in ("netadapt", "uniform")}
    assert answers["netadapt"] != answers["uniform"]
    asked: list[dict[int, int]] = []

    def guard(counts: Mapping[int, int]) -> float:
        asked.append(dict(counts))
        return float(counts != answers[liked])

    found = allocate("netadapt", replace(problem, guard=guard))
    assert dict(found.counts) == answers[liked]
    assert asked == [answers["netadapt"], answers["uniform"]]
    assert found.met
    assert found.told.startswith(f"allocation: {liked}, which loses ")
    asked.clear()
    assert dict(allocate("uniform", replace(problem, guard=guard)).counts) == answers["uniform"]
    assert not asked


@pytest.mark.parametrize("met", [True, False])
def test_a_target_that_only_one_of_two_meets_decides(met: bool) -> None:
    """Whatever it loses, and the note says that this was why."""
    problem = _rows()
    other = allocate("uniform", problem)
    found = replace(other, counts={0: 16, **dict.fromkeys(range(1, 10), 15)}, met=met)
    if met:
        problem = replace(problem, candidates=[replace(c, minimum=15) for c in problem.candidates])
    told = guarded("netadapt", replace(problem, guard=lambda counts: float((counts[0] == 16) == met)), found)
    assert told.met
    assert told.counts == (found if met else other).counts
    assert told.told.startswith(f"allocation: {'netadapt' if met else 'uniform'}, which meets the targets")


def test_allocators_of_others_say_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an attribute of the function; without one they get what `uniform` gets."""
    for attribute, need in (("curves", {"curves"}), ("curves trial", {"curves", "trial"}), (None, set())):
        function = lambda problem: allocate("uniform", problem)  # noqa: E731
        if attribute is not None:
            function.needs = attribute  # type: ignore[attr-defined]
        monkeypatch.setattr(registry, "allocator_of", lambda name, found=function: found)
        assert set(needs_of("theirs")) == need
