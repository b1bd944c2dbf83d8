"""Unification of dimension expressions: refinement, fixed cores, and what every order of statements must agree on."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune.dimensions import Atom, Dimension, Product, Sum, atoms, count, keep_mask
from onnxprune.unification import Unification


def removals(u: Unification[str], dims: Sequence[Dimension]) -> set[frozenset[tuple[int, int]]]:
    """What a cut can do, free of names: for each free index of each atom, the (dimension, index) pairs it removes."""
    found: dict[tuple[int, int], set[tuple[int, int]]] = defaultdict(set)
    for position, dim in enumerate(dims):
        resolved = u.resolve(dim)
        for atom in set(atoms(resolved)):
            if u.cause_of(atom) is not None or atom.size == 1:
                continue
            for index in range(atom.size):
                keep = np.ones(atom.size, dtype=np.bool_)
                keep[index] = False
                gone = np.flatnonzero(~keep_mask(resolved, {atom.id: keep}))
                found[atom.id, index] |= {(position, int(i)) for i in gone}
    return {frozenset(v) for v in found.values()}


def a(id: int, size: int) -> Atom:
    return Atom(id, size)


def times(*factors: Dimension) -> Product:
    return Product(factors)


def plus(*parts: Dimension) -> Sum:
    return Sum(parts)


REFINES = [
    ("an atom becomes a product", a(0, 768), times(a(1, 12), a(2, 64)), "a1[12] x a2[64]"),
    ("an atom becomes a sum", a(0, 10), plus(a(1, 4), a(2, 6)), "a1[4] + a2[6]"),
    ("sums align at all boundaries", plus(a(0, 4), a(1, 6)), plus(a(2, 6), a(3, 4)), "a0[4] + a-3[2] + a3[4]"),
    ("products align at common factors", times(a(0, 4), a(1, 6)), times(a(2, 2), a(3, 12)), "a2[2] x a-4[2] x a1[6]"),
    ("a sum splits the outer factor", times(a(0, 5), a(1, 2)), plus(a(2, 4), a(3, 6)), "a[2] x a[2] + a[3] x a[2]"),
    ("factor of one is nothing", times(a(0, 1), a(1, 5)), a(2, 5), "a1[5]"),
    ("part of zero is nothing", plus(a(0, 0), a(1, 5)), a(2, 5), "a1[5]"),
]  # fmt: skip


def sizes_of(text: str) -> list[str]:
    """The sizes in an expression's text, with the signs between them."""
    return re.findall(r"\[\d+\]|[x+]", text)


@pytest.mark.parametrize(("fact", "x", "y", "expected"), REFINES, ids=[r[0] for r in REFINES])
def test_both_sides_become_the_common_refinement(fact: str, x: Dimension, y: Dimension, expected: str) -> None:
    """After `same`, both expressions resolve to one and the same refined expression."""
    u = Unification[str]()
    u.same(x, y, "node")
    assert u.resolve(x) == u.resolve(y)
    assert sizes_of(str(u.resolve(x))) == sizes_of(expected)
    assert all(u.cause_of(atom) is None for atom in atoms(u.resolve(x)))


FIXES = [
    ("no common refinement", times(a(0, 4), a(1, 9)), times(a(2, 9), a(3, 4)), {0, 1, 2, 3}),
    ("only the core is fixed", times(a(0, 5), a(1, 4), a(2, 9)), times(a(3, 5), a(4, 9), a(5, 4)), {1, 2, 4, 5}),
    ("sizes that differ", a(0, 4), a(1, 5), {0, 1}),
]


@pytest.mark.parametrize(("fact", "x", "y", "fixed"), FIXES, ids=[r[0] for r in FIXES])
def test_what_cannot_be_aligned_is_fixed_with_its_cause(fact: str, x: Dimension, y: Dimension, fixed: set[int]) -> None:
    """What has no common refinement is fixed, what has one stays free."""
    u = Unification[str]()
    u.same(x, y, "Reshape_7")
    for atom in (*atoms(x), *atoms(y)):
        causes = {u.cause_of(part) for part in atoms(u.resolve(atom))}
        assert causes == ({"Reshape_7"} if atom.id in fixed else {None})


def test_fixed_spreads_to_all_that_is_the_same_and_survives_splits() -> None:
    """An atom that was fixed stays fixed, with its first cause, whatever it is united with or split into."""
    u = Unification[str]()
    u.fix(a(0, 12), "output")
    u.fix(a(0, 12), "later")
    u.same(a(0, 12), a(1, 12), "Add")
    u.same(a(1, 12), times(a(2, 3), a(3, 4)), "Reshape")
    assert {u.cause_of(atom) for atom in atoms(u.resolve(a(0, 12)))} == {"output"}


