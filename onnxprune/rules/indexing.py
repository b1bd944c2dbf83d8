"""Operators that pick indices by number: Gather and its relatives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from onnxprune.dimensions import Atom, Dimension
from onnxprune.rules.call import APART, Call, joined, merged
from onnxprune.rules.elementwise import carry
from onnxprune.rules.facts import Fact, Fixed, Indexes, Same
from onnxprune.rules.registry import rule

AT_RUN_TIME = "its indices are picked by values that are made at run time"


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
    values = _known(n)
    if values is None:
        yield Fixed(picked, AT_RUN_TIME)
        return
    out = merged(*indices.dims) if indices.rank else n.new(1)
    if not indices.rank:
        yield Fixed(out, "picked by itself")
    yield from _picked(n, picked, out, values.ravel())
    yield Indexes(1, picked)


def _known(n: Call) -> npt.NDArray[np.int64] | None:
    """The values of the index operand, where every run has the same."""
    indices = n.inputs[1]
    if indices is None or indices.number is None or indices.number.size == 0 or any(n.varies(1)):
        return None
    return np.asarray(indices.number, np.int64)


def _picked(n: Call, picked: Atom, out: Dimension, values: npt.NDArray[np.int64]) -> Iterator[Fact]:
    """Index k of `out` is index `values[k]` of `picked`: a stretch of it, or in an order of its own."""
    numbers: list[int] = np.where(values < 0, values + picked.size, values).tolist()
    if numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        yield Same(picked, joined(n.new(numbers[0]), out, n.new(picked.size - numbers[0] - len(numbers))))
    elif picked.size <= APART:
        units = n.units(picked.size)
        yield Same(picked, joined(*units))
        yield Same(out, joined(*(units[number] for number in numbers)))
    else:
        yield from (Fixed(dim, "its indices are picked in another order") for dim in (picked, out))


@rule("GatherElements", "ScatterElements", "Scatter")
def gather_elements(n: Call) -> Iterator[Fact]:
    """Known indices that are alike along all other axes pick as Gather does; any others fix the axis.

    An index tensor as long as the data elsewhere ties those axes.
    """
    indices, axis = n.inputs[1], int(n.attribute("axis", 0)) % n.x.rank
    assert indices is not None
    written = n.op_type != "GatherElements"
    for tensor in (t for t in (*n.inputs[1:], *n.outputs) if t is not None):
        for k, (a, b) in enumerate(zip(n.x.dims, tensor.dims, strict=True)):
            if k != axis:
                yield from (Same(a, b),) if a.size == b.size else (Fixed(a, n.op_type), Fixed(b, n.op_type))
    made = n.inputs[2] if written else n.y
    assert made is not None
    yield Same(made[axis], indices[axis])
    if written:
        yield Same(n.x[axis], n.y[axis])
    values = _known(n)
    rows = None if values is None else np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    if rows is None or (rows != rows[:, :1]).any():
        yield from (Fixed(dim, f"{n.op_type} picks its indices by value") for dim in (n.x[axis], indices[axis]))
    else:
        yield from _picked(n, n.x[axis], indices[axis], rows[:, 0])
        yield Indexes(1, n.x[axis])


@rule("GatherND", "ScatterND")
def gather_nd(n: Call) -> Iterator[Fact]:
    """Axes that known tuples address, each along axes of its own, are picked from as Gather does; others are fixed.

    Those before them (batches) and behind them pass.
    """
    indices = n.inputs[1]
    assert indices is not None
    batch, tuples = int(n.attribute("batch_dims", 0)), indices.rank - 1
    made = n.y if n.op_type == "GatherND" else n.inputs[2]
    assert made is not None
    if n.op_type == "ScatterND":
        yield from carry(n.x, n.y)
    yield from (fact for k in range(batch) for fact in (Same(n.x[k], indices[k]), Same(n.x[k], made[k])))
    yield from map(Same, n.x.dims[batch + indices.shape[-1] :], made.dims[tuples:])
    yield from map(Same, indices.dims[batch:tuples], made.dims[batch:tuples])
    yield Fixed(indices[-1], "the numbers of one place")
    grid = _grid(n, batch)
    if grid is None:
        by_value = (*n.x.dims[batch : batch + indices.shape[-1]], *indices.dims[batch:tuples])
        yield from (Fixed(dim, f"{n.op_type} picks its indices by value") for dim in by_value)
        return
    for k, (axes, values) in enumerate(grid):
        out = merged(*(indices[axis] for axis in axes)) if axes else n.new(1)
        yield from () if axes else (Fixed(out, "picked by itself"),)
        yield from _picked(n, n.x[batch + k], out, values)
        yield Indexes(1, n.x[batch + k], k)


def _grid(n: Call, batch: int) -> list[tuple[list[int], npt.NDArray[np.int64]]] | None:
    """For each number of the tuples the axes that it depends on, and its values along them; None where two share one.

    Nor may a ScatterND write several times to one place, as the last one that stays would count.
    """
    values = _known(n)
    if values is None:
        return None
    found: list[tuple[list[int], npt.NDArray[np.int64]]] = []
    for k in range(values.shape[-1]):
        numbers = values[..., k]
        axes = [a for a in range(numbers.ndim) if (numbers != numbers.take([0], axis=a)).any()]
        index = tuple(slice(None) if a in axes else 0 for a in range(numbers.ndim))
        found.append((axes, np.ravel(numbers[index])))
    used = [axis for axes, _ in found for axis in axes]
    idle = [axis for axis in range(batch, values.ndim - 1) if axis not in used and values.shape[axis] > 1]
    if len(set(used)) < len(used) or any(axis < batch for axis in used) or (n.op_type == "ScatterND" and idle):
        return None
    return found


@rule("OneHot")
def one_hot(n: Call) -> Iterator[Fact]:
    """The new axis counts values, so it is fixed; the axes of the indices pass around it."""
    axis = int(n.attribute("axis", -1)) % n.y.rank
    rest = [dim for k, dim in enumerate(n.y.dims) if k != axis]
    yield from (Same(a, b) for a, b in zip(n.x.dims, rest, strict=True))
    yield Fixed(n.y[axis], "OneHot writes it by value")
