"""What a model costs, as exact functions of how many indices of each group stay.

A cost is a sum of terms, each a coefficient times the sizes of some dimensions: a convolution's multiply-accumulates
are pixels x kernel x |w[0]| x |w[1]|, a weight's parameters the product of its axes. So whatever is cut, costs follow
from counts alone, without a graph and without a cut. `counts` maps atom ids to kept indices; an absent atom is whole.
Two things more: the sizes of a term may count in whole blocks, as time does in the runtime's kernels; and the cost of
`memory` is the largest of several sums, one for each moment of a run.

All terms together are one directed acyclic graph of sums, products, round-ups and maxima over atoms, in which equal
subexpressions are one node. A `Ledger` keeps its values and, when one count changes, visits only what depends on it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from math import prod
from types import MappingProxyType

from onnxprune.dependency import Analysis
from onnxprune.dimensions import Atom, Dimension, Sum, atoms, count, countable
from onnxprune.liveness import moments
from onnxprune.weights import bits_of, is_parameter

__all__ = ["Costs", "Ledger", "Term"]

Counts = Mapping[int, int]
WHOLE: Counts = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Term:
    """`coefficient` x the sizes of `dims`, owed by `owner`: the index of a node (MACs) or the name of a weight.

    Each size is rounded up to a multiple of `block`, but for those that are below it when everything is kept. Values
    are whole numbers where the coefficient is one.
    """

    owner: int | str
    coefficient: float
    dims: tuple[Dimension, ...]
    block: int = 1

    def value(self, counts: Counts = WHOLE) -> float:
        """What the term costs when `counts` of each atom stay."""
        total = self.coefficient
        for dim in self.dims:
            block = self.block_of(dim)
            total *= -(-count(dim, counts) // block) * block
        return total

    def block_of(self, dim: Dimension) -> int:
        """What the size of a dimension is rounded up to a multiple of."""
        return self.block if dim.size >= self.block else 1


@dataclass(frozen=True)
class Costs:
    """The terms of every budget, for a batch of one.

    `macs` are multiply-accumulates, `params` numbers stored, `size` the bytes of the file, `latency` (where terms of it
    were measured) milliseconds. Of the budgets in `moments`, `memory`, the cost is that of the dearest moment.
    """

    terms: Mapping[str, tuple[Term, ...]]
    moments: Mapping[str, tuple[tuple[Term, ...], ...]] = field(default_factory=dict)

    @staticmethod
    def of(analysis: Analysis) -> Costs:
        """The static costs of an analysed model, all its parameters included, prunable or not."""
        macs = tuple(Term(node, work.coefficient, work.dims) for node, work in analysis.work)
        params, size = [], []
        left = analysis.model.size_bytes
        for name, info in analysis.model.weights.items():
            dims, whole, bits = analysis.dims(name), prod(info.shape), bits_of(info.dtype)
            dims, coefficient = (dims, 1) if dims else ((), whole)
            left -= whole * bits // 8
            if is_parameter(info):
                params.append(Term(name, coefficient, dims))
            size.append(Term(name, coefficient * (bits // 8 if bits % 8 == 0 else bits / 8), dims))
        size.append(Term("", max(left, 0), ()))  # names, nodes, doc strings
        return Costs(MappingProxyType({"macs": macs, "params": tuple(params), "size": tuple(size)}))

    def with_memory(self, analysis: Analysis) -> Costs:
        """These and `memory`: the bytes of weights and of what lives at the dearest moment of a run."""
        weights = self.terms["size"][:-1]
        found = [
            (*weights, *(Term(name, itemsize, dims) for name, itemsize, dims in moment)) for moment in moments(analysis)
        ]
        return replace(self, moments=MappingProxyType({**self.moments, "memory": tuple(found)}))

    def with_latency(self, terms: Iterable[Term]) -> Costs:
        """These and `latency`, as terms in milliseconds."""
        return self.with_budget("latency", terms)

    def with_budget(self, budget: str, terms: Iterable[Term]) -> Costs:
        """These and another budget."""
        return replace(self, terms=MappingProxyType({**self.terms, budget: tuple(terms)}))

    @property
    def budgets(self) -> tuple[str, ...]:
        """What there are costs of."""
        return (*self.terms, *self.moments)

    def total(self, budget: str, counts: Counts = WHOLE) -> float:
        """The cost in one budget."""
        return Ledger(self, (budget,), counts).totals[0]

    def macs(self, counts: Counts = WHOLE) -> int:
        """Multiply-accumulates for a batch of one."""
        return int(self.total("macs", counts))

    def params(self, counts: Counts = WHOLE) -> int:
        """Numbers that the parameters hold."""
        return int(self.total("params", counts))

    def macs_of(self, node: int, counts: Counts = WHOLE) -> int:
        """Multiply-accumulates of the node of this index; 0 for one that does none."""
        return int(sum(term.value(counts) for term in self._owned.get(("macs", node), ())))

    def params_of(self, tensor: str, counts: Counts = WHOLE) -> int:
        """Numbers that a weight holds; 0 for a tensor that is none."""
        return int(sum(term.value(counts) for term in self._owned.get(("params", tensor), ())))

    def touching(self, atom: int) -> Mapping[str, tuple[Term, ...]]:
        """By budget, the terms that change when the count of an atom does."""
        return self._touching.get(atom, MappingProxyType({}))

    def due_to(self, atom: int, counts: Counts = WHOLE) -> dict[str, float]:
        """By budget, those of moments left out, what would be saved if no index of an atom stayed."""
        without = {**counts, atom: 0}
        touching = self.touching(atom)
        return {
            budget: sum(term.value(counts) - term.value(without) for term in touching.get(budget, ()))
            for budget in self.terms
        }

    @cached_property
    def _owned(self) -> dict[tuple[str, int | str], list[Term]]:
        owned = defaultdict(list)
        for budget, terms in self.terms.items():
            for term in terms:
                owned[budget, term.owner].append(term)
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
        return _Graph(self)


class _Kind(Enum):
    """What a node makes of its children: their sum plus `start`; `start` times their product; the only one rounded
    up to a multiple of `start`; the largest."""

    SUM = 0
    PRODUCT = 1
    BLOCKS = 2
    LARGEST = 3


class _Graph:
    """All terms as one graph; children come before parents, and equal nodes are one. An atom is a sum of nothing."""

    def __init__(self, costs: Costs) -> None:
        self.start: list[float] = []
        self.kinds: list[_Kind] = []
        self.children: list[tuple[int, ...]] = []
        self.parents: list[list[int]] = []  # as often as the parent holds the node
        self.atoms: dict[int, int] = {}
        self.totals: dict[str, int] = {}
        self._above: dict[int, list[int]] = {}
        self._nodes: dict[tuple[_Kind, float, tuple[int, ...]], int] = {}
        self._entered: dict[int, tuple[Dimension, int]] = {}  # by identity, as hashing a long sum is no quicker
        for budget, terms in costs.terms.items():
            self.totals[budget] = self._sum_of(terms)
        for budget, found in costs.moments.items():
            self.totals[budget] = self._add(_Kind.LARGEST, 0, [self._sum_of(terms) for terms in found])
        self._nodes.clear()
        self._entered.clear()

    def _sum_of(self, terms: Iterable[Term]) -> int:
        merged: dict[tuple[int, ...], float] = defaultdict(int)
        for term in terms:
            dims = sorted(self._blocks(self._enter(dim), term.block_of(dim)) for dim in term.dims)
            merged[tuple(dims)] += term.coefficient
        return self._add(_Kind.SUM, 0, [self._once(_Kind.PRODUCT, c, dims) for dims, c in merged.items()])

    def _blocks(self, node: int, block: int) -> int:
        return node if block == 1 else self._once(_Kind.BLOCKS, block, (node,))

    def _once(self, kind: _Kind, start: float, children: tuple[int, ...]) -> int:
        node = self._nodes.get((kind, start, children), -1)
        if node < 0:
            node = self._nodes[kind, start, children] = self._add(kind, start, children)
        return node

    def _add(self, kind: _Kind, start: float, children: Iterable[int]) -> int:
        node = len(self.start)
        self.start.append(start)
        self.kinds.append(kind)
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
                node = self.atoms[plain.id] = self._add(_Kind.SUM, plain.size, ())
        elif isinstance(plain, Sum):
            node = self._once(_Kind.SUM, 0, tuple(self._enter(part) for part in plain.parts))
        else:
            node = self._once(_Kind.PRODUCT, 1, tuple(self._enter(factor) for factor in plain.factors))
        self._entered[id(dim)] = dim, node
        return node

    def value(self, node: int, values: Sequence[float], start: float) -> float:
        """What a node is worth, by the values of its children."""
        children = self.children[node]
        match self.kinds[node]:
            case _Kind.SUM:
                return start + sum(values[child] for child in children)
            case _Kind.PRODUCT:
                for child in children:
                    start *= values[child]
                return start
            case _Kind.BLOCKS:
                return -(-values[children[0]] // start) * start
            case _Kind.LARGEST:
                return max((values[child] for child in children), default=0)

    def values(self, counts: Counts) -> list[float]:
        """The value of every node."""
        starts = list(self.start)
        for atom, kept in counts.items():
            if atom in self.atoms:
                starts[self.atoms[atom]] = kept
        values: list[float] = []
        for node, start in enumerate(starts):
            values.append(self.value(node, values, start))
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
        self._before: list[tuple[int, float]] = []

    @property
    def totals(self) -> tuple[float, ...]:
        """The cost in each budget, in the order in which they were asked for."""
        return tuple(self._values[root] for root in self._roots)

    def set(self, counts: Counts) -> None:
        """Let these counts of some atoms stay; visits only what depends on them."""
        self._before = []
        for atom, kept in counts.items():
            self._set(atom, kept)

    def _set(self, atom: int, kept: int) -> None:
        graph, values, before = self._graph, self._values, self._before
        node = graph.atoms.get(atom)
        if node is None or values[node] == kept:
            return
        before.append((node, values[node]))
        grown: dict[int, float] = {}  # by sum: how much its children have grown
        for parent in graph.parents[node]:
            grown[parent] = grown.get(parent, 0) + kept - values[node]
        values[node] = kept
        for higher in graph.above(node):
            old = values[higher]
            if graph.kinds[higher] is _Kind.SUM:
                new = old + grown.get(higher, 0)
            else:
                new = graph.value(higher, values, graph.start[higher])
            if new != old:
                before.append((higher, old))
                values[higher] = new
                for parent in graph.parents[higher]:
                    grown[parent] = grown.get(parent, 0) + new - old

    def undo(self) -> None:
        """Take the last `set` back; only the last one is remembered."""
        for node, value in reversed(self._before):
            self._values[node] = value
        self._before = []
