"""How the front of a search and the curves of groups look on a console."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from onnxprune.curves import Sensitivity
from onnxprune.front import Figures, Front, Tried
from onnxprune.report.tables import SHOWN, add, table

__all__ = ["show_front", "show_sensitivity"]

BAR = 12  # characters of the longest bar
COLUMNS = 5  # fractions in a table; the JSON has them all
BLOCKS = " ▏▎▍▌▋▊▉█"


def show_front(console: Console, front: Front, notes: Sequence[str] = ()) -> None:
    """The original, then the trials by what they cost; those on the front of the first budget are marked."""
    timed = any(t.figures is not None and t.figures.latency is not None for t in front.trials)
    shown = table("trial", front.quality, "MACs", "parameters", "bytes", *(["latency"] if timed else []), "front")
    shown.columns[0].no_wrap = True
    if front.original is not None:
        add(shown, "original", *_cells(front.original, timed), "")
    for tried in front.trials:
        cells = ["-"] * (4 + timed) if tried.figures is None else _cells(tried.figures, timed)
        add(shown, _named(tried), *cells, "*" if front.budgets[0] in tried.front else "")
    console.print(shown)
    better = "higher" if front.higher_is_better else "lower"
    console.print(Text(f"{front.quality}: {better} is better; on {front.quality_of}"))
    for tried in front.trials:
        if not tried.met:
            console.print(Text(f"{_named(tried)}: {tried.reason}", style="yellow"))
    for note in (*front.notes, *notes):
        console.print(Text(f"note: {note}", style="yellow"))
    picks = f"{len(front.picks())} of {len(front.trials)} on the front of {front.budgets[0]}"
    console.print(Text(f"written: {front.output}: models, results.json, results.csv ({picks})"))


def _named(tried: Tried) -> str:
    """A trial by the file that came of it, or by what was asked where there is none."""
    return tried.output or f"{tried.target} {tried.allocation} {tried.criterion}"


def _cells(figures: Figures, timed: bool) -> list[str]:
    quality = "-" if figures.quality is None else f"{figures.quality:.4g}"
    latency = "-" if figures.latency is None else f"{figures.latency_ms:.3f} ms ({figures.latency:.2f})"
    return [quality, f"{figures.macs:,}", f"{figures.params:,}", f"{figures.size:,}", *([latency] if timed else [])]


def show_sensitivity(console: Console, found: Sensitivity, notes: Sequence[str] = ()) -> None:
    """The groups from the most to the least sensitive, with the loss at each fraction removed."""
    every = -(-len(found.ratios) // COLUMNS)
    ratios = found.ratios[every // 2 :: every]
    shown = table("group", "size", "mean loss", "", *(f"{ratio:g}" for ratio in ratios))
    shown.columns[3].no_wrap = True
    ranked = found.ranked()
    most = ranked[0].mean if ranked else 0.0
    for group in ranked[:SHOWN]:
        losses = [f"{point.loss:.2g}" for point in group.points if point.asked in ratios]
        add(shown, group.name, str(group.size), f"{group.mean:.3g}", bar(group.mean, most), *losses)
    if len(ranked) > SHOWN:
        add(shown, f"{len(ranked) - SHOWN} more, see --json", *[""] * (3 + len(ratios)))
    console.print(shown)
    data = f"{found.samples} samples of {found.of}" if found.samples else found.of
    what = f"loss: {found.measure}, when one group alone loses this fraction of its indices, by {found.criterion}"
    console.print(Text(f"{what}; on {data}"))
    for note in (*found.notes, *notes):
        console.print(Text(f"note: {note}", style="yellow"))


def bar(value: float, most: float) -> str:
    """A bar as long as `value` is of `most`, in eighths of a character."""
    eighths = round(8 * BAR * max(value, 0.0) / most) if most > 0 else 0
    return BLOCKS[8] * (eighths // 8) + (BLOCKS[eighths % 8] if eighths % 8 else "")
