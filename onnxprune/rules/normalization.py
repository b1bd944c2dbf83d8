"""Norms: per-channel parameters follow their axis, axes that share statistics are fixed."""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.rules.call import Call, merged
from onnxprune.rules.elementwise import broadcast, carry
from onnxprune.rules.facts import Attribute, Counts, Fact, Fixed, Same
from onnxprune.rules.registry import rule

STATISTICS = "its indices share the statistics of a norm"


@rule("BatchNormalization")
def batch_normalization(n: Call) -> Iterator[Fact]:
    """Scale, bias, mean and variance follow the channels; in training mode the other axes share statistics."""
    yield from carry(n.x, n.y)
    for tensor in (*n.inputs[1:], *n.outputs[1:]):
        if tensor is not None:
            yield Same(tensor[0], n.x[1])
    if n.attribute("training_mode", 0) or (n.opset < 14 and len(n.outputs) > 1):
        yield from (Fixed(dim, STATISTICS) for k, dim in enumerate(n.x.dims) if k != 1)


@rule("InstanceNormalization")
def instance_normalization(n: Call) -> Iterator[Fact]:
    """Scale and bias follow the channels; the axes after them share statistics."""
    yield from carry(n.x, n.y)
    for tensor in n.inputs[1:]:
        assert tensor is not None
        yield Same(tensor[0], n.x[1])
    yield from (Fixed(dim, STATISTICS) for dim in n.x.dims[2:])


@rule("GroupNormalization")
def group_normalization(n: Call) -> Iterator[Fact]:
    """Channels are groups x channels of a group: whole groups may go, what is inside shares statistics.

    Scale and bias have one number per channel, before opset 21 one per group.
    """
    groups = n.new(int(n.attribute("num_groups")))
    inside = n.new(n.x.shape[1] // groups.size)
    yield from carry(n.x, n.y)
    yield Same(n.x[1], merged(groups, inside))
    yield Counts(Attribute("num_groups"), (groups,))
    for tensor in n.inputs[1:]:
        assert tensor is not None
        yield Same(tensor[0], n.x[1] if n.opset >= 21 else groups)
    yield from (Fixed(dim, STATISTICS) for dim in (inside, *n.x.dims[2:]))


@rule("LayerNormalization", "RMSNormalization")
def layer_normalization(n: Call) -> Iterator[Fact]:
    """Every axis from `axis` on shares statistics; scale and bias are broadcast to the input."""
    yield from carry(n.x, n.y)
    first = int(n.attribute("axis", -1)) % n.x.rank
    for tensor in n.inputs[1:]:
        if tensor is not None:
            yield from broadcast(tensor, n.x)
    for tensor in n.outputs[1:]:
        if tensor is not None:
            yield from (Same(a, b) for a, b in zip(n.x.dims[:first], tensor.dims, strict=False))
    yield from (Fixed(dim, STATISTICS) for dim in n.x.dims[first:])
