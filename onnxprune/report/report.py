"""The report: one frozen value with flat, stable names, the same in `--json`, in Python and on the console.

For equal input two reports are equal, except for what is measured: the keys in `MEASURED`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from onnxprune.dependency import ProbedNode
from onnxprune.jsontext import json_text

__all__ = [
    "MEASURED",
    "SCHEMA_VERSION",
    "BranchReport",
    "FixedAxis",
    "GroupReport",
    "MaskReport",
    "ReorderReport",
    "RepairReport",
    "Report",
    "UnrepairedReport",
]

SCHEMA_VERSION = 1
MEASURED = (
    "latency_before_ms",
    "latency_after_ms",
    "speedup",
    "speedup_ci",
    "speedup_significant",
    "latency_note",
    "machine",
    "seconds",
)


@dataclass(frozen=True, slots=True)
class GroupReport:
    """One group: `kept` of `size` indices stay; `sites` are its weights' axes, as `tensor[axis]`."""

    name: str
    size: int
    kept: int
    sites: tuple[str, ...]
    criterion: str
    kind: str = "channel"


@dataclass(frozen=True, slots=True)
class BranchReport:
    """A residual branch into the Add `node`: its effect by the criterion, and whether it was dropped."""

    name: str
    node: str
    effect: float
    dropped: bool


@dataclass(frozen=True, slots=True)
class MaskReport:
    """One weight that was to be masked: the share of zeros asked for and reached, and its numbers that are not zero.

    `layers` are the nodes that multiply with it; `why_not` says why it was left whole, and is empty where it was not.
    """

    weight: str
    layers: tuple[str, ...]
    op_type: str
    granularity: str
    asked: float
    sparsity: float
    numbers: int
    nonzero_before: int
    nonzero_after: int
    why_not: str


@dataclass(frozen=True, slots=True)
class ReorderReport:
    """How many groups got another order for N:M, and shares of the magnitude of the masked layers that the mask takes.

    Without and with the orders, and what as many single weights would take: the least that there can be.
    """

    groups: int
    lost_before: float
    lost_after: float
    lost_unstructured: float


@dataclass(frozen=True, slots=True)
class RepairReport:
    """A layer that was refitted: its error on held-out samples, as a share of its outputs' energy, before and after."""

    layer: str
    before: float
    after: float
    kept: bool


@dataclass(frozen=True, slots=True)
class UnrepairedReport:
    """A layer that pruning has changed and that cannot be refitted, and why."""

    layer: str
    reason: str


@dataclass(frozen=True, slots=True)
class FixedAxis:
    """An axis of a weight that was left alone, wholly or in part, and the node (or graph input or output) behind it."""

    tensor: str
    axis: int
    reason: str
    node: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was done to a model. Sizes in bytes, latencies in milliseconds, MACs of one sample.

    `sparsity` is the share of weights removed. Of a lossless run, `removed` counts by kind what was dead (see
    `onnxprune.lossless.Shrunk`) and `left` the constant indices that stay, by reason. `targets` holds what was asked
    and what was reached, by budget. `masks` are the weights of a masked model, as they were before what died went, and
    `weights_updated` says that weights that stay were changed, too: then `verified` is about these. `speedup` is the
    latency before over after: below 1 the model became slower, and only where `speedup_significant` is the difference
    more than chance. A value is None where nothing was measured: no evaluation, no timing. `probed` are nodes without a
    rule of which a run alone told what they carry.

    `recovery` is the repair that was made; `reconstruction_error` is the relative error of the outputs on samples that
    took no part in it, `reconstruction_error_before` the same without it; `folded` counts indices that were merged.
    Where all layers were refitted together, `joint_error_before` and `joint_error_after` are the mean relative squared
    error of what layers read there, without and with that.

    `exact` is false where something was done, on request, that silencing cannot tell of; then `verified` is false, too,
    `max_error` is that of the exact part, `output_change` the relative change of the outputs (their root mean square)
    and `output_divergence` the Kullback-Leibler divergence of what could be scores, both against the original, on what
    `output_change_on` says: held-out samples after a repair, else the inputs of the verification.
    """

    schema_version: int = SCHEMA_VERSION
    onnxprune_version: str = ""
    model: str = ""
    output: str | None = None
    pipeline: tuple[Mapping[str, Any], ...] = ()
    groups: tuple[GroupReport, ...] = ()
    fixed: tuple[FixedAxis, ...] = ()
    probed: tuple[ProbedNode, ...] = ()
    branches: tuple[BranchReport, ...] = ()
    masks: tuple[MaskReport, ...] = ()
    weights_updated: bool = False
    reordered: ReorderReport | None = None
    params_before: int = 0
    params_after: int = 0
    nonzero_before: int = 0
    nonzero_after: int = 0
    macs_before: int = 0
    macs_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    sparsity: float = 0.0
    removed: Mapping[str, int] | None = None
    left: Mapping[str, int] | None = None
    verified: bool = False
    exact: bool = True
    output_change: float | None = None
    output_divergence: float | None = None
    output_change_on: str | None = None
    max_error: float | None = None
    verified_inputs: int = 0
    verified_batches: tuple[int, ...] = ()
    recovery: str | None = None
    repairs: tuple[RepairReport, ...] = ()
    unrepaired: tuple[UnrepairedReport, ...] = ()
    folded: int = 0
    reconstruction_error_before: float | None = None
    reconstruction_error: float | None = None
    joint_error_before: float | None = None
    joint_error_after: float | None = None
    metric: str | None = None
    metric_before: float | None = None
    metric_after: float | None = None
    metrics: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    targets: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    targets_met: bool = True
    latency_before_ms: float | None = None
    latency_after_ms: float | None = None
    speedup: float | None = None
    speedup_ci: tuple[float, float] | None = None
    speedup_significant: bool | None = None
    latency_note: str | None = None
    machine: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    def to_json(self, measured: bool = True) -> str:
        """The report as JSON; without `measured`, equal input gives equal bytes."""
        return json_text({k: v for k, v in asdict(self).items() if measured or k not in MEASURED})
