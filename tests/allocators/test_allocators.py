"""Allocators keep steps and minimums, reach targets from below and closely, and remove what matters least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxprune.allocators import (
    ALLOCATORS,
    Allocation,
    Candidate,
    Curve,
    Problem,
    RoundTo,
    allocate,
    allocator_of,
    candidates,
    choose,
    registry,
    tied,
)
from onnxprune.cost import Costs, Term
from onnxprune.criteria import Evidence, score
from onnxprune.cut import shrink
from onnxprune.dependency import analyse
from onnxprune.dimensions import Atom, Dimension, Sum, Vector
from onnxprune.errors import UsageError
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.weights import parameters

TOLERANCE = 0.02


@st.composite
def problems(draw: st.DrawFn, targets: bool = True, ties: bool = False) -> Problem:
    """Some groups with random steps, minimums, scores and losses; layers that read one and write another, or both.

    The loss of all groups together is more than the sum of theirs alone. With `ties`, some keep equal counts.
    """
    sizes = draw(st.lists(st.integers(2, 40), min_size=1, max_size=6))
    found = tuple(
        Candidate(
            i, f"g{i}", n, draw(st.sampled_from([1, 2, 4, 8, 12])), draw(st.integers(0, n)), draw(st.floats(1, 9))
        )
        for i, n in enumerate(sizes)
    )
    dims: list[Dimension] = [Atom(i, n) for i, n in enumerate(sizes)]
    dims += [Atom(99, 3), Sum((dims[0], Atom(99, 3)))]
    pairs = st.tuples(st.sampled_from(dims), st.sampled_from(dims))
    layers = [(dims[i], draw(st.sampled_from(dims))) for i in range(len(sizes))] + draw(st.lists(pairs, max_size=6))
    macs = tuple(Term(k, draw(st.integers(1, 500)), layer) for k, layer in enumerate(layers))
    params = tuple(Term(str(k), 9, layer) for k, layer in enumerate(layers))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scores = {c.atom: rng.random(c.size) for c in found}
    costs = Costs({"macs": macs, "params": params})
    if ties:
        found = tied(found, _patterns(found))
    curves = {c.atom: Curve.of(c.size, [(k, rng.random()) for k in range(1, c.size, 3)]) for c in found}

    def trial(counts: Mapping[int, int]) -> float:
        losses = np.array([curves[c.atom].at(counts[c.atom]) for c in found])
        return float(losses.sum() + 0.1 * losses.sum() ** 2)

    problem = Problem(found, costs, scores, sparsity=0, tolerance=TOLERANCE, curves=curves, trial=trial)
    if not targets:
        return replace(problem, sparsity=draw(st.floats(0, 0.99)))
    budgets = draw(st.sampled_from([("macs",), ("params",), ("macs", "params")]))
    return replace(problem, sparsity=None, targets={b: draw(st.floats(0.02, 1.2)) for b in budgets})


def _missing(counts: Mapping[int, int]) -> float:
    """A trial that finds all indices equally dear."""
    return 1e4 - sum(counts.values())


def _patterns(found: Sequence[Candidate]) -> list[str]:
    """The pattern of all groups, if some are of one size."""
    return ["g*"] if len({c.size for c in found}) < len(found) else []


def on_grid(candidate: Candidate, kept: int) -> bool:
    lowest = min(candidate.size, -(-max(candidate.minimum, 1) // candidate.step) * candidate.step)
    return lowest <= kept <= candidate.size and (kept % candidate.step == 0 or kept == candidate.size)


def totals(problem: Problem, allocation: Allocation) -> dict[str, tuple[float, float]]:
    """By budget, the cost counted term by term, and the target."""
    found = {}
    for budget, fraction in problem.targets.items():
        terms = problem.costs.terms[budget]
        found[budget] = sum(t.value(allocation.counts) for t in terms), fraction * sum(t.value() for t in terms)
    return found


@given(problems(ties=True), st.sampled_from(sorted(ALLOCATORS)))
def test_targets_are_met_from_below_and_closely(problem: Problem, name: str) -> None:
    """Whenever minimums allow it every cost is below; whenever no index is worth 2 %, one is within 2 %."""
    result = allocate(name, problem)
    found = totals(problem, result)
    for budget, (cost, _) in found.items():
        assert result.reached[budget] == pytest.approx(cost / problem.costs.total(budget))
    assert all(c.lowest(1) <= result.counts[c.atom] <= c.size for c in problem.candidates)
    assert all(result.counts[atom] == result.counts[c.atom] for c in problem.candidates for atom in c.atoms)
    fits = all(cost <= target * (1 + 1e-9) for cost, target in found.values())
    least = Allocation({a: c.lowest(1) for c in problem.candidates for a in c.atoms}, {}, True)
    assert fits == all(cost <= target * (1 + 1e-9) for cost, target in totals(problem, least).values())
    whole = all(result.counts[c.atom] == c.size for c in problem.candidates)
    close = whole or any(cost >= (1 - TOLERANCE) * np.floor(target) for cost, target in found.values())
    assert result.met == (fits and close)
    assert bool(result.reason) != result.met
    fine = all(
        problem.costs.total(b) - problem.costs.total(b, dict.fromkeys(c.atoms, c.size - 1)) < TOLERANCE * target - 1
        for c, (b, (_, target)) in product(problem.candidates, found.items())
    )
    assert close or not fits or not fine


@given(problems(ties=True), st.sampled_from(sorted(ALLOCATORS)))
def test_steps_are_kept_where_they_reach(problem: Problem, name: str) -> None:
    """Where the target may be missed by any amount and steps alone come below it, every count is a multiple."""
    loose = replace(problem, tolerance=1.0)
    least = Allocation({a: c.lowest(c.step) for c in problem.candidates for a in c.atoms}, {}, True)
    if all(cost <= target for cost, target in totals(loose, least).values()):
        result = allocate(name, loose)
        assert result.met
        assert all(on_grid(c, result.counts[c.atom]) for c in problem.candidates)


@given(problems(targets=False))
def test_uniform_is_the_same_fraction_by_hand(problem: Problem) -> None:
    """size - round(size x sparsity), up to the minimum, up to the next multiple, never above the size."""
    assert problem.sparsity is not None
    result = allocate("uniform", problem)
    for c in problem.candidates:
        kept = max(c.size - round(c.size * problem.sparsity), c.minimum, 1)
        while kept % c.step and kept < c.size:
            kept += 1
        assert result.counts[c.atom] == kept
        assert on_grid(c, kept)


@given(problems(targets=False), st.floats(0, 0.99))
def test_global_is_monotone_and_never_removes_more(problem: Problem, other: float) -> None:
    """A higher sparsity keeps no index more of any group, and at most the fraction asked for goes."""
    assert problem.sparsity is not None
    found = []
    for sparsity in sorted((problem.sparsity, other)):
        result = allocate("global", Problem(problem.candidates, problem.costs, problem.scores, sparsity=sparsity))
        assert result.reached["sparsity"] <= sparsity + 0.5 / sum(c.size for c in problem.candidates)
        assert all(on_grid(c, result.counts[c.atom]) for c in problem.candidates)
        assert result.met == (not result.reason)
        found.append(result.counts)
    assert all(found[0][atom] >= found[1][atom] for atom in found[0])


@given(problems(targets=False))
def test_global_without_rounding_is_a_threshold(problem: Problem) -> None:
    """The lowest scores of all groups go, but the last of each group stays."""
    assert problem.sparsity is not None
    free = [Candidate(c.atom, c.name, c.size) for c in problem.candidates]
    result = allocate("global", Problem(free, problem.costs, problem.scores, sparsity=problem.sparsity))
    best = {c.atom: max(problem.scores[c.atom]) for c in free}
    ranking = sorted((s, atom) for atom, scores in problem.scores.items() for s in scores if s < best[atom])
    gone = [atom for _, atom in ranking[: round(problem.sparsity * sum(c.size for c in free))]]
    assert dict(result.counts) == {c.atom: c.size - gone.count(c.atom) for c in free}


def greedy(problem: Problem) -> dict[int, int]:
    """The global allocation by the book: every move is judged anew before each, on costs counted term by term."""
    ((budget, fraction),) = problem.targets.items()
    terms = problem.costs.terms[budget]
    counts = {c.atom: c.size for c in problem.candidates}
    limit = fraction * sum(term.value() for term in terms)

    def cost(**changed: int) -> float:
        return sum(t.value({**counts, **{int(k[1:]): v for k, v in changed.items()}}) for t in terms)

    def share(c: Candidate, fewer: int, more: int) -> float:
        scores = np.sort(problem.scores[c.atom])
        return float(scores[c.size - more : c.size - fewer].sum()) * c.axes / c.size

    while (now := cost()) > limit:
        moves = []
        for c in problem.candidates:
            lower = c.down(counts[c.atom], c.step)
            if lower is not None and now > (then := cost(**{c.name: lower})):
                moves.append((share(c, lower, counts[c.atom]) / (now - then), c.atom, lower))
        if not moves:
            break
        _, atom, lower = min(moves)
        counts[atom] = lower
    while True:
        moves = []
        for c in problem.candidates:
            higher = c.up(counts[c.atom], c.step)
            if higher > counts[c.atom] and (then := cost(**{c.name: higher})) <= limit:
                moves.append((-share(c, counts[c.atom], higher) / max(then - cost(), 1e-9), c.atom, higher))
        if not moves:
            return counts
        _, atom, higher = min(moves)
        counts[atom] = higher


@given(problems())
def test_the_lazy_heap_is_the_greedy_choice(problem: Problem) -> None:
    """Judging a move only when it comes up gives what judging all of them each time gives."""
    budget, fraction = next(iter(problem.targets.items()))
    one = Problem(problem.candidates, problem.costs, problem.scores, targets={budget: fraction}, tolerance=1.0)
    least = {c.atom: c.lowest(c.step) for c in one.candidates}
    if one.costs.total(budget, least) <= fraction * one.costs.total(budget):
        assert dict(allocate("global", one).counts) == greedy(one)


@pytest.mark.parametrize(("axes", "first"), [(10.0, {"inner"}), (1.0, {"spine"})])
def test_shared_groups_are_no_bargain(axes: float, first: set[str]) -> None:
    """What ten layers share saves ten times the cost and loses ten times as much, so it goes after what scores less."""
    spine, inner = Atom(0, 16), [Atom(i, 16) for i in range(1, 11)]
    costs = Costs({"macs": tuple(Term(a.id, 1, (spine, a)) for a in inner)})
    found = [Candidate(0, "spine", 16, axes=axes), *(Candidate(a.id, "inner", 16) for a in inner)]
    scores: dict[int, Vector] = {c.atom: np.full(16, 1.0 if c.atom == 0 else 0.9) for c in found}
    counts = allocate("global", Problem(found, costs, scores, targets={"macs": 0.9})).counts
    assert {c.name for c in found if counts[c.atom] < c.size} == first


def test_what_cannot_be_reached_is_said() -> None:
    """The allocation comes as far as minimums allow, and says where and why it ended."""
    costs = Costs({"macs": (Term(0, 100, (Atom(0, 10),)),), "params": ()})
    scores: dict[int, Vector] = {0: np.arange(10.0)}
    curves, wanted = {0: Curve.of(10, [(1, 1.0)])}, {"macs": 0.3}
    held = Problem([Candidate(0, "g", 10, minimum=5)], costs, scores, None, wanted, curves=curves, trial=_missing)
    free = replace(held, candidates=[Candidate(0, "g", 10)], targets={"macs": 0.35})
    for name in ALLOCATORS:
        result = allocate(name, held)
        assert (dict(result.counts), result.reached, result.met) == ({0: 5}, {"macs": 0.5}, False)
        assert result.reason == "macs=0.3 was asked and macs=0.5 reached: every group is at its minimum"
        coarse = allocate(name, free)
        assert coarse.counts == {0: 3}
        assert coarse.reason == "macs=0.35 was asked and macs=0.3 reached: no finer step fits below it"
    most = allocate("uniform", Problem([Candidate(0, "g", 10, minimum=5)], costs, sparsity=0.9))
    assert (most.counts[0], most.met, most.reason) == (5, True, "held by their minimum: g")


WRONG = [
    ({}, "either a sparsity or targets"),
    ({"sparsity": 0.5, "targets": {"macs": 0.5}}, "not both"),
    ({"sparsity": 1.0}, "below 1: found 1"),
    ({"targets": {"watts": 0.5}}, "no budget 'watts': choose one of macs"),
    ({"targets": {"macs": 0.0}}, "macs=0 must be above 0"),
]


@pytest.mark.parametrize(("request_", "message"), WRONG, ids=[w[1] for w in WRONG])
def test_a_wrong_request_is_a_usage_error(request_: dict[str, object], message: str) -> None:
    """It is refused before anything is allocated."""
    with pytest.raises(UsageError, match=message):
        Problem([], Costs({"macs": ()}), **request_)  # type: ignore[arg-type]


def test_groups_without_scores_cannot_be_compared() -> None:
    """`global` names them; `uniform` needs no scores."""
    problem = Problem([Candidate(0, "a group", 4)], Costs({"macs": ()}), sparsity=0.5)
    assert allocate("uniform", problem).counts == {0: 2}
    with pytest.raises(UsageError, match="'a group' lack"):
        allocate("global", problem)


def test_the_best_are_chosen_and_of_equals_the_first() -> None:
    """Keep masks have as many indices as the counts say."""
    masks = choose({0: np.array([1.0, 3.0, 2.0, 3.0]), 1: np.ones(3), 2: np.zeros(2)}, {0: 2, 1: 2, 2: 2})
    assert {atom: mask.tolist() for atom, mask in masks.items()} == {
        0: [False, True, False, True],
        1: [True, True, False],
        2: [True, True],
    }


@pytest.mark.parametrize("round_to", ["auto", 1])
@pytest.mark.parametrize("budget", ["macs", "params"])
@pytest.mark.parametrize("name", sorted(ALLOCATORS))
def test_resnet20_at_half_its_cost(models: Path, name: str, budget: str, round_to: RoundTo) -> None:
    """The shrunk model really holds and does between 49 and 50 % of what the original does."""
    analysis = analyse(Model.load(models / "cifar10_resnet20.onnx"))
    scores, costs = score(Evidence(analysis), "l2"), Costs.of(analysis)
    found = candidates(analysis, analysis.groups, round_to)
    curves = {c.atom: Curve.of(c.size, [(k, c.size * (c.size - k) / (c.size - 1)) for k in range(1, c.size)])
              for c in found}  # fmt: skip
    asked = {budget: 0.5}
    result = allocate(name, Problem(found, costs, scores.values, None, asked, curves=curves, trial=_missing))
    assert result.met
    small = shrink(analysis, Plan.of(analysis.groups, choose(scores.values, result.counts)))
    if budget == "params":
        ratio = parameters(small) / parameters(analysis.model)
    else:
        ratio = Costs.of(analyse(small)).macs() / costs.macs()
    assert 0.49 <= ratio <= 0.5
    assert ratio == pytest.approx(result.reached[budget])
    if round_to != 1:
        assert all(count % 4 == 0 for count in result.counts.values())


def test_an_unknown_allocator_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the allocators that there are, those of other packages included."""
    with pytest.raises(UsageError, match=r"'fair'.*global, knapsack.*uniform"):
        allocator_of("fair")
    point = EntryPoint("fair", "onnxprune.allocators.uniform:uniform", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "onnxprune.allocators" else [])
    assert allocator_of("fair") is ALLOCATORS["uniform"]
    assert allocator_of("uniform") is ALLOCATORS["uniform"]
