"""Constants that the model computes: which nodes make them, and what their values are.

Weight standardisation, weight norms and the like compute a weight from others while the model runs. Where that
computation mixes an axis, the result can still be cut as a weight of its own: it is computed once, here, and its
nodes go. That is what a folded weight of a `Model` is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from onnx import NodeProto

from onnxprune.errors import ModelReadError
from onnxprune.model.node import Array, Node
from onnxprune.model.numbers import can_evaluate, evaluate

__all__ = ["apart", "computed", "spent", "value"]

_DRAWN = {"RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"}  # anew at every run


def computed(nodes: Sequence[Node], roots: Iterable[str], opset: int, tables: Collection[str]) -> frozenset[int]:
    """Indices of the nodes that compute from the constants `roots` alone; `tables` are those that have axes.

    A DequantizeLinear is one only on the way from and to others: a quantized weight would grow if what it dequantizes
    to were stored, and its reader would not find it quantized any more.
    """
    roots, last = (
        frozenset(roots),
        {n.index for n in nodes if n.op_type == "DequantizeLinear" and n.inputs[0] in tables},
    )
    while True:
        found = _computed(nodes, roots, opset, last)
        read = {name for node in nodes if node.index not in found for name in node.inputs}
        now = {n.index for n in nodes if n.op_type == "DequantizeLinear" and n.index in found and n.outputs[0] in read}
        if not now:
            return frozenset(found)
        last |= now


def _computed(nodes: Sequence[Node], roots: frozenset[str], opset: int, without: Collection[int]) -> set[int]:
    known = set(roots)
    found: set[int] = set()
    for node in nodes:
        names = [name for name in node.inputs if name]
        if not names or not known.issuperset(names) or node.domain or node.op_type in _DRAWN or node.bodies:
            continue
        if can_evaluate(node.op_type, opset) and node.index not in without:
            found.add(node.index)
            known.update(node.outputs)
    return found


def spent(nodes: Sequence[Node], folded: Iterable[str], kept: Iterable[str]) -> frozenset[int]:
    """Indices of the nodes that nobody needs once the tensors `folded` are stored; `kept` are read by no node."""
    folded = set(folded)
    gone: set[int] = set()
    needed = set(kept)
    if not folded:
        return frozenset()
    feeds: set[str] = set()
    for node in reversed(nodes):
        made = [name for name in node.outputs if name]
        serves = any(name in folded or name in feeds for name in made)
        if serves and all(name in folded or name not in needed for name in made):
            gone.add(node.index)
            feeds.update(node.inputs)
        else:
            needed.update(node.inputs)
    return frozenset(gone)


def apart(nodes: Sequence[Node], folded: Iterable[str], spent: frozenset[int]) -> frozenset[str]:
    """Those of `folded` that no needed node helps to make.

    What a needed node makes can change with a cut, and then a stored value would be that of another model.
    """
    makers = {name: node for node in nodes for name in node.outputs}
    needs: dict[str, bool] = {}
    for node in nodes:
        helped = any(needs.get(name, False) for name in node.inputs)
        needed = node.index not in spent and any(node.inputs)  # a Constant node makes nothing from others
        needs.update((name, helped or needed) for name in node.outputs)
    return frozenset(name for name in folded if name in makers and not needs[name])


def value(name: str, maker: Callable[[str], NodeProto | None], stored: Callable[[str], Array], opset: int) -> Array:
    """The value of a tensor that is computed from constants; `maker` gives the node of a name that is not stored.

    Errors: `ModelReadError` where a node cannot be run alone.
    """
    values: dict[str, Array] = {}
    stack = [name]
    while stack:
        node = maker(stack[-1])
        if stack[-1] in values or node is None:
            current = stack.pop()
            if current not in values:
                values[current] = stored(current)
            continue
        missing = [i for i in node.input if i and i not in values]
        if missing:
            stack.extend(missing)
            continue
        made = evaluate(node, [values[i] if i else None for i in node.input], opset)
        if made is None:
            raise ModelReadError(f"cannot compute {node.op_type} {node.name!r}, which makes the weight {name!r}")
        values.update(zip(node.output, made, strict=False))
    return values[name]
