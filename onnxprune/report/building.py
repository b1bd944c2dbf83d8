"""From a finished run, or from an analysis alone, to what is reported of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from onnxprune.cost import Costs
from onnxprune.dependency import Analysis, Group, ProbedNode, analyse
from onnxprune.jsontext import json_text
from onnxprune.model import Model
from onnxprune.report.report import (
    SCHEMA_VERSION,
    BranchReport,
    FixedAxis,
    GroupReport,
    MaskReport,
    ReorderReport,
    RepairReport,
    Report,
    UnrepairedReport,
)
from onnxprune.runtime.machine import this_machine
from onnxprune.sparsity import LayerSparsity, sparsity_of
from onnxprune.unit import Unit
from onnxprune.weights import nonzeros, parameters

__all__ = ["GroupCost", "Inspection", "inspection_of", "report_of"]


@dataclass(frozen=True, slots=True)
class GroupCost:
    """A group that could be pruned, and the parameters and MACs that go when all of it goes.

    Where `exact` is false, it is open only because that was asked for.
    """

    name: str
    size: int
    sites: tuple[str, ...]
    params: int
    macs: int
    kind: str = "channel"
    exact: bool = True


@dataclass(frozen=True)
class Inspection:
    """What could be pruned in a model and what could not; `sizes` are the example sizes of symbolic dimensions."""

    model: str
    nodes: int
    params: int
    macs: int
    bytes: int
    sizes: Mapping[str, int]
    groups: tuple[GroupCost, ...]
    fixed: tuple[FixedAxis, ...]
    probed: tuple[ProbedNode, ...] = ()
    sparsity: tuple[LayerSparsity, ...] = ()

    def to_json(self) -> str:
        """The inspection as JSON."""
        return json_text({"schema_version": SCHEMA_VERSION, **asdict(self)})


def inspection_of(analysis: Analysis, sparsity: bool = False) -> Inspection:
    """Inspect an analysed model; with `sparsity`, count zeros and which N:M holds in each layer."""
    costs = Costs.of(analysis)
    groups = []
    for group in analysis.groups:
        due = costs.due_to(group.atom.id)
        exact = group.atom.id not in analysis.inexact
        groups.append(
            GroupCost(group.name, group.size, _sites(group), int(due["params"]), int(due["macs"]), group.kind, exact)
        )
    model = analysis.model
    return Inspection(
        model.source, len(model.nodes), parameters(model), costs.macs(), model.size_bytes, analysis.shapes.sizes,
        tuple(groups), _fixed(analysis),
        analysis.probed_nodes,
        sparsity_of(analysis) if sparsity else (),
    )  # fmt: skip


def report_of(unit: Unit, written: Model, output: str | None) -> Report:
    """The report of a finished run; `written` is the model as it was (or would be) written to `output`."""
    analysis, plan, verdict, allocation = unit.analysis, unit.plan, unit.verdict, unit.allocation
    assert analysis is not None
    assert plan is not None
    costs = Costs.of(analysis)
    stripped = unit.stripped
    kept = plan if stripped is None else stripped.plan
    before, after = parameters(unit.source), parameters(written)
    blamed = tuple(
        FixedAxis(s.tensor, s.axis, "verification", "verify")
        for g in analysis.groups if g.atom.id in unit.faults for s in g.sites
    )  # fmt: skip
    evaluation = unit.evaluation
    metrics = {} if evaluation is None else {k: (v, evaluation.after[k]) for k, v in evaluation.before.items()}
    main = next(iter(metrics), None)
    return Report(
        onnxprune_version=installed_version(),
        model=unit.source.source,
        output=output,
        pipeline=tuple({"use": name, **options} for name, options in unit.options),
        groups=tuple(
            GroupReport(g.name, g.size, kept.kept(g), _sites(g), _criterion(unit, g), g.kind) for g in analysis.groups
        ),
        fixed=(*_fixed(analysis), *blamed),
        probed=analysis.probed_nodes,
        branches=tuple(BranchReport(b.name, b.node, b.effect, b.dropped) for b in unit.branches),
        masks=_masks(unit),
        reordered=_reordered(unit),
        weights_updated=unit.masking is not None and unit.masking.updated,
        params_before=before,
        params_after=after,
        nonzero_before=nonzeros(unit.source),
        nonzero_after=nonzeros(written),
        macs_before=costs.macs(),
        macs_after=_macs_after(unit, costs, written),
        bytes_before=unit.source.size_bytes,
        bytes_after=written.size_bytes,
        sparsity=1 - after / before if before else 0.0,
        removed=None if stripped is None else dict(stripped.removed),
        left=None if stripped is None else dict(stripped.left),
        verified=verdict is not None and verdict.passed and verdict.exact,
        exact=verdict is None or verdict.exact,
        **_change(unit),
        max_error=None if verdict is None else verdict.max_error,
        verified_inputs=0 if verdict is None else verdict.inputs,
        verified_batches=() if verdict is None else verdict.batches,
        **_recovery(unit),
        metric=main,
        metric_before=None if main is None else metrics[main][0],
        metric_after=None if main is None else metrics[main][1],
        metrics=metrics,
        notes=unit.notes if allocation is None or not allocation.reason else (*unit.notes, allocation.reason),
        targets=unit.targets,
        targets_met=allocation is None or allocation.met,
        machine=str(this_machine()),
        seconds=dict(unit.seconds),
        **_latency(unit),
    )


def _change(unit: Unit) -> dict[str, Any]:
    """How far the outputs of a model that is not exact are from the original's: on held-out samples, where a repair was
    judged by some, for the random inputs of a verification say little of one that was fitted to real ones.
    """
    if unit.verdict is None or unit.verdict.change is None:
        return {}
    held_out = None if unit.recovery is None else unit.recovery.left_with
    found = held_out or unit.verdict.change
    on = "the inputs of the verification" if held_out is None else "held-out samples"
    return {"output_change": found.relative, "output_divergence": found.divergence, "output_change_on": on}


def _macs_after(unit: Unit, costs: Costs, written: Model) -> int:
    """What the written model costs, at the sizes of the original."""
    assert unit.analysis is not None
    assert unit.plan is not None
    if unit.stripped is not None:
        return Costs.of(unit.stripped.analysis).macs()
    if any(branch.dropped for branch in unit.branches):
        return Costs.of(analyse(written, unit.analysis.shapes.sizes, prober=unit.analysis.prober)).macs()
    return costs.macs(unit.plan.counts)


def _reordered(unit: Unit) -> ReorderReport | None:
    found = unit.reordering
    if found is None or not found.magnitude:
        return None
    lost = (found.lost_before, found.lost_after, found.unstructured)
    return ReorderReport(len(found.orders), *(part / found.magnitude for part in lost))


def _masks(unit: Unit) -> tuple[MaskReport, ...]:
    if unit.masking is None:
        return ()
    form = unit.masking.granularity.text
    return tuple(
        MaskReport(w.weight, w.layers, w.op_type, form, w.asked, w.sparsity, w.numbers,
                   w.nonzero_before, w.nonzero_after, w.why_not) for w in unit.masking.weights
    )  # fmt: skip


def _recovery(unit: Unit) -> dict[str, Any]:
    found = unit.recovery
    if found is None or not found.taken:
        return {}
    joint = None if found.together is None else found.together.joint
    return {
        "recovery": found.method,
        "repairs": tuple(RepairReport(r.layer, r.before, r.after, r.kept) for r in found.repairs),
        "unrepaired": tuple(UnrepairedReport(*pair) for pair in found.left.items()),
        "folded": found.folded,
        "reconstruction_error_before": None if found.before is None else found.before.relative,
        "reconstruction_error": None if found.after is None else found.after.relative,
        "joint_error_before": None if joint is None else joint.before,
        "joint_error_after": None if joint is None else min(joint.after, joint.before),
    }


def _latency(unit: Unit) -> dict[str, Any]:
    if unit.timing is None:
        return {}
    pair = unit.timing.pairs[0]
    return {
        "latency_before_ms": unit.timing.models[0].latency_ms,
        "latency_after_ms": unit.timing.models[1].latency_ms,
        "speedup": pair.speedup,
        "speedup_ci": pair.speedup_ci,
        "speedup_significant": pair.significant,
        "latency_note": pair.why,
    }


def _criterion(unit: Unit, group: Group) -> str:
    return "" if unit.scores is None else unit.scores.by.get(group.atom.id, "")


def _fixed(analysis: Analysis) -> tuple[FixedAxis, ...]:
    return tuple(FixedAxis(r.tensor, r.axis, r.reason, r.node) for r in analysis.refusals)


def _sites(group: Group) -> tuple[str, ...]:
    return tuple(f"{site.tensor}[{site.axis}]" for site in group.sites)


def installed_version() -> str:
    """The version of onnxprune; empty where it runs from a checkout that is not installed."""
    try:
        return version("onnxprune")
    except PackageNotFoundError:
        return ""
