"""The front of a search: what was tried, what it costs and what it is worth, and what no other trial beats.

A trial is on the front of a cost if every other one, and the original, costs more or is worth less.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import Any

from onnxprune.jsontext import json_text

__all__ = ["COSTS", "SCHEMA_VERSION", "Figures", "Front", "Tried", "pareto"]

SCHEMA_VERSION = 1
COSTS = ("latency", "macs", "params", "size")


@dataclass(frozen=True, slots=True)
class Figures:
    """What a model costs and is worth: numbers, MACs of one sample, bytes, milliseconds.

    `latency` is the share of the original's, measured side by side; it compares across trials where milliseconds of
    different hours do not. What was not measured is None.
    """

    params: int
    macs: int
    size: int
    quality: float | None = None
    latency: float | None = None
    latency_ms: float | None = None

    def cost(self, budget: str) -> float | None:
        """How much of a budget it is; None where that was not measured."""
        value: float | None = getattr(self, budget)
        return value


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial: what was asked, and the model that came of it in the file `output`, or why there is none.

    `met` is false where the target was missed, `front` names the costs on whose front it is.
    """

    name: str
    target: str
    allocation: str
    criterion: str
    met: bool
    reason: str = ""
    output: str | None = None
    figures: Figures | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    front: tuple[str, ...] = ()


@dataclass(frozen=True)
class Front:
    """Every trial that is finished, of `asked` in all, with the original to compare with (None before the first).

    `quality` names what a model is judged by and `quality_of` says on what; `higher_is_better` is true of an accuracy
    and false of a divergence. `budgets` are those that trials were given targets of, the first being that of plots.
    """

    model: str
    output: str
    budgets: tuple[str, ...]
    quality: str
    quality_of: str
    higher_is_better: bool
    original: Figures | None
    trials: tuple[Tried, ...]
    asked: int
    notes: tuple[str, ...] = ()

    def marked(self) -> Front:
        """The front with its trials told, for each cost, whether they are on it; by ascending cost."""
        on: dict[str, set[str]] = {}
        for budget in COSTS:
            points = {t.name: t.figures for t in self.trials if t.figures is not None and t.output is not None}
            rivals = {**points, **({} if self.original is None else {"": self.original})}
            on[budget] = pareto(rivals, budget, self.higher_is_better)
        trials = [replace(t, front=tuple(b for b in COSTS if t.name in on[b])) for t in self.trials]
        first = self.budgets[0]
        trials.sort(key=lambda t: ((_cost(t, first) is None), -(_cost(t, first) or 0.0), t.name))
        return replace(self, trials=tuple(trials))

    def picks(self, budget: str | None = None) -> tuple[Tried, ...]:
        """The trials on the front of a cost (the first budget's), from the most expensive to the cheapest."""
        return tuple(t for t in self.trials if (budget or self.budgets[0]) in t.front)

    def to_json(self) -> str:
        """The front as JSON."""
        return json_text({"schema_version": SCHEMA_VERSION, **asdict(self)})

    def to_csv(self) -> str:
        """One row for each trial, after one for the original."""
        rows: list[dict[str, Any]] = []
        if self.original is not None:
            rows.append({"name": "original", "met": True, **asdict(self.original)})
        for tried in self.trials:
            row = {k: v for k, v in asdict(tried).items() if k not in ("figures", "metrics")}
            figures = {} if tried.figures is None else asdict(tried.figures)
            rows.append({**row, "front": " ".join(tried.front), **figures})
        columns = ["name", "target", "allocation", "criterion", "met", "front", "quality", *COSTS, "latency_ms",
                   "seconds", "output", "reason"]  # fmt: skip
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def pareto(figures: Mapping[str, Figures], budget: str, higher_is_better: bool) -> set[str]:
    """The names of those that no other beats: of equal ones the first."""
    known = [
        (cost, -quality if higher_is_better else quality, name)
        for name, (cost, quality) in ((n, (f.cost(budget), f.quality)) for n, f in figures.items())
        if cost is not None and quality is not None and isfinite(quality)
    ]
    found, best = set(), float("inf")
    for _, loss, name in sorted(known, key=lambda point: point[:2]):
        if loss < best:
            best = loss
            found.add(name)
    return found


def _cost(tried: Tried, budget: str) -> float | None:
    return None if tried.figures is None else tried.figures.cost(budget)
