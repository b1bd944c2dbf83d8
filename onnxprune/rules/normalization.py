"""Norms: per-channel parameters follow their axis, axes that share statistics are fixed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnxprune.rules.call import Call, merged
from onnxprune.rules.elementwise import broadcast, carry
from onnxprune.rules.facts import Attribute, Counts, Fact, Fixed, Operand, Reads, Rescale, Same
from onnxprune.rules.registry import rule

STATISTICS = "its indices share the statistics of a norm"


def _average(n: Call, axes: Sequence[int], scale: int = 1) -> Iterator[Fact]:
    """The node divides by the root of a mean over `axes`, plus epsilon: with fewer indices, both go by old / new.

    Sum / old = new / old x (sum / new), so scale x (old / new) ** 0.5 and epsilon x old / new give what silent
    indices would have given.
    """
    dims = tuple(n.x[axis] for axis in axes)
    yield from (Reads(0, axis) for axis in axes)
    yield Rescale(Operand(scale), dims, -0.5)
    yield Rescale(Attribute("epsilon"), dims, -1.0, default=1e-5)


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
    yield from _average(n, range(2, n.x.rank))
    yield from (Fixed(dim, STATISTICS, "norm") for dim in n.x.dims[2:])


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
    yield from (Fixed(dim, STATISTICS, "norm") for dim in (inside, *n.x.dims[2:]))


@rule("LayerNormalization", "RMSNormalization")
def layer_normalization(n: Call) -> Iterator[Fact]:
    """Scale and bias are broadcast to the input. Every axis from `axis` on is averaged; a mean that is taken off
    fixes them."""
    yield from carry(n.x, n.y)
    first = int(n.attribute("axis", -1)) % n.x.rank
    for tensor in n.inputs[1:]:
        if tensor is not None:
            yield from broadcast(tensor, n.x)
    yield from _average(n, range(first, n.x.rank))
    if n.op_type == "LayerNormalization":
        given = [tensor for tensor in n.outputs[1:] if tensor is not None]
        for tensor in given:
            yield from (Same(a, b) for a, b in zip(n.x.dims[:first], tensor.dims, strict=False))
        yield from (Fixed(dim, STATISTICS, "" if given else "norm") for dim in n.x.dims[first:])
