"""What a group is, of what kind, and what it is called: all three are read off the types and the nodes around them.

The kind follows from the parts that dimensions play in nodes (the `Role` notes of rules), never from names:

1. what a product of two activations contracts is the width of queries and keys: every index is one number of a score;
2. what such a product carries through as a batch, beside a width in one weight, are attention heads. Heads that only
   some of the weights of other heads have are query heads: each key/value head serves several of them;
3. what it carries as a row or column is the width of values; where it is contracted in another such product, because
   queries, keys and values are cut from one weight as one, it is the width of the whole head;
4. the outer factor of a grouped convolution's channels is its groups;
5. everything else are channels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from onnxprune.dimensions import Atom, Dimension, Product, Sum, atoms
from onnxprune.model import Model, Node

__all__ = ["KINDS", "Group", "Site", "kinds_of", "names_of", "shared_module"]

KINDS = ("channel", "head", "query head", "query/key width", "value width", "head width", "group")

_LABELS = {"head": "heads", "query head": "query heads of each group"}
_GENERATED = re.compile(r"onnx::\w+|val_\d+|\d+|.*Constant\w*_output_\d+")
_PARAMETER = re.compile(r"\.(weight|bias)$")


@dataclass(frozen=True, slots=True)
class Site:
    """Axis `axis` of weight `tensor`, whose indices have the type `dim`."""

    tensor: str
    axis: int
    dim: Dimension


@dataclass(frozen=True, slots=True)
class Group:
    """Indices that can be removed one by one, each from all `sites` at once; `kind` is one of `KINDS`."""

    name: str
    atom: Atom
    sites: tuple[Site, ...]
    kind: str = "channel"

    @property
    def size(self) -> int:
        """How many indices the group has."""
        return self.atom.size


def kinds_of(
    sites: Mapping[Atom, Sequence[Site]],
    roles: Iterable[tuple[str, Dimension]],
    types: Mapping[str, Sequence[Dimension]],
) -> dict[Atom, str]:
    """The kind of each group, from the parts that resolved dimensions play; `types` are those of the weights' axes."""
    playing: dict[str, set[Atom]] = {}
    for part, dim in roles:
        playing.setdefault(part, set()).update(atom for atom in atoms(dim) if atom.size > 1)
    contracted, batched, carried = (playing.get(part, set()) for part in ("contracted", "batched", "carried"))
    widths = contracted | carried
    inside = {tensor: {atom for dim in dims for atom in atoms(dim)} for tensor, dims in types.items()}
    kinds = dict.fromkeys(sites, "channel")
    for atom, found in sites.items():
        if atom in contracted:
            kinds[atom] = "head width" if atom in carried else "query/key width"
        elif atom in batched and any(inside[site.tensor] & widths - {atom} for site in found):
            kinds[atom] = "head"
        elif atom in carried:
            kinds[atom] = "value width"
        elif atom in playing.get("grouped", ()) and any(_is_outer(site.dim, atom) for site in found):
            kinds[atom] = "group"
    heads = {atom: {site.tensor for site in sites[atom]} for atom, kind in kinds.items() if kind == "head"}
    for atom, tensors in heads.items():
        if any(tensors < others for others in heads.values()):
            kinds[atom] = "query head"
    return kinds


def _is_outer(dim: Dimension, atom: Atom) -> bool:
    if isinstance(dim, Product):
        return dim.factors[0] == atom
    return isinstance(dim, Sum) and any(_is_outer(part, atom) for part in dim.parts)


def names_of(
    model: Model, sites: Mapping[Atom, Sequence[Site]], kinds: Mapping[Atom, str], reads: set[tuple[int, int, int]]
) -> dict[Atom, str]:
    """A readable, unique name for each group.

    Channels are named after the first weight that makes them, without the trailing `.weight`; `reads` says which
    (node, operand, axis) are contracted. Parts of attention are named after the module that all their weights are in.
    """
    consumer: dict[str, tuple[Node, int]] = {}
    for node in model.nodes:
        for position, name in enumerate(node.inputs if node.index not in model.spent else ()):
            consumer.setdefault(name, (node, position))
        for body in node.bodies.values():
            for position, name in enumerate(body.outputs):
                consumer.setdefault(name, (node, len(node.inputs) + position))
    names: dict[Atom, str] = {}
    taken: dict[str, int] = {}
    for atom, found in sites.items():
        weights = [s for s in found if len(model.weights[s.tensor].shape) > 1] or found
        made = [s for s in weights if (consumer[s.tensor][0].index, consumer[s.tensor][1], s.axis) not in reads]
        first = (made or weights)[0].tensor
        name = first.removesuffix(".weight")
        if (
            _GENERATED.fullmatch(name) or name in model.folded
        ):  # exporters that fold a norm into a weight number the result
            name = _readable(consumer[first][0])
        if kinds[atom] not in ("channel", "group"):
            name = _attention(shared_module([(s.tensor, consumer[s.tensor][0]) for s in found]), kinds[atom]) or name
        taken[name] = taken.get(name, 0) + 1
        names[atom] = name if taken[name] == 1 else f"{name}#{taken[name]}"
    return names


def _attention(module: str, kind: str) -> str:
    """`encoder.layer.3.attention heads`: the module around all weights, and what they share."""
    said = "" if "att" in module.rpartition(".")[2].lower() else " attention"
    return f"{module}{said} {_LABELS.get(kind, kind)}" if module else ""


def shared_module(weights: Iterable[tuple[str, Node]]) -> str:
    """The innermost module around all weights (each with a node that reads it); empty where names tell of none."""
    modules = [module for module in (_module(tensor, reader) for tensor, reader in weights) if module]
    shared = modules[0] if modules else []
    for module in modules[1:]:
        same = [a == b for a, b in zip(shared, module, strict=False)]
        shared = shared[: same.index(False) if False in same else len(same)]
    return ".".join(shared)


def _module(tensor: str, reader: Node) -> list[str]:
    """The path of the module that holds the layer of a weight; empty where neither its name nor its reader tells."""
    name = _PARAMETER.sub("", tensor)
    if _GENERATED.fullmatch(tensor) or "/" in tensor:
        name = _readable(reader)
        if name == reader.name:
            return []
    return name.split(".")[:-1]


def _readable(node: Node) -> str:
    """`/layer1/layer1.0/conv1/Conv` is the exporter's name for what the framework calls `layer1.0.conv1`."""
    if node.scope:
        return node.scope
    scopes = node.name.strip("/").split("/")
    if len(scopes) < 2:
        return node.name
    named = scopes[:-1] if scopes[-1].split("_")[0] == node.op_type else scopes
    return ".".join(a for a, b in zip(named, [*named[1:], ""], strict=True) if not b.startswith(f"{a}."))
