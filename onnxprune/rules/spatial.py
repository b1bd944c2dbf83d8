"""Operators over space: pooling, resizing, sampling. Batch and channels pass, spatial axes are fixed."""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.rules.call import Call
from onnxprune.rules.contraction import windows
from onnxprune.rules.facts import Counts, Fact, Fixed, Operand, Same
from onnxprune.rules.registry import rule


@rule("AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool", "GridSample",
      "MaxUnpool", "Col2Im")  # fmt: skip
def pooling(n: Call) -> Iterator[Fact]:
    """Batch and channels pass, windows slide over the rest; MaxPool's flat indices cannot follow a cut."""
    if n.op_type == "Col2Im":
        yield from (Fixed(dim, "Col2Im merges channels and windows") for dim in n.all_axes())
        return
    yield Same(n.x[0], n.y[0])
    yield Same(n.x[1], n.y[1])
    yield from windows(n.x, n.y)
    others = [*n.inputs[1:], *n.outputs[1:]]
    yield from (Fixed(dim, f"{n.op_type} addresses it") for t in others if t is not None for dim in t.dims)
    if n.op_type in ("MaxPool", "MaxUnpool") and any(t is not None for t in others):
        yield Fixed(n.x[1], "flat indices of MaxPool address it")


@rule("Resize", "Upsample")
def resize(n: Call) -> Iterator[Fact]:
    """Axes that keep their size pass (their target size, if given, counts them); the others are fixed."""
    for a, b in zip(n.x.dims, n.y.dims, strict=True):
        yield from (Same(a, b),) if a.size == b.size else (Fixed(a, "resized"), Fixed(b, "resized"))
    yield from windows(n.x)
    sizes = n.number(3) if n.op_type == "Resize" else None
    if sizes is not None and len(sizes) == n.y.rank and n.opset >= 11:
        yield Counts(Operand(3), n.y.dims)
    elif sizes is None and n.op_type == "Resize" and n.input(3) is not None:
        yield Fixed(n.y[1], "the sizes of a Resize are not known")


@rule("RoiAlign", "MaxRoiPool")
def roi(n: Call) -> Iterator[Fact]:
    """Channels pass; regions become the batch."""
    yield Same(n.x[1], n.y[1])
    others = [t for t in n.inputs[1:] if t is not None]
    yield from (Fixed(dim, f"{n.op_type} takes regions") for t in others for dim in t.dims)
    yield from (Fixed(t[k], f"{n.op_type} takes regions") for t in (n.x, n.y) for k in (0, 2, 3))
