"""Operators that only rename indices: reshapes, transposes, repeats."""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.dimensions import Atom
from onnxprune.rules.call import Call, merged
from onnxprune.rules.elementwise import carry
from onnxprune.rules.facts import Counts, Fact, Fixed, Operand, Same
from onnxprune.rules.registry import rule


@rule("Reshape")
def reshape(n: Call) -> Iterator[Fact]:
    """All axes merged are all axes merged; the target counts its axes, except -1 and a 0 that copies one."""
    yield Same(merged(*n.x.dims), merged(*n.y.dims))
    if n.opset < 5:
        yield from (Fixed(dim, "the target shape is an attribute") for dim in n.y.dims)
        return
    target = n.number(1)
    if target is None:
        yield from (Fixed(dim, "the target shape is not known") for dim in n.y.dims)
        return
    yield Counts(Operand(1), tuple(n.y[k] if size > 0 else None for k, size in enumerate(target)))


@rule("Flatten")
def flatten(n: Call) -> Iterator[Fact]:
    """Axes before `axis` are merged into one, and those from it on into another."""
    axis = int(n.attribute("axis", 1))
    axis += n.x.rank if axis < 0 else 0
    for dims, out in ((n.x.dims[:axis], n.y[0]), (n.x.dims[axis:], n.y[1])):
        if dims:
            yield Same(merged(*dims), out)


@rule("Squeeze", "Unsqueeze")
def squeeze(n: Call) -> Iterator[Fact]:
    """Axes of one index come or go.

    A Squeeze that names no axes would also drop an axis that is cut to one index: fixed.
    """
    if n.op_type == "Squeeze" and n.axes() is None:
        yield from (Fixed(dim, "Squeeze without axes") for dim in n.x.dims)
    left, right = ([d for d in tensor.dims if d.size != 1] for tensor in (n.x, n.y))
    if [d.size for d in left] != [d.size for d in right]:  # in a branch that sizes like these never take
        yield from (Fixed(dim, "an axis that is squeezed has several indices") for dim in (*left, *right))
    else:
        yield from (Same(a, b) for a, b in zip(left, right, strict=True))


@rule("Transpose")
def transpose(n: Call) -> Iterator[Fact]:
    """Axis k of the output is axis perm[k] of the input."""
    perm = n.attribute("perm", tuple(reversed(range(n.x.rank))))
    yield from (Same(n.x[source], out) for source, out in zip(perm, n.y.dims, strict=True))


@rule("Tile", since=6)
def tile(n: Call) -> Iterator[Fact]:
    """An axis repeated r times is r x axis; known repeats are counted, as those of key heads for their query heads."""
    counts: list[Atom | None] = []
    known = n.number(1) is not None and not any(n.varies(1))
    for a, b in zip(n.x.dims, n.y.dims, strict=True):
        counts.append(None if a.size == b.size else n.new(b.size // a.size))
        if counts[-1] is None:
            yield Same(a, b)
        else:
            yield Same(merged(counts[-1], a), b)
            if not known:
                yield Fixed(counts[-1], "repeated by Tile")
    yield Counts(Operand(1), tuple(counts))


@rule("DepthToSpace", "SpaceToDepth")
def depth_to_space(n: Call) -> Iterator[Fact]:
    """Depth is block x block x channels (CRD: channels x block x block); the blocks become space."""
    deep, flat = (n.x, n.y) if n.op_type == "DepthToSpace" else (n.y, n.x)
    size = int(n.attribute("blocksize"))
    channels, block = flat[1], n.new(size * size)
    order = (channels, block) if n.attribute("mode", "DCR") == "CRD" else (block, channels)
    yield Same(deep[1], merged(*order))
    yield Fixed(block, f"{n.op_type} moves it to space")
    yield Same(n.x[0], n.y[0])
    for tensor in (n.x, n.y):
        yield from (Fixed(dim, f"{n.op_type} moves its indices") for dim in tensor.dims[2:])


@rule("ReverseSequence")
def reverse_sequence(n: Call) -> Iterator[Fact]:
    """Batch and time are fixed, everything else passes."""
    yield from carry(n.x, n.y)
    for axis in (int(n.attribute("batch_axis", 1)), int(n.attribute("time_axis", 0))):
        yield Fixed(n.x[axis], "ReverseSequence moves its indices")
