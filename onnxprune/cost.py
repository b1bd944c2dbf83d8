"""What a model costs, as exact functions of how many indices of each group stay.

A cost is a sum of terms, each a coefficient times the sizes of some dimensions: a convolution's multiply-accumulates
are pixels x kernel x |w[0]| x |w[1]|, a weight's parameters the product of its axes. So whatever is cut, costs follow
from counts alone, without a graph and without a cut. `counts` maps atom ids to kept indices; an absent atom is whole.

All terms together are one directed acyclic graph of sums and products over atoms, in which equal subexpressions are
one node. A `Ledger` keeps its values and, when one count changes, visits only what depends on it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from types import MappingProxyType

from onnxprune.dependency import Analysis
from onnxprune.dimensions import Atom, Dimension, Sum, atoms, count, countable
from onnxprune.weights import is_parameter

__all__ = ["Costs", "Ledger", "Term"]

Counts = Mapping[int, int]
WHOLE: Counts = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Term:
    """`coefficient` x the sizes of `dims`, owed by `owner`: the index of a node (MACs) or the name of a weight."""

    owner: int | str
    coefficient: int
    dims: tuple[Dimension, ...]

    def value(self, counts: Counts = WHOLE) -> int:
        """What the term costs when `counts` of each atom stay."""
        total = self.coefficient
        for dim in self.dims:
            total *= count(dim, counts)
        return total


@dataclass(frozen=True)
class Costs:
    """The terms of every budget: `macs` (multiply-accumulates for a batch of one) and `params` (numbers stored)."""

    terms: Mapping[str, tuple[Term, ...]]

    @staticmethod
    def of(analysis: Analysis) -> Costs:
        """The costs of an analysed model, all its parameters included, prunable or not."""
        macs = tuple(Term(node, work.coefficient, work.dims) for node, work in analysis.work)
        params = []
        for name, info in analysis.model.weights.items():
            if is_parameter(info):
                dims = analysis.dims(name)
                params.append(Term(name, 1, dims) if dims else Term(name, prod(info.shape), ()))
        return Costs(MappingProxyType({"macs": macs, "params": tuple(params)}))

    def total(self, budget: str, counts: Counts = WHOLE) -> int:
        """The cost in one budget."""
        return Ledger(self, (budget,), counts).totals[0]

    def macs(self, counts: Counts = WHOLE) -> int:
        """Multiply-accumulates for a batch of one."""
        return self.total("macs", counts)

    def params(self, counts: Counts = WHOLE) -> int:
        """Numbers that the parameters hold."""
        return self.total("params", counts)

    def macs_of(self, node: int, counts: Counts = WHOLE) -> int:
        """Multiply-accumulates of the node of this index; 0 for one that does none."""
        return sum(term.value(counts) for term in self._owned.get(node, ()))

    def params_of(self, tensor: str, counts: Counts = WHOLE) -> int:
        """Numbers that a weight holds; 0 for a tensor that is none."""
        return sum(term.value(counts) for term in self._owned.get(tensor, ()))

    def touching(self, atom: int) -> Mapping[str, tuple[Term, ...]]:
        """By budget, the terms that change when the count of an atom does."""
        return self._touching.get(atom, MappingProxyType({}))

    def due_to(self, atom: int, counts: Counts = WHOLE) -> dict[str, int]:
        """By budget, what would be saved if no index of an atom stayed."""
        without = {**counts, atom: 0}
        touching = self.touching(atom)
        return {
            budget: sum(term.value(counts) - term.value(without) for term in touching.get(budget, ()))
            for budget in self.terms
        }

    @cached_property
    def _owned(self) -> dict[int | str, list[Term]]:
        owned = defaultdict(list)
        for terms in self.terms.values():
            for term in terms:
                owned[term.owner].append(term)
        return dict(owned)

    @cached_property
    def _touching(self) -> dict[int, Mapping[str, tuple[Term, ...]]]:
        found: dict[int, dict[str, list[Term]]] = defaultdict(lambda: defaultdict(list))
        for budget, terms in self.terms.items():
            for term in terms:
                for atom in {atom.id for dim in term.dims for atom in atoms(dim)}:
                    found[atom][budget].append(term)
        return {atom: MappingProxyType({b: tuple(t) for b, t in by.items()}) for atom, by in found.items()}

    @cached_property
    def _graph(self) -> _Graph:
        return _Graph(self.terms)


class _Graph:
    """All terms as one graph of sums and products; children come before parents, and equal nodes are one.

    A node is worth `start` plus the sum of its children, or `start` times their product; an atom is a sum of none.
    """

    def __init__(self, terms: Mapping[str, tuple[Term, ...]]) -> None:
        self.start: list[int] = []
        self.multiplies: list[bool] = []
        self.children: list[tuple[int, ...]] = []
        self.parents: list[list[int]] = []  # as often as the parent holds the node
        self.atoms: dict[int, int] = {}
        self.totals: dict[str, int] = {}
        self._above: dict[int, list[int]] = {}
        self._nodes: dict[tuple[bool, tuple[int, ...]], int] = {}
        self._entered: dict[int, tuple[Dimension, int]] = {}  # by identity, as hashing a long sum is no quicker
        for budget, found in terms.items():
            merged: dict[tuple[int, ...], int] = defaultdict(int)
            for term in found:
                merged[tuple(sorted(self._enter(dim) for dim in term.dims))] += term.coefficient
            self.totals[budget] = self._add(False, 0, [self._add(True, c, dims) for dims, c in merged.items()])
        self._nodes.clear()
        self._entered.clear()

    def _add(self, multiplies: bool, start: int, children: Iterable[int]) -> int:
        node = len(self.start)
        self.start.append(start)
        self.multiplies.append(multiplies)
        self.children.append(tuple(children))
        self.parents.append([])
        for child in self.children[node]:
            self.parents[child].append(node)
        return node

    def _enter(self, dim: Dimension) -> int:
        known = self._entered.get(id(dim))
        if known is not None:
            return known[1]
        plain = countable(dim)
        if isinstance(plain, Atom):
            node = self.atoms.get(plain.id, -1)
            if node < 0:
                node = self.atoms[plain.id] = self._add(False, plain.size, ())
        else:
            multiplies = not isinstance(plain, Sum)
            children = tuple(self._enter(child) for child in (plain.parts if isinstance(plain, Sum) else plain.factors))
            node = self._nodes.get((multiplies, children), -1)
            if node < 0:
                node = self._nodes[multiplies, children] = self._add(multiplies, int(multiplies), children)
        self._entered[id(dim)] = dim, node
        return node

    def values(self, counts: Counts) -> list[int]:
        """The value of every node."""
        starts = list(self.start)
        for atom, kept in counts.items():
            if atom in self.atoms:
                starts[self.atoms[atom]] = kept
        values: list[int] = []
        for value, multiplies, children in zip(starts, self.multiplies, self.children, strict=True):
            for child in children:
                value = value * values[child] if multiplies else value + values[child]
            values.append(value)
        return values

    def above(self, node: int) -> list[int]:
        """Every node whose value depends on `node`, children before parents."""
        found = self._above.get(node)
        if found is None:
            seen: set[int] = set()
            stack = [node]
            while stack:
                for parent in self.parents[stack.pop()]:
                    if parent not in seen:
                        seen.add(parent)
                        stack.append(parent)
            found = self._above[node] = sorted(seen)
        return found


class Ledger:
    """The totals of some budgets, kept up to date while the counts of single atoms change."""

    def __init__(self, costs: Costs, budgets: Sequence[str], counts: Counts = WHOLE) -> None:
        self._graph = costs._graph
        self._roots = [self._graph.totals[budget] for budget in budgets]
        self._values = self._graph.values(counts)
        self._before: list[tuple[int, int]] = []

    @property
    def totals(self) -> tuple[int, ...]:
        """The cost in each budget, in the order in which they were asked for."""
        return tuple(self._values[root] for root in self._roots)

    def set(self, atom: int, kept: int) -> None:
        """Let `kept` indices of an atom stay; visits only what depends on it."""
        graph, values = self._graph, self._values
        self._before = before = []
        node = graph.atoms.get(atom)
        if node is None or values[node] == kept:
            return
        before.append((node, values[node]))
        grown: dict[int, int] = {}  # by sum: how much its children have grown
        for parent in graph.parents[node]:
            grown[parent] = grown.get(parent, 0) + kept - values[node]
        values[node] = kept
        for higher in graph.above(node):
            old = values[higher]
            if graph.multiplies[higher]:
                new = graph.start[higher]
                for child in graph.children[higher]:
                    new *= values[child]
            else:
                new = old + grown.get(higher, 0)
            if new != old:
                before.append((higher, old))
                values[higher] = new
                for parent in graph.parents[higher]:
                    grown[parent] = grown.get(parent, 0) + new - old

    def undo(self) -> None:
        """Take the last `set` back; only the last one is remembered."""
        for node, value in self._before:
            self._values[node] = value
        self._before = []
