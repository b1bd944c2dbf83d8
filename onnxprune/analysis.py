"""What an analysis says of a model: the types of its dimensions, its groups, and why the rest is fixed.

A group is an atom that is not fixed and occurs in a weight: keeping or removing one of its indices is one decision,
wherever it occurs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from onnxprune.dimensions import Atom, Dimension, atoms
from onnxprune.families import Families
from onnxprune.groups import Group, Site, kinds_of, names_of
from onnxprune.model import Model, Node, Probed, Prober, Shapes
from onnxprune.rules.facts import Fact, Fixed, Reads, Role, Work
from onnxprune.unification import Unification
from onnxprune.weights import is_parameter

__all__ = ["GRAPH", "Analysis", "Cause", "ProbedNode", "Refusal", "Statement"]

GRAPH = -1  # the node index of what the graph itself states: its inputs and outputs


@dataclass(frozen=True, slots=True)
class Cause:
    """Who stated something: the index of a node (-1: the graph), and for what reason nothing may be cut there."""

    node: int
    reason: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Axis `axis` of weight `tensor` is left alone, wholly or in part, because `node` gives `reason`.

    Where the graph itself does, `node` is the name of the input or output that it is about.
    """

    tensor: str
    axis: int
    reason: str
    node: str


@dataclass(frozen=True, slots=True)
class ProbedNode:
    """A node without a rule that was run alone: the axes of its outputs that it carries through unchanged.

    `reason` says why nothing was learnt; it is empty where the node ran.
    """

    node: str
    op_type: str
    carries: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Statement:
    """A fact and the index of the node whose rule stated it (-1: the graph itself)."""

    node: int
    fact: Fact


class Analysis:
    """The types of one model's dimensions. Made by `analyse`; never changed afterwards."""

    def __init__(
        self,
        model: Model,
        shapes: Shapes,
        axes: Mapping[str, tuple[Atom, ...]],
        statements: tuple[Statement, ...],
        types: Unification[Cause],
        families: Families | None = None,
        allow: frozenset[str] = frozenset(),
        opened: tuple[Statement, ...] = (),
        probed: Mapping[int, Probed] | None = None,
        prober: Prober | None = None,
    ) -> None:
        self.model = model
        self.shapes = shapes
        self.axes = axes
        self.statements = statements
        self._types = types
        self._families = families
        self.allow = allow
        self.opened = opened
        self.probed = probed or {}
        self.prober = prober
        self._dims: dict[str, tuple[Dimension, ...]] = {}

    def dims(self, tensor: str) -> tuple[Dimension, ...]:
        """The type of every axis of `tensor`; empty where its shape is not known."""
        found = self._dims.get(tensor)
        if found is None:
            found = self._dims[tensor] = tuple(self.type_of(axis) for axis in self.axes.get(tensor, ()))
        return found

    def type_of(self, dim: Dimension) -> Dimension:
        """The resolved type of a dimension as a rule stated it."""
        found = self._types.resolve(dim)
        return found if self._families is None else self._families.rewrite(found)

    def cause_of(self, atom: Atom) -> Cause | None:
        """Why an atom of a resolved type is fixed; None where it is free."""
        return self._types.cause_of(atom)

    def is_free(self, dim: Dimension) -> bool:
        """Whether an index of a resolved type may go."""
        return any(atom.size > 1 and self.cause_of(atom) is None for atom in atoms(dim))

    def node_name(self, index: int) -> str:
        """The name of a node, or of the graph."""
        return "graph" if index == GRAPH else self.model.nodes[index].name

    @property
    def probed_nodes(self) -> tuple[ProbedNode, ...]:
        """What was inferred of nodes without a rule, by running them."""
        nodes = self.model.nodes
        return tuple(
            ProbedNode(nodes[index].name, nodes[index].op_type, _axes_of(nodes[index], found), found.reason)
            for index, found in sorted(self.probed.items())
        )

    def notes(self, *kinds: type) -> Iterator[Statement]:
        """The statements whose fact is of one of `kinds`."""
        return (s for s in self.statements if isinstance(s.fact, kinds))

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Every group, in the order in which the graph first uses one of its weights."""
        sites: dict[Atom, list[Site]] = {}
        for tensor in self._weights_in_use:
            for axis, dim in enumerate(self.dims(tensor)):
                for atom in dict.fromkeys(atoms(dim)):
                    if atom.size > 1 and self.cause_of(atom) is None:
                        sites.setdefault(atom, []).append(Site(tensor, axis, dim))
        heavy = {atom: found for atom, found in sites.items() if any(self._is_weight(s.tensor) for s in found)}
        roles = [(s.fact.part, self.type_of(s.fact.dim)) for s in self.notes(Role) if isinstance(s.fact, Role)]
        reads = {(s.node, s.fact.operand, s.fact.axis) for s in self.notes(Reads) if isinstance(s.fact, Reads)}
        kinds = kinds_of(heavy, roles, {tensor: self.dims(tensor) for tensor in self._weights_in_use})
        names = names_of(self.model, heavy, kinds, reads)
        return tuple(Group(names[atom], atom, tuple(found), kinds[atom]) for atom, found in heavy.items())

    @cached_property
    def inexact(self) -> frozenset[int]:
        """The atoms that are open only because the user asked for it: the theorem says nothing of cutting them."""
        facts = (s.fact for s in self.opened)
        return frozenset(a.id for f in facts if isinstance(f, Fixed) for a in atoms(self.type_of(f.dim)))

    @cached_property
    def refusals(self) -> tuple[Refusal, ...]:
        """Every axis of a weight that is fixed, wholly or in part, with the reason."""
        found: list[Refusal] = []
        for tensor in self._weights_in_use:
            if not self._is_weight(tensor):
                continue
            for axis, dim in enumerate(self.dims(tensor)):
                for atom in atoms(dim):
                    cause = self.cause_of(atom)
                    if atom.size > 1 and cause is not None:
                        found.append(Refusal(tensor, axis, cause.reason, self._stated_by(cause, atom)))
        return tuple(dict.fromkeys(found))

    def _stated_by(self, cause: Cause, atom: Atom) -> str:
        return self._interface.get(atom.id, "graph") if cause.node == GRAPH else self.node_name(cause.node)

    @cached_property
    def _interface(self) -> dict[int, str]:
        """The first input or output of the graph that has an atom, by the atom's id."""
        found: dict[int, str] = {}
        for info in (*self.model.inputs, *self.model.outputs):
            for dim in self.dims(info.name):
                for atom in atoms(dim):
                    found.setdefault(atom.id, info.name)
        return found

    @cached_property
    def work(self) -> tuple[tuple[int, Work], ...]:
        """(node, work) of every node that multiplies and adds, its dimensions resolved."""
        return tuple(
            (s.node, Work(s.fact.coefficient, tuple(self.type_of(d) for d in s.fact.dims)))
            for s in self.notes(Work)
            if isinstance(s.fact, Work)
        )

    @cached_property
    def _weights_in_use(self) -> tuple[str, ...]:
        nodes = [node for node in self.model.nodes if node.index not in self.model.spent]
        used = dict.fromkeys(name for node in nodes for name in node.inputs)
        used.update(dict.fromkeys(name for node in nodes for body in node.bodies.values() for name in body.outputs))
        return tuple(name for name in used if name in self.model.weights)

    def _is_weight(self, tensor: str) -> bool:
        return is_parameter(self.model.weights[tensor])


def _axes_of(node: Node, found: Probed) -> tuple[str, ...]:
    places = dict.fromkeys(f"{node.outputs[output]}[{axis}]" for _, (output, axis) in found.links)
    return tuple(sorted(places))
