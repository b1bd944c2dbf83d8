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
    x, y, w, bias = n.x, n.y, n.inputs[1], n.input(2)
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
    """Equal letters are one dimension; a letter that the output lacks is contracted."""
    terms, _, result = str(n.attribute("equation")).replace(" ", "").partition("->")
    if "..." in terms or not result:
        yield from (Fixed(dim, "einsum with an ellipsis or without '->'") for dim in n.all_axes())
        return
    letters: dict[str, Atom] = {}
    for tensor, term in [*zip(n.inputs, terms.split(","), strict=True), (n.y, result)]:
        assert tensor is not None
        for axis, letter in enumerate(term):
            yield Same(letters.setdefault(letter, tensor[axis]), tensor[axis])
    for letter in dict.fromkeys(terms.replace(",", "")):
        if letter not in result:
            places = [(k, t.index(letter)) for k, t in enumerate(terms.split(",")) if letter in t]
            weights = [(k, axis) for k, axis in places if (t := n.inputs[k]) is not None and t.constant]
            yield Reads(*(weights or places)[0])
    if all(t is not None and t.live for t in n.inputs):
        yield from _roles(letters, terms.split(","), result)
    yield Work(1, tuple(dim for dim in letters.values() if not _is_batch(n, dim)))


def _roles(letters: dict[str, Atom], terms: list[str], result: str) -> Iterator[Role]:
    """What each letter is in a product of activations."""
    for letter, dim in letters.items():
        if letter not in result:
            yield Role("contracted", dim)
        else:
            yield Role("batched" if all(letter in term for term in terms) else "carried", dim)


def _is_batch(n: Call, dim: Atom) -> bool:
    return any(t is not None and t.rank and t[0] == dim and t.dynamic[0] for t in n.inputs)
