"""Operators that put dimensions one after the other or take a stretch out of one: Concat, Split, Slice, Pad."""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.dimensions import Atom
from onnxprune.rules.call import Call, joined, merged
from onnxprune.rules.elementwise import carry
from onnxprune.rules.facts import Attribute, Counts, Fact, Fixed, Operand, Place, Same
from onnxprune.rules.registry import rule


@rule("Concat")
def concat(n: Call) -> Iterator[Fact]:
    """The joined axis is the sum of the inputs' axes, the others are pairwise the same."""
    axis = int(n.attribute("axis", 1)) % n.y.rank
    tensors = [x for x in n.inputs if x is not None]
    yield Same(n.y[axis], joined(*(x[axis] for x in tensors)))
    for x in tensors:
        yield from carry(x, n.y, but=(axis,))


@rule("Split")
def split(n: Call) -> Iterator[Fact]:
    """The split axis is the sum of the outputs' axes; sizes are an attribute (before opset 13), an input, or equal."""
    axis = int(n.attribute("axis", 0)) % n.x.rank
    parts = [y for y in n.outputs if y is not None]
    if len(parts) != len(n.outputs) or (n.input(1) is not None and n.number(1) is None):
        yield Fixed(n.x[axis], "its parts are not all known")
    else:
        yield Same(n.x[axis], joined(*(y[axis] for y in parts)))
        place: Place = Attribute("split") if n.opset < 13 else Operand(1)
        yield Counts(place, tuple(y[axis] for y in parts), instead_of="num_outputs")
    for y in parts:
        yield from carry(n.x, y, but=(axis,))


def _ranges(n: Call) -> list[tuple[int, int, int, int]] | None:
    """(axis, start, stop, step) of every sliced axis, in indices that lie inside it; None where not known."""
    rank = n.x.rank
    if n.opset < 10:
        starts, ends, axes, steps = n.attribute("starts"), n.attribute("ends"), n.attribute("axes"), None
    else:
        if any(n.input(k) is not None and n.number(k) is None for k in (1, 2, 3, 4)):
            return None
        starts, ends, axes, steps = (n.number(k) for k in (1, 2, 3, 4))
    assert starts is not None
    assert ends is not None
    result = []
    for k, axis in enumerate(axes or range(len(starts))):
        step = int(steps[k]) if steps else 1
        axis = int(axis) % rank
        start, stop, _ = slice(int(starts[k]), int(ends[k]), step).indices(n.x.shape[axis])
        result.append((axis, start, stop, step))
    return result


def _stretch(n: Call, x: Atom, y: Atom, start: int, stop: int) -> tuple[list[Fact], Atom, Atom]:
    """The facts on x[start:stop], and the dimensions that its two bounds count."""
    before, after, upto = n.new(start), n.new(x.size - stop), n.new(stop)
    return [Same(x, joined(before, y, after)), Same(upto, joined(before, y))], before, upto


def _strided(n: Call, x: Atom, y: Atom, start: int, stop: int, step: int) -> Iterator[Fact]:
    """Every s-th index to the end is the outer factor of m x s; anything else is fixed."""
    if step > 1 and x.size == y.size * step and start < step and stop == x.size:
        phase = n.new(step)
        yield Same(x, merged(y, phase))
        yield Fixed(phase, "a Slice takes every so-many-th index")
    else:
        yield from (Fixed(dim, "a Slice with steps") for dim in (x, y))


@rule("Slice")
def slice_(n: Call) -> Iterator[Fact]:
    """A stretch is the middle one of three parts; bounds count what lies before them."""
    ranges = _ranges(n)
    if ranges is None:
        yield from (Fixed(dim, "the bounds of a Slice are not known") for dim in (*n.x.dims, *n.y.dims))
        return
    starts: list[Atom | None] = [None] * len(ranges)
    ends: list[Atom | None] = [None] * len(ranges)
    for k, (axis, start, stop, step) in enumerate(ranges):
        x, y = n.x[axis], n.y[axis]
        if x.size == y.size and step == 1:
            yield Same(x, y)
        elif step == 1:
            facts, starts[k], ends[k] = _stretch(n, x, y, start, stop)
            yield from facts
        else:
            yield from _strided(n, x, y, start, stop, step)
    yield from carry(n.x, n.y, but=tuple(r[0] for r in ranges))
    yield Counts(Operand(1) if n.opset >= 10 else Attribute("starts"), tuple(starts))
    yield Counts(Operand(2) if n.opset >= 10 else Attribute("ends"), tuple(ends))


@rule("Pad")
def pad(n: Call) -> Iterator[Fact]:
    """A padded axis is before + axis + after, all three prunable where the padding is a constant."""
    name = "pads" if n.opset >= 2 else "paddings"
    pads = n.number(1) if n.opset >= 11 else n.attribute(name)
    if pads is None or n.input(3) is not None:
        yield from (Fixed(dim, "the amounts of a Pad are not known") for dim in (*n.x.dims, *n.y.dims))
        return
    rank = n.x.rank
    counts: list[Atom | None] = [None] * len(pads)
    for axis, (x, y) in enumerate(zip(n.x.dims, n.y.dims, strict=True)):
        before, after = int(pads[axis]), int(pads[axis + rank])
        if before == after == 0:
            yield Same(x, y)
        elif n.attribute("mode", "constant") != "constant" or min(before, after) < 0:
            yield from (Fixed(dim, "padded from its own indices, or cropped") for dim in (x, y))
        else:
            counts[axis], counts[axis + rank] = n.new(before), n.new(after)
            yield Same(y, joined(*(p for p in (counts[axis], x, counts[axis + rank]) if p is not None)))
    yield Counts(Operand(1) if n.opset >= 11 else Attribute(name), tuple(counts))
