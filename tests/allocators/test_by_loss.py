"""Allocators that weigh losses find the least there is on small problems, and repeat what they find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxprune.allocators import ALLOCATORS, Candidate, Curve, Problem, allocate, need_of
from onnxprune.cost import Costs, Term
from onnxprune.dimensions import Atom
from onnxprune.errors import UsageError

SEPARABLE = {"knapsack"}  # finds the optimum where costs and losses are sums over groups
TRYING = ("amc", "netadapt")


@st.composite
def separable(draw: st.DrawFn) -> Problem:
    """A few groups, each with a price for an index, sometimes in blocks, and convex losses or not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    found = [Candidate(i, f"g{i}", draw(st.integers(2, 9))) for i in range(draw(st.integers(1, 4)))]
    terms = [Term(c.atom, draw(st.integers(1, 9)), (Atom(c.atom, c.size),), draw(st.sampled_from([1, 1, 2, 4])))
             for c in found]  # fmt: skip
    curves = {c.atom: Curve.of(c.size, [(k, rng.random()) for k in range(1, c.size)]) for c in found}
    share = draw(st.floats(0.1, 1))
    return Problem(found, Costs({"macs": tuple(terms)}), None, None, {"macs": share}, 1.0, curves)  # type: ignore[arg-type]


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
