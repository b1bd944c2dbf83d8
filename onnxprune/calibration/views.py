"""Where the samples are in a tensor, by its type, and how it is turned so that they come first.

The batch of the model's inputs is an atom like any other. Whatever axis it is part of, first, last or in the middle of
a merged one, a reshape and a transpose bring it to the front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from onnxprune.dependency import Analysis
from onnxprune.dimensions import Atom, Dimension, Product

__all__ = ["Batch", "View", "batch_of", "view_of"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Axis `axis` of a tensor is `before` x samples x `after`; None: all of the tensor is one sample."""

    axis: int | None
    before: int = 1
    after: int = 1


@dataclass(frozen=True, slots=True)
class View:
    """A tensor reshaped to `split`, transposed by `order` and reshaped to `sizes`; no `split` where none is due.

    The result is (samples, everything else, *what was kept*).
    """

    split: tuple[int, ...] | None
    order: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def rest(self) -> int:
        """The size of everything else."""
        return self.sizes[1]


def batch_of(analysis: Analysis, tensor: str, shape: Sequence[int], size: int, alone: bool) -> Batch | None:
    """Where `tensor`, of shape `shape` for a batch of `size`, has its samples; None where that is not known.

    `alone`: every run is of one sample.
    """
    samples = {dims[0] for info in analysis.model.inputs if (dims := analysis.dims(info.name))}
    for axis, dim in enumerate(analysis.dims(tensor)):
        factors: tuple[Dimension, ...] = dim.factors if isinstance(dim, Product) else (dim,)
        for place, factor in enumerate(factors):
            if isinstance(factor, Atom) and factor in samples:
                before, after = (prod(f.size for f in part) for part in (factors[:place], factors[place + 1 :]))
                if place == 0 and shape[axis] % size == 0:  # sizes of this run, where the types have those of another
                    before, after = 1, shape[axis] // size
                elif place == len(factors) - 1 and shape[axis] % size == 0:
                    before, after = shape[axis] // size, 1
                if before * size * after == shape[axis]:
                    return Batch(axis, before, after)
    return Batch(None) if alone else None


def view_of(shape: Sequence[int], batch: Batch | None, kept: Sequence[Sequence[int]]) -> View:
    """The view of a tensor that keeps the axes of each of `kept` together, in that order; none of them has the samples.

    With no batch, all that is not kept counts as samples.
    """
    pieces: list[tuple[int, int]] = []  # (axis, size), -1 being the axis of the samples
    for axis, size in enumerate(shape):
        if batch is not None and axis == batch.axis:
            pieces.extend(p for p in ((axis, batch.before), (-1, -1), (axis, batch.after)) if p[1] != 1)
        else:
            pieces.append((axis, size))
    if batch is not None and batch.axis is None:
        pieces.insert(0, (-1, -1))
    named = [axis for part in kept for axis in part]
    rest = [k for k, (axis, _) in enumerate(pieces) if axis not in (-1, *named)]
    first = [k for k, (axis, _) in enumerate(pieces) if axis == -1]
    order = (*first, *rest, *(next(k for k, (a, _) in enumerate(pieces) if a == axis) for axis in named))
    others = 1 if batch is None else prod(pieces[k][1] for k in rest)
    sizes = (-1, others, *(prod(shape[axis] for axis in part) for part in kept))
    split = tuple(size for _, size in pieces) if len(pieces) != len(shape) else None
    return View(split, order, sizes)
