"""Why: the path of facts that couples two names, or that leads from an axis to what fixes it.

The dependency graph is a `networkx` multigraph: its nodes are (tensor, axis), its edges are the `Same` facts, each
with the ONNX node that stated it. A dimension that no axis states by itself, such as the groups of a convolution, is
a node `("", id)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from onnxprune.dependency import Analysis, Cause, Group
from onnxprune.dimensions import Atom, Dimension, atoms
from onnxprune.errors import UsageError
from onnxprune.rules.facts import Fixed, Same

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Explanation", "Step", "coupling", "dependency_graph", "explain"]

Axis: TypeAlias = tuple[str, int]

SHOWN = 6  # sites that a sentence lists; a report has them all


@dataclass(frozen=True, slots=True)
class Step:
    """One edge of a path: from one axis to the next, by the fact of a node."""

    source: Axis
    target: Axis
    node: str
    op_type: str

    def __str__(self) -> str:
        return f"{_text(self.source)}  --  {self.op_type} {self.node}  --  {_text(self.target)}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A sentence, and the path that shows it (empty where there is nothing to walk)."""

    sentence: str
    path: tuple[Step, ...] = ()

    def __str__(self) -> str:
        return "\n".join([self.sentence, *(f"    {step}" for step in self.path)])


def _text(axis: Axis) -> str:
    return f"{axis[0]}[{axis[1]}]" if axis[0] else "(a factor or part of it)"


def dependency_graph(analysis: Analysis, atom: Atom | None = None) -> nx.MultiGraph[Axis]:
    """The graph of all axes, or of those alone whose type holds `atom`; edges carry `node`, an index."""
    import networkx as nx

    names = {dim.id: (tensor, k) for tensor, dims in analysis.axes.items() for k, dim in enumerate(dims)}
    graph: nx.MultiGraph[Axis] = nx.MultiGraph()
    for statement in analysis.statements:
        if not isinstance(statement.fact, Same):
            continue
        left, right = (
            [names.get(a.id, ("", a.id)) for a in atoms(side) if atom is None or _holds(analysis, a, atom)]
            for side in (statement.fact.left, statement.fact.right)
        )
        graph.add_edges_from((a, b, {"node": statement.node}) for a in left for b in right)
    return graph


def _holds(analysis: Analysis, dim: Dimension, atom: Atom) -> bool:
    return any(a == atom for a in atoms(analysis.type_of(dim)))


def explain(analysis: Analysis, name: str) -> list[Explanation]:
    """What each axis of a tensor, group or node is: prunable, with its group, or fixed, with the path to the reason.

    Errors: `UsageError` for a name that the model does not have.
    """
    found = []
    groups = {group.atom: group for group in analysis.groups}
    for tensor, k in _axes_of(analysis, name):
        dim = analysis.dims(tensor)[k]
        label = f"{tensor}[{k}], {dim.size} indices"
        for atom in dict.fromkeys(atoms(dim)):
            part = "" if atom == dim else f", of which {atom.size} as {_role(dim, atom)}"
            cause = analysis.cause_of(atom)
            if atom.size == 1:
                if atom == dim:
                    found.append(Explanation(f"{label}: a single index"))
            elif cause is not None:
                where = "the graph states" if cause.node < 0 else f"{_node(analysis, cause.node)} says"
                path = _path_to_cause(analysis, (tensor, k), atom, cause)
                found.append(Explanation(f"{label}{part}: fixed, {where}: {cause.reason}", path))
            elif atom in groups:
                how = "prunable" if atom.id not in analysis.inexact else "prunable on request alone, not exactly"
                found.append(Explanation(f"{label}{part}: {how}, group {groups[atom].name!r}; {_cuts(groups[atom])}"))
            else:
                found.append(Explanation(f"{label}{part}: free, but no weight has it"))
    return found