def test_a_channel_shuffle_couples_both_halves() -> None:
    """Concat of two halves, shuffled by Reshape 2 x n, couples index i of one half with index i of the other."""
    u = Unification[str]()
    x, y = a(0, 58), a(1, 58)
    u.same(plus(x, y), times(a(2, 2), a(3, 58)), "Reshape")
    assert u.resolve(x) == u.resolve(y)
    u.same(plus(a(4, 58), a(5, 58)), times(a(3, 58), a(2, 2)), "Split")
    assert u.resolve(a(4, 58)).size == 58
    assert str(u.resolve(x)).count("+") == 1


@cache
def expressions(size: int, depth: int = 2) -> st.SearchStrategy[Dimension]:
    """Expressions of a size over a small stock of atoms, one id for one size."""
    options: list[st.SearchStrategy[Dimension]] = [st.integers(0, 2).map(lambda k: Atom(size * 10 + k, size))]
    if depth and size > 1:
        for outer in (d for d in range(2, size) if size % d == 0):
            pairs = st.tuples(expressions(outer, depth - 1), expressions(size // outer, depth - 1))
            options.append(pairs.map(Product))
        for cut in {1, size // 3, size // 2} - {0, size}:
            pairs = st.tuples(expressions(cut, depth - 1), expressions(size - cut, depth - 1))
            options.append(pairs.map(Sum))
    return st.one_of(options)


@st.composite
def statements(draw: st.DrawFn) -> list[tuple[Dimension, Dimension]]:
    pairs = []
    for _ in range(draw(st.integers(1, 5))):
        size = draw(st.sampled_from([12, 24, 36]))
        pairs.append((draw(expressions(size)), draw(expressions(size))))
    return pairs


@settings(max_examples=300, deadline=None)
@given(statements(), st.randoms(use_true_random=False))
def test_the_order_of_statements_does_not_matter(pairs: list[tuple[Dimension, Dimension]], random: object) -> None:
    """Whatever the order and the direction of the statements, the same cuts are possible, up to names."""
    dims = [dim for pair in pairs for dim in pair]
    results = []
    for turn in range(3):
        ordered = [(y, x) if turn == 2 else (x, y) for x, y in pairs]
        if turn:
            random.shuffle(ordered)  # type: ignore[attr-defined]
        u = Unification[str]()
        for x, y in ordered:
            u.same(x, y, "s")
        results.append(removals(u, dims))
    assert results[0] == results[1] == results[2]


@settings(max_examples=200, deadline=None)
@given(statements(), st.data())
def test_equal_dimensions_have_equal_masks_and_sizes_are_kept(
    pairs: list[tuple[Dimension, Dimension]], data: st.DataObject
) -> None:
    """For every keep mask of the free atoms: both sides of a statement have the same mask, its sum is `count`."""
    u = Unification[str]()
    for x, y in pairs:
        u.same(x, y, "s")
    free = {p for x, y in pairs for d in (x, y) for p in atoms(u.resolve(d)) if u.cause_of(p) is None and p.size > 1}
    seed = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    keep = {p.id: seed.random(p.size) < 0.5 for p in sorted(free, key=lambda p: p.id)}
    for mask in keep.values():
        mask[0] = True
    counts = {id: int(mask.sum()) for id, mask in keep.items()}
    for x, y in pairs:
        left, right = u.resolve(x), u.resolve(y)
        assert left.size == x.size == right.size
        assert np.array_equal(keep_mask(left, keep), keep_mask(right, keep))
        assert keep_mask(left, keep).sum() == count(left, counts)


@settings(max_examples=200, deadline=None)
@given(statements())
def test_no_expression_contains_itself(pairs: list[tuple[Dimension, Dimension]]) -> None:
    """Statements about an expression and its own parts end, and every part is smaller than its whole."""
    u = Unification[str]()
    for x, y in pairs:
        u.same(x, y, "s")

    def check(dim: Dimension) -> None:
        if isinstance(dim, (Product, Sum)):
            for child in dim.factors if isinstance(dim, Product) else dim.parts:
                assert child.size < dim.size
                check(child)

    for x, y in pairs:
        check(u.resolve(x))
        check(u.resolve(y))
