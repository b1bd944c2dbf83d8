"""What a run has to meet: budgets that may not be exceeded, and a metric that may not be lost."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite

from onnxprune.errors import UsageError

__all__ = ["AIMED_TOLERANCE", "BUDGETS", "MEASURED_TOLERANCE", "Bound", "Gate", "Targets"]

_TIME = {"us": 1e-3, "ms": 1.0, "s": 1e3}  # in milliseconds
_BYTES = {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_NUMBER = {"K": 1e3, "M": 1e6, "G": 1e9}

BUDGETS: Mapping[str, Mapping[str, float]] = {
    "macs": _NUMBER, "params": _NUMBER, "size": _BYTES, "memory": _BYTES, "latency": _TIME, "sparsity": {}
}  # fmt: skip
"""By budget, the units in which an amount of it can be asked for: multiples of one, a byte, a millisecond."""

_VALUE = re.compile(r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z%]*)")
_METRIC = re.compile(r"metric(-drop)?\s*(>=|<=|=)\s*(.+)")
MEASURED_TOLERANCE = 0.05  # how far below its target a measured latency may end, as a share of the target
AIMED_TOLERANCE = 0.03  # how far below is aimed at: measured again, the same model takes a percent more or less


@dataclass(frozen=True, slots=True)
class Bound:
    """At most so much of a budget: `amount` in its own unit (bytes, milliseconds, numbers), or `share` of the original.

    Of `sparsity`, which counts what goes, `share` is what may stay, as of all others.
    """

    text: str
    budget: str
    share: float | None = None
    amount: float | None = None

    def of(self, whole: float) -> float:
        """The share of the original that may stay, which costs `whole`: at most 1."""
        if self.share is not None:
            return self.share
        assert self.amount is not None
        return min(self.amount / whole, 1.0) if whole else 1.0


@dataclass(frozen=True, slots=True)
class Gate:
    """What the metric of an evaluation has to be: at least or at most `value`, or no further than that from before.

    `relative` is true of a drop that is a share of the original's metric.
    """

    text: str
    kind: str  # ">=", "<=" or "drop"
    value: float
    relative: bool = False

    def holds(self, before: float, after: float) -> bool:
        """Whether a metric that was `before` may be `after`; a drop counts whichever way is worse, by its sign.

        A metric is taken to be better the larger it is, but for a gate of the kind `<=`.
        """
        if self.kind == ">=":
            return after >= self.value
        if self.kind == "<=":
            return after <= self.value
        return before - after <= self.value * (abs(before) if self.relative else 1.0)


@dataclass(frozen=True)
class Targets:
    """All that was asked for, by `--target`: a bound for each budget, and a gate for the metric."""

    bounds: Mapping[str, Bound] = field(default_factory=dict)
    gate: Gate | None = None

    @staticmethod
    def parse(texts: Iterable[str]) -> Targets:
        """From what a user writes: `macs=0.5`, `latency=4ms`, `size=2MB`, `metric>=0.9`, `metric-drop<=1%`.

        `UsageError` for what is none of these, and for a budget that is named twice.
        """
        bounds: dict[str, Bound] = {}
        gate = None
        for text in texts:
            if text.strip().startswith("metric"):
                if gate is not None:
                    raise UsageError(f"--target names the metric twice: {gate.text} and {text}; give one of them")
                gate = _gate(text)
                continue
            bound = _bound(text)
            if bound.budget in bounds:
                first = bounds[bound.budget].text
                raise UsageError(f"--target names {bound.budget} twice: {first} and {text}; give one of them")
            bounds[bound.budget] = bound
        return Targets(bounds, gate)

    @property
    def only_metric(self) -> bool:
        """Whether no budget is bounded: then the run is to be as fast as the metric allows."""
        return self.gate is not None and not self.bounds

    @property
    def needs_latency(self) -> bool:
        """Whether somebody has to know what time is spent where."""
        return "latency" in self.bounds or self.only_metric


def _bound(text: str) -> Bound:
    budget, _, written = (part.strip() for part in text.partition("="))
    found = _VALUE.fullmatch(written)
    units = BUDGETS.get(budget)
    if units is None or found is None:
        raise UsageError(
            f"--target {text!r}: expected a budget ({', '.join(BUDGETS)}) and how much of it may stay, such as "
            "macs=0.5, latency=4ms or size=2MB; or metric>=0.9 or metric-drop<=1%"
        )
    value, unit = float(found[1]), found[2]
    if not unit or unit == "%":
        share = value / 100 if unit else value
        if budget == "sparsity":
            if not 0 < share < 1:
                raise UsageError(f"--target {text!r}: expected the fraction to remove, above 0 and below 1")
            return Bound(text, budget, share=1 - share)
        if not 0 < share <= 1:
            known = f"; an amount has a unit: {', '.join(_shown(units))}" if units else ""
            raise UsageError(
                f"--target {text!r}: expected the fraction of the original that may stay, above 0 and at most 1{known}"
            )
        return Bound(text, budget, share=share)
    factor = {name.lower(): factor for name, factor in units.items()}.get(unit.lower())
    if factor is None:
        known = ", ".join(_shown(units)) or "none"
        raise UsageError(f"--target {text!r}: {budget} has no unit {unit!r}; it has {known}")
    if not value > 0 or not isfinite(value):
        raise UsageError(f"--target {text!r}: expected an amount above 0")
    return Bound(text, budget, amount=value * factor)


def _shown(units: Mapping[str, float]) -> Iterable[str]:
    return (unit.replace("IB", "iB") for unit in units)


def _gate(text: str) -> Gate:
    found = _METRIC.fullmatch(text.strip())
    value = _VALUE.fullmatch(found[3].strip()) if found else None
    kind = None
    if found and value and value[2] in ("", "%"):
        kind = {"": {">=": ">=", "=": ">=", "<=": "<="}, "-drop": {"<=": "drop", "=": "drop"}}[found[1] or ""].get(
            found[2]
        )
    if kind is None or value is None:
        raise UsageError(f"--target {text!r}: expected metric>=0.9, metric<=12.5 or metric-drop<=1%")
    relative = bool(value[2]) and kind == "drop"
    return Gate(text, kind, float(value[1]) / (100 if value[2] else 1), relative)
