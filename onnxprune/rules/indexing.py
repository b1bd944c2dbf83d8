"""Operators that pick indices by number: Gather and its relatives."""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.rules.call import APART, Call, joined, merged
from onnxprune.rules.elementwise import carry
from onnxprune.rules.facts import Fact, Fixed, Indexes, Same
from onnxprune.rules.registry import rule


@rule("Gather")
def gather(n: Call) -> Iterator[Fact]:
    """Known indices in one run are the middle part of the axis; in any other order each index is told apart.

    The axes of the index tensor stand in the output where the picked axis was.
    """
    indices = n.inputs[1]
    assert indices is not None
    axis = int(n.attribute("axis", 0)) % n.x.rank
    picked, kept = n.x[axis], n.x.dims[axis + 1 :]
    for a, b in zip((*n.x.dims[:axis], *indices.dims, *kept), n.y.dims, strict=True):
        yield Same(a, b)
    values = n.number(1)
    if values is None or len(values) == 0 or any(n.varies(1)):
        yield Fixed(picked, "its indices are picked by values that are made at run time")
        return
    values = [int(v) + (picked.size if v < 0 else 0) for v in values]
    out = merged(*indices.dims) if indices.rank else n.new(1)
    if not indices.rank:
        yield Fixed(out, "picked by itself")
    if values == list(range(values[0], values[0] + len(values))):
        yield Same(picked, joined(n.new(values[0]), out, n.new(picked.size - values[0] - len(values))))
    elif picked.size <= APART:
        units = n.units(picked.size)
        yield Same(picked, joined(*units))
        yield Same(out, joined(*(units[value] for value in values)))
    else:
        yield from (Fixed(dim, "its indices are picked in another order") for dim in (picked, *indices.dims))
    yield Indexes(1, picked)


@rule("GatherElements", "ScatterElements", "Scatter")
def gather_elements(n: Call) -> Iterator[Fact]:
    """The axis that is picked from is fixed; an index tensor as long as the data elsewhere ties those axes."""
    axis = int(n.attribute("axis", 0)) % n.x.rank
    others = [t for t in (*n.inputs[1:], *n.outputs) if t is not None]
    for tensor in others:
        yield Fixed(tensor[axis], f"{n.op_type} picks its indices by value")
        for k, (a, b) in enumerate(zip(n.x.dims, tensor.dims, strict=True)):
            if k != axis:
                yield from (Same(a, b),) if a.size == b.size else (Fixed(a, n.op_type), Fixed(b, n.op_type))
    yield Fixed(n.x[axis], f"{n.op_type} picks its indices by value")


@rule("GatherND", "ScatterND")
def gather_nd(n: Call) -> Iterator[Fact]:
    """The axes that index tuples address are fixed; those before them (batches) and behind them pass."""
    indices = n.inputs[1]
    assert indices is not None
    batch = int(n.attribute("batch_dims", 0))
    addressed = batch + indices.shape[-1]
    by_value = (*n.x.dims[batch:addressed], *indices.dims[batch:])
    yield from (Fixed(dim, f"{n.op_type} picks its indices by value") for dim in by_value)
    trailing = n.x.dims[addressed:]
    if n.op_type == "ScatterND":
        yield from carry(n.x, n.y)
        updates = n.inputs[2]
        assert updates is not None
        made = updates
    else:
        made = n.y
    yield from (Same(a, b) for a, b in zip(trailing, made.dims[made.rank - len(trailing) :], strict=True))
    for k in range(batch):
        yield Same(n.x[k], indices[k])
        yield Same(n.x[k], made[k])
    yield from (
        Fixed(d, f"{n.op_type} picks its indices by value") for d in made.dims[batch : made.rank - len(trailing)]
    )


@rule("OneHot")
def one_hot(n: Call) -> Iterator[Fact]:
    """The new axis counts values, so it is fixed; the axes of the indices pass around it."""
    axis = int(n.attribute("axis", -1)) % n.y.rank
    rest = [dim for k, dim in enumerate(n.y.dims) if k != axis]
    yield from (Same(a, b) for a, b in zip(n.x.dims, rest, strict=True))
    yield Fixed(n.y[axis], "OneHot writes it by value")
