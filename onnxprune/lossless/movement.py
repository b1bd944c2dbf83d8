"""Operators that only move indices: what is known moves with them.

Where an axis is folded, all of it moves as one: then the number that stands for it says what was done to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from onnxprune.lossless.seen import Seen, Transfer
from onnxprune.lossless.values import Hashes, Values, aligned, hashed, mixed, resized
from onnxprune.model import Array

__all__ = ["MOVEMENT"]


def _each(v: Values, out: Values, move: Callable[[Array], Array]) -> Values:
    """Move numbers, known and values alike."""
    return replace(out, number=move(v.number), known=move(v.known), value=move(v.value))


def transpose(seen: Seen) -> Values:
    """Axis k is axis perm[k]."""
    perm = seen.attribute("perm", tuple(reversed(range(len(seen.x.shape)))))
    return _each(seen.x, seen.out, lambda a: np.transpose(a, perm)).renumbered(hashed("Transpose", perm))


def reshape(seen: Seen) -> Values | None:
    """Axes that are merged or split are unfolded, unless all of a stretch of axes is folded."""
    x, out = seen.x, seen.out
    if 0 in x.shape:
        return None
    shape: list[int] = []
    touched = hashed("Reshape")
    for ins, outs in _stretches(x.shape, out.shape):
        same = [x.shape[k] for k in ins if x.shape[k] != 1] == [out.shape[k] for k in outs if out.shape[k] != 1]
        opened = [k for k in ins if x.number.shape[k] != 1]
        if not opened:
            shape += [1] * len(outs)
            touched = touched if same else hashed(touched, ins, outs)
        else:
            x = x if same else x.unfolded(ins)
            sizes = [out.shape[k] for k in outs]
            shape += _sizes(x, ins, sizes) if same else sizes
    return _each(x, out, lambda a: a.reshape(shape)).renumbered(touched)


def _sizes(x: Values, ins: Sequence[int], outs: Sequence[int]) -> list[int]:
    """The sizes of axes that are carried one by one: only axes of one index come or go."""
    carried = iter(x.number.shape[k] for k in ins if x.shape[k] != 1)
    return [1 if size == 1 else next(carried) for size in outs]


def _stretches(left: Sequence[int], right: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """The shortest stretches of axes of both shapes that hold as many indices."""
    i = j = 0
    while i < len(left) or j < len(right):
        ins, outs = [], []
        a = b = 1
        if i < len(left):
            ins, a, i = [i], left[i], i + 1
        if j < len(right):
            outs, b, j = [j], right[j], j + 1
        while a != b:
            if (a < b and i < len(left)) or j >= len(right):
                ins, a, i = [*ins, i], a * left[i], i + 1
            else:
                outs, b, j = [*outs, j], b * right[j], j + 1
        yield ins, outs


def concat(seen: Seen) -> Values | None:
    """One after the other."""
    if any(v is None for v in seen.inputs):
        return None
    axis = int(seen.attribute("axis", 1)) % len(seen.out.shape)
    parts = [v.unfolded([axis]) for v in seen.inputs if v is not None]
    opened = [k for k in range(len(seen.out.shape)) if k != axis and any(v.number.shape[k] > 1 for v in parts)]
    parts = [v.unfolded(opened) for v in parts]
    return replace(
        seen.out,
        number=np.concatenate([v.number for v in parts], axis),
        known=np.concatenate([v.known for v in parts], axis),
        value=np.concatenate([v.value for v in parts], axis).astype(seen.out.value.dtype),
    )


def _stretch(x: Values, out: Values, axis: int, take: slice) -> Values:
    """x[start:stop:step] of one axis."""
    if x.number.shape[axis] == 1:
        return resized(x, out).renumbered(hashed("Slice", axis, take))
    index = tuple(take if k == axis else slice(None) for k in range(len(x.shape)))
    return _each(x, out, lambda a: a[index])


def split(seen: Seen) -> Values | None:
    """A stretch for each output."""
    x = seen.x
    axis = int(seen.attribute("axis", 0)) % len(x.shape)
    sizes = seen.attribute("split") if seen.attribute("split") is not None else seen.constant(1)
    if sizes is None:
        if x.shape[axis] % len(seen.node.outputs):
            return None
        sizes = [x.shape[axis] // len(seen.node.outputs)] * len(seen.node.outputs)
    start = int(np.sum(np.asarray(sizes)[: seen.position]))
    return _stretch(x, seen.out, axis, slice(start, start + seen.out.shape[axis]))


def slice_(seen: Seen) -> Values | None:
    """Stretches of several axes, by known bounds."""
    if seen.opset < 10:
        bounds = [seen.attribute(name) for name in ("starts", "ends", "axes", "steps")]
    else:
        given = [len(seen.node.inputs) > k and bool(seen.node.inputs[k]) for k in (1, 2, 3, 4)]
        bounds = [seen.constant(k) if there else None for k, there in zip((1, 2, 3, 4), given, strict=True)]
        if any(there and b is None for there, b in zip(given, bounds, strict=True)):
            return None
    starts, ends, axes, steps = (None if b is None else np.ravel(b).tolist() for b in bounds)
    assert starts is not None
    assert ends is not None
    x, rank = seen.x, len(seen.x.shape)
    for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis, step = (k if axes is None else int(axes[k]) % rank), (1 if steps is None else int(steps[k]))
        end = None if step < 0 and end < -x.shape[axis] else end
        if x.dynamic[axis] and x.number.shape[axis] != 1:
            return None
        shape = tuple(seen.out.shape[a] if a == axis else n for a, n in enumerate(x.shape))
        x = _stretch(x, replace(x, shape=shape), axis, slice(start, end, step))
    return resized(x, seen.out)


def gather(seen: Seen) -> Values | None:
    """Known indices pick from an axis."""
    indices = seen.constant(1)
    if indices is None:
        return None
    axis = int(seen.attribute("axis", 0)) % len(seen.x.shape)
    x = seen.x.unfolded([axis])
    return _each(x, seen.out, lambda a: np.take(a, indices, axis=axis))


def expand(seen: Seen) -> Values:
    """Every index of a new axis is the same one."""
    return resized(seen.x.ranked(len(seen.out.shape)), seen.out).renumbered(hashed("Expand"))


def pad(seen: Seen) -> Values | None:
    """Where padding of folded axes is not the constant itself, the channel is a constant no more."""
    pads = seen.attribute("pads") if seen.opset < 11 else seen.constant(1)
    fill = seen.attribute("value", 0.0) if seen.opset < 11 else _fill(seen)
    if pads is None or fill is None or seen.attribute("mode", "constant") != "constant" or len(seen.node.inputs) > 3:
        return None
    x, rank = seen.x, len(seen.x.shape)
    amounts = [(int(pads[k]), int(pads[k + rank])) for k in range(rank)]
    if any(min(pair) < 0 for pair in amounts):
        return None
    opened = [k for k in range(rank) if any(amounts[k]) and x.number.shape[k] != 1]
    if any(any(amounts[k]) and k not in opened for k in range(rank)):
        x = replace(x, known=x.known & (x.value == fill)).renumbered(hashed("Pad", amounts, fill))
    inside = [amounts[k] if k in opened else (0, 0) for k in range(rank)]
    filling: Hashes = mixed(hashed("Pad", fill))
    return replace(
        seen.out,
        number=np.pad(x.number, inside, constant_values=filling),
        known=np.pad(x.known, inside, constant_values=True),
        value=np.pad(x.value, inside, constant_values=fill),
    )


def _fill(seen: Seen) -> Array | None:
    if len(seen.node.inputs) < 3 or not seen.node.inputs[2]:
        return np.zeros((), seen.out.value.dtype)
    value = seen.constant(2)
    return None if value is None else value.reshape(())


def identity(seen: Seen) -> Values:
    """The same tensor by another name."""
    return aligned([seen.x], seen.out.shape)[0]


MOVEMENT: dict[str, Transfer] = {
    "Concat": concat,
    "Expand": expand,
    "Gather": gather,
    "Identity": identity,
    "Pad": pad,
    "Slice": slice_,
    "Split": split,
    "Transpose": transpose,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), reshape),
}
