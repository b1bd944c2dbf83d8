"""Operators that multiply and add up over a dimension: convolutions, matrix products, einsum."""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.dimensions import Atom, Dimension
from onnxprune.rules.call import Call, Tensor, merged
from onnxprune.rules.elementwise import broadcast
from onnxprune.rules.facts import Attribute, Counts, Fact, Fixed, Reads, Role, Same, Work
from onnxprune.rules.registry import rule


def windows(*tensors: Tensor) -> Iterator[Fact]:
    """Axes from the third on are spatial: a window slides over them, so their indices are no units of their own."""
    for tensor in tensors:
        yield from (Fixed(dim, "a window slides over it") for dim in tensor.dims[2:])


def _groups(n: Call, per_group_in: Dimension, per_group_out: Dimension) -> tuple[Dimension, Dimension, list[Fact]]:
    """Input and output channels as groups x channels of a group, and the note on attribute `group`."""
    number = int(n.attribute("group", 1))
    if number == 1:
        return per_group_in, per_group_out, []
    groups = n.new(number)
    notes: list[Fact] = [Counts(Attribute("group"), (groups,)), Role("grouped", groups)]
    return merged(groups, per_group_in), merged(groups, per_group_out), notes


@rule("Conv")
def conv(n: Call) -> Iterator[Fact]:
    """x[1] is G x w[1], w[0] and y[1] are G x co; depthwise is the case |w[1]| = 1. w[1] is contracted."""
    yield from _convolution(n, n.input(2))