def coupling(analysis: Analysis, name: str, other: str) -> list[Explanation]:
    """Why two tensors, groups or nodes are pruned together: for each dimension that they share, a shortest path."""
    found = []
    for a in _axes_of(analysis, name):
        for b in _axes_of(analysis, other):
            shared = set(atoms(analysis.dims(a[0])[a[1]])) & set(atoms(analysis.dims(b[0])[b[1]]))
            for atom in sorted((s for s in shared if s.size > 1), key=lambda s: s.id):
                if a != b:
                    cause = analysis.cause_of(atom)
                    fixed = "" if cause is None else f", which are fixed: {cause.reason}"
                    sentence = f"{_text(a)} and {_text(b)} share {atom.size} indices{fixed}"
                    found.append(Explanation(sentence, _path(analysis, a, [b], atom)))
    return found or [Explanation(f"{name} and {other} share no dimension")]


def _axes_of(analysis: Analysis, name: str) -> list[Axis]:
    """The axes that a name stands for: a tensor's, a group's first site, or those of a node's weights and outputs.

    A group is often called like the tensor that makes its indices, whose axes say more.
    """
    tensors: Sequence[str] = [name] if name in analysis.axes else []
    if not tensors:
        for group in analysis.groups:
            if group.name == name:
                return [(site.tensor, site.axis) for site in group.sites[:1]]
        nodes = [node for node in analysis.model.nodes if node.name == name]
        tensors = [t for n in nodes for t in (*(i for i in n.inputs if i in analysis.model.weights), *n.outputs)]
        tensors = [t for t in tensors if t in analysis.axes]
    if not tensors:
        close = _close(
            name, [*(g.name for g in analysis.groups), *analysis.axes, *(n.name for n in analysis.model.nodes)]
        )
        raise UsageError(f"no group, tensor or node {name!r} in {analysis.model.source!r}{close}")
    return [(tensor, k) for tensor in tensors for k in range(len(analysis.axes[tensor]))]


def _close(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches

    found = get_close_matches(name, list(dict.fromkeys(names)), n=3)
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else "; see 'onnxprune inspect'"


def _cuts(group: Group) -> str:
    sites = [f"{s.tensor}[{s.axis}]" for s in group.sites]
    more = f" and {len(sites) - SHOWN} more" if len(sites) > SHOWN else ""
    return f"cuts {', '.join(sites[:SHOWN])}{more}"


def _role(dim: Dimension, atom: Atom) -> str:
    return " ".join(f"[{a.size}]" if a == atom else str(a.size) for a in atoms(dim))


def _node(analysis: Analysis, index: int) -> str:
    return f"{analysis.model.nodes[index].op_type} {analysis.node_name(index)!r}"


def _path_to_cause(analysis: Analysis, start: Axis, atom: Atom, cause: Cause) -> tuple[Step, ...]:
    names = {dim.id: (tensor, k) for tensor, dims in analysis.axes.items() for k, dim in enumerate(dims)}
    ends = [
        names.get(a.id, ("", a.id))
        for s in analysis.statements
        if s.node == cause.node and isinstance(s.fact, Fixed) and s.fact.reason == cause.reason
        for a in atoms(s.fact.dim)
        if _holds(analysis, a, atom)
    ]
    return _path(analysis, start, ends, atom)


def _path(analysis: Analysis, start: Axis, ends: Sequence[Axis], atom: Atom) -> tuple[Step, ...]:
    """A shortest path over axes that hold `atom` to the nearest of `ends`; empty where they are one or not joined."""
    import networkx as nx

    graph = dependency_graph(analysis, atom)
    if start in ends or start not in graph:
        return ()
    reached = nx.single_source_shortest_path(graph, start)
    paths = [reached[end] for end in ends if end in reached]
    if not paths:
        return ()
    best = min(paths, key=len)
    steps = []
    for a, b in pairwise(best):
        index = next(iter(graph.get_edge_data(a, b).values()))["node"]
        node = analysis.model.nodes[index] if index >= 0 else None
        steps.append(Step(a, b, analysis.node_name(index), node.op_type if node else ""))
    return tuple(steps)
