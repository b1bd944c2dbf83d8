"""The report: one frozen value with flat, stable names, the same in `--json`, in Python and on the console.

For equal input two reports are equal, except for what is measured: the keys in `MEASURED`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["MEASURED", "SCHEMA_VERSION", "FixedAxis", "GroupReport", "Report"]

SCHEMA_VERSION = 1
MEASURED = ("latency_before_ms", "latency_after_ms", "speedup", "speedup_ci", "latency_note", "machine", "seconds")


@dataclass(frozen=True, slots=True)
class GroupReport:
    """One group: `kept` of `size` indices stay; `sites` are its weights' axes, as `tensor[axis]`."""

    name: str
    size: int
    kept: int
    sites: tuple[str, ...]
    criterion: str


@dataclass(frozen=True, slots=True)
class FixedAxis:
    """An axis of a weight that was left alone, wholly or in part, and the node that is the reason."""

    tensor: str
    axis: int
    reason: str
    node: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was done to a model. Sizes in bytes, latencies in milliseconds, `sparsity` the share of weights removed.

    A value is None where nothing was measured: no evaluation, no timing, no verification yet.
    """

    schema_version: int = SCHEMA_VERSION
    onnxprune_version: str = ""
    model: str = ""
    output: str | None = None
    pipeline: tuple[Mapping[str, Any], ...] = ()
    groups: tuple[GroupReport, ...] = ()
    fixed: tuple[FixedAxis, ...] = ()
    params_before: int = 0
    params_after: int = 0
    nonzero_before: int = 0
    nonzero_after: int = 0
    macs_before: int = 0
    macs_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    sparsity: float = 0.0
    verified: bool = False
    max_error: float | None = None
    verified_inputs: int = 0
    reconstruction_error: float | None = None
    metric: str | None = None
    metric_before: float | None = None
    metric_after: float | None = None
    metrics: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    targets_met: bool = True
    latency_before_ms: float | None = None
    latency_after_ms: float | None = None
    speedup: float | None = None
    speedup_ci: tuple[float, float] | None = None
    latency_note: str | None = None
    machine: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    def to_json(self, measured: bool = True) -> str:
        """The report as JSON with sorted lists as they are; without `measured`, equal input gives equal bytes."""
        values = {k: v for k, v in asdict(self).items() if measured or k not in MEASURED}
        return json.dumps(_finite(values), indent=2, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    """JSON has no infinity: a number that is none becomes null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value