@rule("DeformConv")
def deform_conv(n: Call) -> Iterator[Fact]:
    """A convolution; offsets and mask have, for each of `offset_group` parts of the channels, a number of indices."""
    yield from _convolution(n, n.input(3))
    parts = n.new(int(n.attribute("offset_group", 1)))
    yield Same(n.x[1], merged(parts, n.new(n.x.shape[1] // parts.size)))
    yield Counts(Attribute("offset_group"), (parts,))
    for tensor in (n.inputs[2], n.input(4)):
        if tensor is not None:
            inside = n.new(tensor.shape[1] // parts.size)
            yield Same(tensor[0], n.x[0])
            yield Same(tensor[1], merged(parts, inside))
            yield Fixed(inside, "one index for each place in the window")
            yield from windows(tensor)


@rule("CausalConvWithState")
@rule("CausalConvWithState", domain="com.microsoft")
def causal_conv(n: Call) -> Iterator[Fact]:
    """A depthwise convolution along the last axis: every channel is on its own, in the state that it carries, too."""
    w, bias = n.inputs[1], n.input(2)
    assert w is not None
    if n.attribute("channels_last", 0) or n.attribute("state_window", 0) or n.x.rank != 3:
        return
    yield Same(w[0], n.x[1])
    if bias is not None:
        yield Same(bias[0], n.x[1])
    for tensor in (n.x, n.input(3), *n.outputs):
        if tensor is not None:
            yield Same(tensor[0], n.x[0])
            yield Same(tensor[1], n.x[1])
            yield from windows(tensor)
    yield Work(n.cost(n.y, but=(1,)) * w.shape[2], (w[0],))


def _convolution(n: Call, bias: Tensor | None) -> Iterator[Fact]:
    """What every convolution says of data, kernel, bias and output."""
    x, y, w = n.x, n.y, n.inputs[1]
    assert w is not None
    out = n.new(w.shape[0] // int(n.attribute("group", 1)))
    channels_in, channels_out, notes = _groups(n, w[1], out)
    yield from notes
    yield Same(x[0], y[0])
    yield Same(x[1], channels_in)
    yield Same(w[0], channels_out)
    yield Same(y[1], w[0])
    if bias is not None:
        yield Same(bias[0], w[0])
    yield from windows(x, w, y)
    yield Reads(1, 1)
    yield Work(n.cost(y, but=(1,)) * n.cost(w, but=(0, 1)), (w[0], w[1]))


@rule("ConvTranspose")
def conv_transpose(n: Call) -> Iterator[Fact]:
    """x[1] and w[0] are G x ci, y[1] is G x w[1]. Inside a group ci is contracted."""
    x, y, w, bias = n.x, n.y, n.inputs[1], n.input(2)
    assert w is not None
    number = int(n.attribute("group", 1))
    inner = n.new(w.shape[0] // number)
    channels_in, channels_out, notes = _groups(n, inner, w[1])
    yield from notes
    yield Same(x[0], y[0])
    yield Same(x[1], channels_in)
    yield Same(w[0], channels_in)
    yield Same(y[1], channels_out)
    if bias is not None:
        yield Same(bias[0], y[1])
    yield from windows(x, w, y)
    yield Reads(1, 0)
    yield Work(n.cost(x, but=(1,)) * n.cost(w, but=(0, 1)), (w[0], w[1]))


def _contract(n: Call, left: Tensor, i: int, right: Tensor, j: int) -> Iterator[Fact]:
    """Axis i of the first input meets axis j of the second; it is silenced in the one that is a weight."""
    yield Same(left[i], right[j])
    yield Reads(1, j % right.rank) if right.constant else Reads(0, i % left.rank)


@rule("Gemm")
def gemm(n: Call) -> Iterator[Fact]:
    """y = A' B' + C: the inner dimension is contracted, C is broadcast."""
    a, y, b, c = n.x, n.y, n.inputs[1], n.input(2)
    assert b is not None
    a_in, b_in = (0 if n.attribute("transA", 0) else 1), (1 if n.attribute("transB", 0) else 0)
    yield from _contract(n, a, a_in, b, b_in)
    yield Same(a[1 - a_in], y[0])
    yield Same(b[1 - b_in], y[1])
    if c is not None:
        yield from broadcast(c, y)
    yield Work(n.cost(y, but=(1,)), (y[1], b[b_in]))


@rule("MatMul")
def matmul(n: Call) -> Iterator[Fact]:
    """numpy's matmul: the last axis of a meets the last but one (or only) axis of b; leading axes are broadcast."""
    a, y, b = n.x, n.y, n.inputs[1]
    assert b is not None
    yield from _contract(n, a, -1, b, -2 if b.rank > 1 else 0)
    rest = list(y.dims)
    if b.rank > 1:
        yield Same(b[-1], rest.pop())
    if a.rank > 1:
        yield Same(a[-2], rest.pop())
    for tensor in (a, b):
        for dim, out in zip(reversed(tensor.dims[:-2]), reversed(rest), strict=False):
            if dim.size == out.size:
                yield Same(dim, out)
    if a.live and b.live:
        yield Role("contracted", a[-1])
        yield from (Role("batched", dim) for dim in y.dims[:-2])
        yield from (Role("carried", dim) for dim in y.dims[-2:])
    yield Work(1, (*(dim for k, dim in enumerate(y.dims) if k or not y.dynamic[0]), a[-1]))


@rule("Einsum")
def einsum(n: Call) -> Iterator[Fact]:
    """Equal letters are one dimension; a letter that the output lacks is contracted.

    An ellipsis stands for axes that are broadcast, paired from the right. Without an arrow the output has the axes of
    the ellipsis, then the letters that occur once, in the order of the alphabet.
    """
    terms, arrow, result = str(n.attribute("equation")).replace(" ", "").partition("->")
    tensors = [t for t in n.inputs if t is not None]
    written = [_axis_names(term, t.rank) for term, t in zip(terms.split(","), tensors, strict=True)]
    every = [name for names in written for name in names]
    if arrow:
        made = _axis_names(result, n.y.rank)
    else:
        once = sorted(name for name in every if name.isalpha() and every.count(name) == 1)
        made = [*sorted({name for name in every if not name.isalpha()}, key=int, reverse=True), *once]
    letters: dict[str, Atom] = {}
    for tensor, names in [*zip(tensors, written, strict=True), (n.y, made)]:
        for dim, name in zip(tensor.dims, names, strict=True):
            if dim.size > 1:  # one index is broadcast
                yield Same(letters.setdefault(name, dim), dim)
    for name, dim in letters.items():
        if name not in made:
            yield Reads(*_read(tensors, written, name, dim.size))
    if all(tensor.live for tensor in tensors):
        yield from _roles(letters, written, made)
    yield Work(1, tuple(dim for dim in letters.values() if not _is_batch(n, dim)))


def _axis_names(term: str, rank: int) -> list[str]:
    """The letter of every axis; the axes of an ellipsis are numbered from the right."""
    before, dots, after = term.partition("...")
    between = rank - len(before) - len(after) if dots else 0
    return [*before, *map(str, range(between, 0, -1)), *after]


def _read(tensors: list[Tensor], written: list[list[str]], name: str, size: int) -> tuple[int, int]:
    """Where a letter is silenced: in a weight if one has it, else in the first operand."""
    places = [
        (operand, axis)
        for operand, names in enumerate(written)
        for axis, other in enumerate(names)
        if other == name and tensors[operand].shape[axis] == size
    ]
    return next((place for place in places if tensors[place[0]].constant), places[0])


def _roles(letters: dict[str, Atom], written: list[list[str]], made: list[str]) -> Iterator[Role]:
    """What each letter is in a product of activations."""
    for name, dim in letters.items():
        if name not in made:
            yield Role("contracted", dim)
        else:
            yield Role("batched" if all(name in names for names in written) else "carried", dim)


def _is_batch(n: Call, dim: Atom) -> bool:
    return any(t is not None and t.rank and t[0] == dim and t.dynamic[0] for t in n.inputs)
