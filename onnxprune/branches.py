"""Residual branches, and models without some of them.

A branch is f in x + f(x): an Add one of whose operands is computed from the other, which goes around it (the shortcut)
and has the same shape; what is only there for f must hold weights that multiply, or it is an activation function
that happens to be a sum. Without f the sum is x. As for indices there are two models: `silence` multiplies f by zero,
`drop` lets everybody who read the sum read x. They give the same outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from onnxprune.dependency import Analysis
from onnxprune.groups import shared_module
from onnxprune.model import Edit, Model, Node
from onnxprune.weights import is_parameter

__all__ = ["Branch", "branches_of", "drop", "silence"]


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch into the Add node of index `node`; `position` is which of its inputs the branch is.

    `weights` are the parameters that only the branch reads, in the order of the graph.
    """

    name: str
    node: int
    position: int
    weights: tuple[str, ...]


def branches_of(analysis: Analysis) -> tuple[Branch, ...]:
    """Every residual branch, in the order of the graph; names are unique."""
    model = analysis.model
    maker = {name: node for node in model.nodes for name in node.outputs if name}
    readers: dict[str, list[int]] = {}
    for node in model.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node.index)
    kept = model.kept
    found: list[Branch] = []
    taken: dict[str, int] = {}
    for node in model.nodes:
        position = _position(analysis, node, maker)
        if position is None:
            continue
        inside = _only_for(node, node.inputs[position], maker, readers, kept)
        weights = tuple(dict.fromkeys(x for n in inside for x in n.inputs if _is_own(model, x, readers, inside)))
        heavy = {name for name in weights if len(model.weights[name].shape) > 1}
        if heavy:
            name = shared_module([(w, n) for n in inside for w in n.inputs if w in heavy]) or node.name
            taken[name] = taken.get(name, 0) + 1
            name = name if taken[name] == 1 else f"{name}#{taken[name]}"
            found.append(Branch(name, node.index, position, weights))
    return tuple(found)


def _position(analysis: Analysis, node: Node, maker: dict[str, Node]) -> int | None:
    """Which operand of an Add is computed from the other, of the same shape; None where neither is."""
    shapes = analysis.shapes.shape
    if node.op_type != "Add" or node.domain or len({shapes.get(x) for x in (*node.inputs, *node.outputs)}) > 1:
        return None
    return next((p for p in (1, 0) if _reaches(node.inputs[1 - p], node.inputs[p], maker)), None)


def _reaches(source: str, target: str, maker: dict[str, Node]) -> bool:
    """Whether `target` is computed from `source`; nodes before the one that makes `source` are not looked at."""
    first = maker[source].index if source in maker else -1
    stack, seen = [target], {target}
    while stack:
        node = maker.get(stack.pop())
        if node is None or node.index <= first:
            continue
        if source in node.inputs:
            return True
        stack.extend(x for x in node.inputs if x and x not in seen)
        seen.update(node.inputs)
    return False


def _only_for(
    end: Node, branch: str, maker: dict[str, Node], readers: dict[str, list[int]], kept: frozenset[str]
) -> list[Node]:
    """The nodes that nothing but `branch` into node `end` needs, in the order of the graph."""
    inside: dict[int, Node] = {}
    open_nodes = {maker[branch].index: maker[branch]} if branch in maker else {}
    while open_nodes:
        index = max(open_nodes)
        node = open_nodes.pop(index)
        needed = {(reader, name) for name in node.outputs for reader in readers.get(name, ())} - {(end.index, branch)}
        if {reader for reader, _ in needed} - inside.keys() or kept.intersection(node.outputs) or node.bodies:
            continue
        inside[index] = node
        open_nodes |= {maker[x].index: maker[x] for x in node.inputs if x in maker}
    return [inside[index] for index in sorted(inside)]


def _is_own(model: Model, name: str, readers: dict[str, list[int]], inside: Sequence[Node]) -> bool:
    info = model.weights.get(name)
    return info is not None and is_parameter(info) and set(readers[name]) <= {node.index for node in inside}


def silence(analysis: Analysis, chosen: Iterable[Branch]) -> Model:
    """The model with every chosen branch multiplied by zero."""
    edit = Edit(analysis.model)
    for branch in chosen:
        name = analysis.model.nodes[branch.node].inputs[branch.position]
        zero = edit.add(f"{name}__zero", np.zeros((), analysis.shapes.dtype[name]))
        edit.connect(branch.node, branch.position, edit.insert(branch.node, "Mul", [name, zero], f"{name}__silenced"))
    return edit.done()


def drop(analysis: Analysis, chosen: Iterable[Branch]) -> Model:
    """The model without the chosen branches and whatever was there only for them.

    A sum that is an output of a graph stays as a sum with zero, because its name must.
    """
    model = analysis.model
    edit = Edit(model)
    kept = model.kept
    instead: dict[str, str] = {}
    for branch in sorted(chosen, key=lambda b: b.node):
        node = model.nodes[branch.node]
        if kept.intersection(node.outputs):
            dtype = analysis.shapes.dtype[node.outputs[0]]
            edit.connect(branch.node, branch.position, edit.add(f"{node.outputs[0]}__zero", np.zeros((), dtype)))
        else:
            shortcut = node.inputs[1 - branch.position]
            instead[node.outputs[0]] = instead.get(shortcut, shortcut)
    for node in model.nodes:
        for position, name in enumerate(node.inputs):
            if name in instead and edit.input_of(node.index, position) == name:
                edit.connect(node.index, position, instead[name])
    return edit.done()
