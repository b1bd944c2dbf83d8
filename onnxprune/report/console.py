"""How reports look on a console: a few readable tables, nothing that a narrow terminal breaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from os.path import commonpath
from pathlib import PurePath

from rich.console import Console
from rich.table import Table
from rich.text import Text

from onnxprune.benchmark import Bench
from onnxprune.probing import said
from onnxprune.report.building import Inspection
from onnxprune.report.removed import show_removed
from onnxprune.report.report import FixedAxis, Report
from onnxprune.report.tables import SHOWN
from onnxprune.report.tables import add as _add
from onnxprune.report.tables import table as _table
from onnxprune.verification import Verdict

__all__ = ["show_bench", "show_inspection", "show_report", "show_verdict"]


def show_report(console: Console, report: Report) -> None:
    """The result of a run: what it weighs and costs before and after, what was cut, what was left alone."""
    if report.branches:
        _show_branches(console, report)
    elif report.masks:
        _show_masks(console, report)
    elif report.removed is None:
        _show_groups(console, report)
    else:
        show_removed(console, report)
    table = _table("", "before", "after", "ratio")
    _row(table, "parameters", report.params_before, report.params_after, _asked(report, "params"))
    if report.masks:
        _row(table, "parameters not zero", report.nonzero_before, report.nonzero_after)
    _row(table, "MACs (batch 1)", report.macs_before, report.macs_after, _asked(report, "macs"))
    _row(table, "bytes", report.bytes_before, report.bytes_after, _asked(report, "size"))
    if "memory" in report.targets:
        asked, reached = report.targets["memory"]
        table.add_row("memory", "", "", f"{reached:.3f} ({asked:.4g} asked)")
    if "sparsity" in report.targets:
        asked, reached = report.targets["sparsity"]
        table.add_row(
            "masked weights set to zero" if report.masks else "indices removed",
            "",
            "",
            f"{reached:.3f} ({asked:.4g} asked)",
        )
    if report.latency_before_ms is not None and report.latency_after_ms is not None:
        before, after = report.latency_before_ms, report.latency_after_ms
        asked_for = f" ({report.targets['latency'][0]:.4g} of it asked)" if "latency" in report.targets else ""
        table.add_row("latency", f"{before:.3f} ms", f"{after:.3f} ms", _speed(report) + asked_for)
    for name, (before, after) in report.metrics.items():
        table.add_row(name, f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}")
    console.print(table)
    if report.verified:
        pair = "original and result" if report.removed is not None and not report.masks else "masked and pruned model"
        console.print(
            f"verified: {pair} agree on {report.verified_inputs} inputs "
            f"(batch {_and(report.verified_batches)}), largest relative error {report.max_error:.1e}"
        )
    if not report.exact:
        said = _inexact(report.output_change, report.output_divergence, report.output_change_on)
        console.print(Text(said, style="yellow"))
    for note in report.notes:
        console.print(Text(f"note: {note}", style="yellow"))
    left = [f for f in report.fixed if f.reason == "verification"]
    if left:
        console.print(Text(f"left whole, because pruning them could not be verified: {_names(left)}", style="yellow"))
    if report.latency_note is not None:
        console.print(Text("; ".join(filter(None, (f"latency: {report.latency_note}", report.machine)))))
    if report.output is not None:
        console.print(Text(f"written: {report.output}"))


def _inexact(change: float | None, divergence: float | None, on: str | None = None) -> str:
    """What is said of a model that is not, and was not meant to be, the masked original."""
    diverged = "" if divergence is None else f" (as scores, by a KL divergence of {divergence:.2g})"
    where = "" if on is None else f" on {on}"
    found = "" if change is None else f": the outputs differ from the original's by {change:.1%}{where}{diverged}"
    return f"not exact, as was asked: nobody claims that this model is the masked original{found}"


def _asked(report: Report, budget: str) -> str:
    return f" ({report.targets[budget][0]:.4g} asked)" if budget in report.targets else ""


def _speed(report: Report) -> str:
    """What happened to the latency, claimed only where it is more than chance."""
    if report.speedup is None or report.speedup_ci is None:
        return ""
    speedup, (low, high), word = report.speedup, report.speedup_ci, "faster"
    if speedup < 1:
        speedup, low, high, word = 1 / speedup, 1 / high, 1 / low, "slower"
    claim = f"{speedup:.2f}x {word} ({low:.2f} to {high:.2f})"
    return claim if report.speedup_significant else f"not sure: {claim}"


def _show_branches(console: Console, report: Report) -> None:
    table = _table("residual branch", "effect", "")
    for branch in sorted(report.branches, key=lambda b: b.effect)[:SHOWN]:
        _add(table, branch.name, f"{branch.effect:.2g}", "dropped" if branch.dropped else "")
    if len(report.branches) > SHOWN:
        table.add_row(f"{len(report.branches) - SHOWN} more, see --json", "", "")
    console.print(table)


def _show_masks(console: Console, report: Report) -> None:
    masked = [mask for mask in report.masks if not mask.why_not]
    table = _table("weight", "operator", "form", "numbers", "not zero", "zero", "asked")
    for mask in masked[:SHOWN]:
        _add(table, mask.weight, mask.op_type, mask.granularity, f"{mask.numbers:,}", f"{mask.nonzero_after:,}",
             f"{mask.sparsity:.1%}", f"{mask.asked:.1%}")  # fmt: skip
    if len(masked) > SHOWN:
        table.add_row(f"{len(masked) - SHOWN} more, see --json", *[""] * 6)
    console.print(table)
    found = report.reordered
    if found is not None and found.groups:
        console.print(
            f"channels of {_count(found.groups, 'group')} reordered first: the mask takes {found.lost_after:.2%} "
            f"of the magnitude, without {found.lost_before:.2%} (single weights at best {found.lost_unstructured:.2%})"
        )
    if report.removed:
        show_removed(console, report)


def _show_groups(console: Console, report: Report) -> None:
    cut = [g for g in report.groups if g.kept < g.size]
    whole = len(report.groups) - len(cut)
    if not report.groups:
        console.print("nothing can be pruned: every dimension of the model is fixed ('onnxprune inspect' says by what)")
        return
    table = _table("group", "kept", "of", "weights")
    for group in cut[:SHOWN]:
        _add(table, group.name, str(group.kept), str(group.size), _short(group.sites))
    if len(cut) > SHOWN:
        table.add_row(f"{len(cut) - SHOWN} more, see --json", "", "", "")
    if whole:
        table.add_row(_count(whole, "group") if cut else "all groups", "all", "", "")
    console.print(table)


def show_inspection(console: Console, inspection: Inspection) -> None:
    """Groups with their costs, then everything that is fixed, by reason."""
    console.print(
        Text(
            f"{inspection.model}: {_count(inspection.nodes, 'node')}, {inspection.params:,} parameters, "
            f"{inspection.macs:,} MACs (batch 1), {inspection.bytes:,} bytes"
        )
    )
    if inspection.sizes:
        sizes = ", ".join(f"{name}={size}" for name, size in inspection.sizes.items())
        console.print(Text(f"example sizes of symbolic dimensions: {sizes}"))
    if inspection.groups:
        table = _table("group", "kind", "size", "parameters", "MACs", "cuts")
        for group in inspection.groups:
            params, macs = _share(group.params, inspection.params), _share(group.macs, inspection.macs)
            kind = group.kind if group.exact else f"{group.kind}, not exact"
            _add(table, group.name, kind, str(group.size), params, macs, _short(group.sites))
        console.print(table)
    else:
        console.print("nothing can be pruned: every dimension is fixed")
    for sentence in said(inspection.probed):
        console.print(Text(f"note: {sentence}", style="yellow"))
    if inspection.sparsity:
        _show_sparsity(console, inspection)
    by_reason: dict[str, list[FixedAxis]] = {}
    for fixed in inspection.fixed:
        by_reason.setdefault(fixed.reason, []).append(fixed)
    if by_reason:
        table = _table("fixed because", "axes", "such as", "stated by")
        for reason, found in by_reason.items():
            nodes = list(dict.fromkeys(f.node for f in found))
            _add(table, reason, str(len(found)), _names(found[:1]), _short(nodes, 1))
        console.print(table)


def _show_sparsity(console: Console, inspection: Inspection) -> None:
    table = _table("layer", "operator", "zero", "kernels", "outputs", "N:M of inputs", "N:M of outputs", "TensorRT 2:4")
    for layer in inspection.sparsity:
        _add(table, layer.name, layer.op_type, f"{layer.zeros:.1%}", f"{layer.kernels:.1%}", f"{layer.outputs:.1%}",
             ", ".join(layer.along_inputs), ", ".join(layer.along_outputs), layer.why_not or "yes")  # fmt: skip
    console.print(table)


def show_verdict(console: Console, verdict: Verdict) -> None:
    """Whether the theorem holds, and on what."""
    style = "green" if verdict.passed else "red"
    word = ("verified" if verdict.exact else "verified in its exact part") if verdict.passed else "NOT verified"
    found = f"largest relative error {verdict.max_error:.1e} on {verdict.inputs} inputs, batch {_and(verdict.batches)}"
    console.print(Text(f"{word}: {found}", style=style))
    if verdict.passed and not verdict.exact and verdict.change is not None:
        console.print(Text(_inexact(verdict.change.relative, verdict.change.divergence), style="yellow"))
    if not verdict.passed:
        console.print(Text(verdict.detail))
    for left_out in verdict.left_out:
        console.print(Text(f"note: {left_out}", style="yellow"))


def show_bench(console: Console, bench: Bench) -> None:
    """Models side by side, the first being the baseline, then time per layer where it was asked for."""
    names = _distinct([row.model for row in bench.rows])
    predicted = ("predicted",) if any(row.predicted_ms is not None for row in bench.rows) else ()
    table = _table("model", "latency", *predicted, "10 to 90 %", "speed-up", "95 %", "memory", "bytes")
    for k, (row, name) in enumerate(zip(bench.rows, names, strict=True)):
        memory = "-" if row.peak_memory is None else f"{row.peak_memory / 2**20:.1f} MiB"
        between = "{:.2f} to {:.2f}".format(*row.speedup_ci) if k else ""
        speedup = f"{row.speedup:.2f}x" + ("" if row.significant else " ?") if k else "baseline"
        told = ("-" if row.predicted_ms is None else f"{row.predicted_ms:.3f} ms",) if predicted else ()
        _add(table, name, f"{row.latency_ms:.3f} ms", *told, f"{row.p10_ms:.3f} to {row.p90_ms:.3f}", speedup, between,
             memory, f"{row.bytes:,}")  # fmt: skip
    console.print(table)
    for row, name in list(zip(bench.rows, names, strict=True))[1:]:
        if not row.significant:
            console.print(Text(f"? {name}: no claim, because {row.why}", style="yellow"))
    clock = "processor time of the one thread" if bench.clock == "cpu" else "wall time"
    contention = "" if bench.contention is None else f"; wall / processor time {bench.contention:.2f}"
    low, high = bench.control_spread
    console.print(
        Text(
            f"{clock}, {_count(bench.rounds, 'round')} in {_count(bench.sessions, 'session')} of each model, "
            f"interleaved; the baseline against itself {bench.control_ratio:.3f} ({low:.3f} to {high:.3f})"
            f"{contention}; "
            f"{bench.machine}"
        )
    )
    for name, layers in zip(names, bench.layers, strict=False):
        table = _table("node", "operator", "ms", "share", "run as", title=name)
        for layer in layers.rows:
            _add(table, layer.name, layer.op_type, f"{layer.ms:.3f}", f"{layer.share:.1%}", ", ".join(layer.kernels))
        _add(table, "other", "", f"{layers.other_ms:.3f}", f"{layers.other_share:.1%}", ", ".join(layers.other))
        table.add_row("between nodes", "", f"{layers.overhead_ms:.3f}", "", "")
        console.print(table)


def _row(table: Table, name: str, before: int, after: int, asked: str = "") -> None:
    table.add_row(name, f"{before:,}", f"{after:,}", (f"{after / before:.3f}" if before else "-") + asked)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _short(names: Sequence[str], limit: int = 2) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _names(fixed: Iterable[FixedAxis]) -> str:
    return _short([f"{f.tensor}[{f.axis}]" for f in fixed], 4)


def _and(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _distinct(names: Sequence[str]) -> list[str]:
    """The names without the folder that all share; those that occur more than once are numbered."""
    if len(set(names)) > 1 and all(PurePath(n).is_absolute() == PurePath(names[0]).is_absolute() for n in names):
        shared = commonpath([PurePath(name).parent for name in names])
        names = [str(PurePath(name).relative_to(shared)) if shared else name for name in names]
    else:
        names = [PurePath(name).name for name in names]
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return numbered
