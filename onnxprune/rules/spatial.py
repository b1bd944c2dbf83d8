"""Operators over space: pooling, resizing, sampling. Batch and channels pass, spatial axes are fixed."""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.rules.call import Call, merged
from onnxprune.rules.contraction import windows
from onnxprune.rules.facts import Counts, Fact, Fixed, Operand, Same
from onnxprune.rules.registry import rule


@rule("AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool", "GridSample",
      "MaxUnpool")  # fmt: skip
def pooling(n: Call) -> Iterator[Fact]:
    """Batch and channels pass, windows slide over the rest; MaxPool's flat indices cannot follow a cut."""
    yield Same(n.x[0], n.y[0])
    yield Same(n.x[1], n.y[1])
    yield from windows(n.x, n.y)
    others = [*n.inputs[1:], *n.outputs[1:]]
    yield from (Fixed(dim, f"{n.op_type} addresses it") for t in others if t is not None for dim in t.dims)
    if n.op_type in ("MaxPool", "MaxUnpool") and any(t is not None for t in others):
        yield Fixed(n.x[1], "flat indices of MaxPool address it")


@rule("Resize", "Upsample")
def resize(n: Call) -> Iterator[Fact]:
    """Axes that keep their size pass (their target size, if given, counts them); the others are fixed.

    Where one scale is made for all the axes, or all are cropped, an axis passes only if it is not among them.
    """
    given = n.attribute("axes")
    axes = range(n.x.rank) if given is None else [int(axis) % n.x.rank for axis in given]
    sizes = n.number(3) if n.op_type == "Resize" and n.opset >= 11 else None
    unknown = n.input(3) is not None and sizes is None
    tied = sizes is not None and n.attribute("keep_aspect_ratio_policy", "stretch") != "stretch"
    cropped = n.attribute("coordinate_transformation_mode") == "tf_crop_and_resize"
    for axis, (a, b) in enumerate(zip(n.x.dims, n.y.dims, strict=True)):
        varies = sizes is not None and axis in axes and n.varies(3)[axes.index(axis)] and not n.x.dynamic[axis]
        if a.size != b.size or varies or (axis in axes and (unknown or tied or cropped)):
            yield from (Fixed(a, "resized"), Fixed(b, "resized"))
        else:
            yield Same(a, b)
    if sizes:
        yield Counts(Operand(3), tuple(n.y[axis] for axis in axes))


@rule("CenterCropPad")
def center_crop_pad(n: Call) -> Iterator[Fact]:
    """Axes that keep their size pass, and their target size counts them; the others are fixed."""
    axes = n.attribute("axes") or range(n.x.rank)
    for a, b in zip(n.x.dims, n.y.dims, strict=True):
        yield from (Same(a, b),) if a.size == b.size else (Fixed(a, "cropped or padded"), Fixed(b, "cropped or padded"))
    if n.number(1) is None:
        yield from (Fixed(n.x[axis], "the sizes of a CenterCropPad are not known") for axis in axes)
    else:
        yield Counts(Operand(1), tuple(n.y[axis] for axis in axes))


@rule("Col2Im")
def col2im(n: Call) -> Iterator[Fact]:
    """x[1] is channels x places of the window; windows are added up in space."""
    places = n.new(n.x.shape[1] // n.y.shape[1])
    yield Same(n.x[0], n.y[0])
    yield Same(n.x[1], merged(n.y[1], places))
    yield Fixed(places, "the places of a window")
    yield from windows(n.x, n.y)


@rule("AffineGrid")
def affine_grid(n: Call) -> Iterator[Fact]:
    """The batch passes; matrices and coordinates are fixed."""
    yield Same(n.x[0], n.y[0])
    yield from (Fixed(dim, "coordinates") for dim in (*n.x.dims[1:], *n.y.dims[1:]))


@rule("RoiAlign", "MaxRoiPool")
def roi(n: Call) -> Iterator[Fact]:
    """Channels pass; regions become the batch."""
    yield Same(n.x[1], n.y[1])
    others = [t for t in n.inputs[1:] if t is not None]
    yield from (Fixed(dim, f"{n.op_type} takes regions") for t in others for dim in t.dims)
    yield from (Fixed(t[k], f"{n.op_type} takes regions") for t in (n.x, n.y) for k in (0, 2, 3))
