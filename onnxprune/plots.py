"""Plots of a front and of curves as the bytes of a file, where matplotlib is installed; no display is needed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxprune.errors import UsageError

if TYPE_CHECKING:
    from onnxprune.curves import Sensitivity
    from onnxprune.front import Front

__all__ = ["FORMS", "REMEDY", "check_plot", "draw_curves", "draw_front", "drawable"]

FORMS = ("svg", "png", "pdf")
REMEDY = "a plot needs matplotlib, which is not installed: pip install 'onnxprune[plots]'"
LABELS = {"latency": "latency, of the original's", "macs": "MACs", "params": "parameters", "size": "bytes"}
MOST = 12  # curves in one plot: those that lose most


def drawable() -> bool:
    """Whether there is anything to draw with."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def check_plot(path: str) -> str:
    """The form of a plot that is asked for by the name of its file; `UsageError` where it cannot be made."""
    form = Path(path).suffix.lower().removeprefix(".")
    if form not in FORMS:
        raise UsageError(f"--plot {path!r}: expected a file name that ends in {', '.join(f'.{f}' for f in FORMS)}")
    if not drawable():
        raise UsageError(REMEDY)
    return form


def draw_front(front: Front, form: str) -> bytes | None:
    """Quality against the cost of the first budget, with the front as a line; None without matplotlib."""
    if not drawable():
        return None
    figure, axes = _axes()
    budget = front.budgets[0]
    points = [
        (t.figures.cost(budget), t.figures.quality, t) for t in front.trials if t.figures is not None and t.output
    ]
    known = [(cost, quality, tried) for cost, quality, tried in points if cost is not None and quality is not None]
    for allocation in sorted({tried.allocation for *_, tried in known}):
        own = [(cost, quality) for cost, quality, tried in known if tried.allocation == allocation]
        axes.scatter(*zip(*own, strict=True), label=allocation, s=22, zorder=3)
    line = [(cost, quality) for cost, quality, tried in known if budget in tried.front]
    if front.original is not None:
        start = front.original.cost(budget), front.original.quality
        if None not in start:
            axes.scatter([start[0]], [start[1]], marker="*", s=90, color="black", label="original", zorder=3)
    if line:
        axes.plot(*zip(*sorted(line), strict=True), color="grey", linewidth=1, zorder=2, label="front")
    axes.set_xlabel(LABELS[budget])
    axes.set_ylabel(front.quality)
    axes.set_title(Path(front.model).name)
    if known:
        axes.legend(frameon=False)
    return _saved(figure, form)


def draw_curves(found: Sensitivity, form: str) -> bytes:
    """The loss of each group alone against the fraction removed; `UsageError` without matplotlib."""
    if not drawable():
        raise UsageError(REMEDY)
    figure, axes = _axes()
    for group in found.ranked()[:MOST]:
        axes.plot(*zip((0.0, 0.0), *((p.removed, p.loss) for p in group.points), strict=True), marker=".",
                  label=group.name)  # fmt: skip
    axes.set_xlabel("fraction removed")
    axes.set_ylabel(found.measure)
    axes.set_title(Path(found.model).name)
    if found.groups:
        axes.legend(frameon=False, fontsize="x-small")
    return _saved(figure, form)


def _axes() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    return figure, axes


def _saved(figure: Any, form: str) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format=form, dpi=150)
    return data.getvalue()
