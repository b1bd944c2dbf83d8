"""Operators that put dimensions one after the other or take a stretch out of one: Concat, Split, Slice, Pad."""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.dimensions import Atom
from onnxprune.rules.call import APART, Call, joined, merged
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
    if len(parts) != len(n.outputs) or (n.input(1) is not None and n.number(1) is None) or any(n.varies(1)):
        yield Fixed(n.x[axis], "its parts are not all known")
    else:
        yield Same(n.x[axis], joined(*(y[axis] for y in parts)))
        place: Place = Attribute("split") if n.opset < 13 else Operand(1)
        yield Counts(place, tuple(y[axis] for y in parts), instead_of="num_outputs")
    for y in parts:
        yield from carry(n.x, y, but=(axis,))


def _ranges(n: Call) -> list[tuple[int, slice]] | None:
    """(axis, start:stop:step) of every sliced axis, as the numbers say it; None where they are not known."""
    rank = n.x.rank
    if n.opset < 10:
        starts, ends, axes, steps = n.attribute("starts"), n.attribute("ends"), n.attribute("axes"), None
    else:
        if any(n.input(k) is not None and n.number(k) is None for k in (1, 2, 3, 4)):
            return None
        starts, ends, axes, steps = (n.number(k) for k in (1, 2, 3, 4))
    assert starts is not None
    assert ends is not None
    steps = steps or [1] * len(starts)
    return [
        (int(axis) % rank, slice(int(starts[k]), int(ends[k]), int(steps[k])))
        for k, axis in enumerate(axes or range(len(starts)))
    ]


def _stretch(n: Call, x: Atom, y: Atom, said: slice) -> tuple[list[Fact], Atom | None, Atom | None]:
    """The facts on x[start:stop], and what its bounds count: from the end where negative, nothing where beyond."""
    start, stop, _ = said.indices(x.size)
    before, after, upto, since = n.new(start), n.new(x.size - stop), n.new(stop), n.new(x.size - start)
    facts: list[Fact] = [
        Same(x, joined(before, y, after)),
        Same(upto, joined(before, y)),
        Same(since, joined(y, after)),
    ]
    inside = range(-x.size, x.size + 1)
    first = (since if said.start < 0 else before) if said.start in inside else None
    last = (after if said.stop < 0 else upto) if said.stop in inside else None
    return facts, first, last


def _strided(n: Call, x: Atom, y: Atom, said: slice) -> Iterator[Fact]:
    """Every s-th index to the end is the outer factor of m x s; a flip tells indices apart; all else is fixed."""
    step = said.step
    if step > 1 and x.size == y.size * step and 0 <= said.start < step and said.stop >= x.size:
        phase = n.new(step)
        yield Same(x, merged(y, phase))
        yield Fixed(phase, "a Slice takes every so-many-th index")
    elif step == -1 and x.size <= APART and (said.start == -1 or said.start >= x.size) and said.stop < -x.size:
        units = n.units(x.size)
        yield Same(x, joined(*units))
        yield Same(y, joined(*reversed(units)))
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
    for k, (axis, said) in enumerate(ranges):
        x, y = n.x[axis], n.y[axis]
        if any(flags[k : k + 1] == [True] for flags in (n.varies(1), n.varies(2))):
            yield from (Fixed(dim, "a Slice whose bounds depend on a dynamic size") for dim in (x, y))
        elif said.step == 1:
            facts, starts[k], ends[k] = _stretch(n, x, y, said)
            yield from facts
        else:
            yield from _strided(n, x, y, said)
    yield from carry(n.x, n.y, but=tuple(r[0] for r in ranges))
    yield Counts(Operand(1) if n.opset >= 10 else Attribute("starts"), tuple(starts))
    yield Counts(Operand(2) if n.opset >= 10 else Attribute("ends"), tuple(ends))


@rule("Pad")
def pad(n: Call) -> Iterator[Fact]:
    """A padded axis is before + axis + after, all three prunable where the padding is a constant; less than 0 crops."""
    name = "pads" if n.opset >= 2 else "paddings"
    pads = n.number(1) if n.opset >= 11 else n.attribute(name)
    axes = range(n.x.rank) if n.input(3) is None else n.number(3)
    if pads is None or axes is None:
        yield from (Fixed(dim, "the amounts of a Pad are not known") for dim in (*n.x.dims, *n.y.dims))
        return
    counts: list[Atom | None] = [None] * len(pads)
    where = {int(axis) % n.x.rank: k for k, axis in enumerate(axes)}
    for axis, (x, y) in enumerate(zip(n.x.dims, n.y.dims, strict=True)):
        first, second = where.get(axis, 0), where.get(axis, 0) + len(axes)
        before, after = (int(pads[first]), int(pads[second])) if axis in where else (0, 0)
        varies = axis in where and any(n.varies(1)[first :: len(axes)])
        if before == after == 0 and not varies:
            yield Same(x, y)
        elif n.attribute("mode", "constant") != "constant" or varies:
            yield from (Fixed(dim, "padded from its own indices, or by varying amounts") for dim in (x, y))
        else:
            ends = (before, n.new(abs(before))), (after, n.new(abs(after)))
            counts[first], counts[second] = ends[0][1], ends[1][1]
            yield from _padded(n, x, y, *ends)
    yield Counts(Operand(1) if n.opset >= 11 else Attribute(name), tuple(counts))


def _padded(n: Call, x: Atom, y: Atom, *ends: tuple[int, Atom]) -> Iterator[Fact]:
    """What both have in common is in the middle; what a positive amount makes is in y, what a negative takes in x."""
    core = n.new(x.size - sum(made.size for amount, made in ends if amount < 0))
    for dim, sign in ((y, 1), (x, -1)):
        before, after = ([made] if amount * sign > 0 else [] for amount, made in ends)
        yield Same(dim, joined(*before, core, *after))
