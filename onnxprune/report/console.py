"""How reports look on a console: a few readable tables, nothing that a narrow terminal breaks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from onnxprune.bench import Bench
from onnxprune.report.building import Inspection
from onnxprune.report.report import FixedAxis, Report
from onnxprune.verification import Verdict

__all__ = ["show_bench", "show_inspection", "show_report", "show_verdict"]


def show_report(console: Console, report: Report, groups: bool = True) -> None:
    """The result of a run: what it weighs and costs before and after, what was cut, what was left alone."""
    if groups:
        _show_groups(console, report)
    table = _table("", "before", "after", "ratio")
    _row(table, "parameters", report.params_before, report.params_after)
    _row(table, "MACs (batch 1)", report.macs_before, report.macs_after)
    _row(table, "bytes", report.bytes_before, report.bytes_after)
    if report.latency_before_ms is not None and report.latency_after_ms is not None and report.speedup is not None:
        low, high = report.speedup_ci or (report.speedup, report.speedup)
        table.add_row(
            "latency", f"{report.latency_before_ms:.3f} ms", f"{report.latency_after_ms:.3f} ms",
            f"{report.speedup:.2f}x faster ({low:.2f} to {high:.2f})",
        )  # fmt: skip
    for name, (before, after) in report.metrics.items():
        table.add_row(name, f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}")
    console.print(table)
    if report.verified:
        console.print(
            f"verified: masked and pruned model agree on {report.verified_inputs} inputs, "
            f"largest relative error {report.max_error:.1e}"
        )
    for note in report.notes:
        console.print(Text(f"note: {note}", style="yellow"))
    left = [f for f in report.fixed if f.reason == "verification"]
    if left:
        console.print(Text(f"left alone after verification: {_names(left)}", style="yellow"))
    if report.latency_note is not None:
        console.print(f"latency: {report.latency_note}; {report.machine}")
    if report.output is not None:
        console.print(f"written: {report.output}")


def _show_groups(console: Console, report: Report) -> None:
    cut = [g for g in report.groups if g.kept < g.size]
    table = _table("group", "kept", "of", "weights")
    for group in cut:
        table.add_row(group.name, str(group.kept), str(group.size), _short(group.sites))
    whole = len(report.groups) - len(cut)
    if whole:
        table.add_row(f"{whole} groups" if cut else "all groups", "all", "", "")
    console.print(table)


def show_inspection(console: Console, inspection: Inspection) -> None:
    """Groups with their costs, then everything that is fixed, by reason."""
    console.print(
        f"{inspection.model}: {inspection.nodes} nodes, {inspection.params:,} parameters, {inspection.macs:,} MACs, "
        f"{inspection.bytes:,} bytes"
    )
    if inspection.sizes:
        sizes = ", ".join(f"{name}={size}" for name, size in inspection.sizes.items())
        console.print(f"example sizes of symbolic dimensions: {sizes}")
    table = _table("group", "kind", "size", "parameters", "MACs", "cuts")
    for group in inspection.groups:
        table.add_row(group.name, group.kind, str(group.size), _share(group.params, inspection.params),
                      _share(group.macs, inspection.macs), _short(group.sites))  # fmt: skip
    console.print(table)
    by_reason: dict[tuple[str, str], list[FixedAxis]] = {}
    for fixed in inspection.fixed:
        by_reason.setdefault((fixed.reason, fixed.node), []).append(fixed)
    table = _table("fixed because", "stated by", "axes")
    for (reason, node), found in by_reason.items():
        table.add_row(reason, node, _names(found))
    console.print(table)


def show_verdict(console: Console, verdict: Verdict) -> None:
    """Whether the theorem holds, and on what."""
    style = "green" if verdict.passed else "red"
    word = "verified" if verdict.passed else "NOT verified"
    batches = " and ".join(map(str, verdict.batches))
    found = f"largest relative error {verdict.max_error:.1e} on {verdict.inputs} inputs, batch {batches}"
    console.print(Text(f"{word}: {found}", style=style))
    if not verdict.passed:
        console.print(verdict.detail)


def show_bench(console: Console, bench: Bench) -> None:
    """Models side by side, the first being the baseline, then time per layer where it was asked for."""
    table = _table("model", "latency", "10-90 %", "wall", "speed-up", "95 %", "memory", "bytes")
    for row in bench.rows:
        low, high = row.speedup_ci
        claim = f"{row.speedup:.2f}x" + ("" if row.significant or row is bench.rows[0] else " (no claim)")
        memory = "-" if row.peak_memory is None else f"{row.peak_memory / 2**20:.1f} MiB"
        table.add_row(row.model, f"{row.latency_ms:.3f} ms", f"{row.p10_ms:.3f} - {row.p90_ms:.3f}",
                      f"{row.wall_ms:.3f} ms", claim, f"{low:.2f} - {high:.2f}", memory, f"{row.bytes:,}")  # fmt: skip
    console.print(table)
    clock = "processor time of the one thread" if bench.clock == "cpu" else "wall time"
    contention = "" if bench.contention is None else f"; wall / processor time {bench.contention:.2f}"
    low, high = bench.control_spread
    console.print(
        f"{clock}, {bench.rounds} rounds in {bench.sessions} sessions a model, interleaved; "
        f"the baseline against itself {bench.control_ratio:.3f} ({low:.3f} to {high:.3f}){contention}; {bench.machine}"
    )
    for model, layers in bench.layers.items():
        table = _table("node", "operator", "ms", "share", "run as", title=model)
        for layer in layers.rows:
            table.add_row(layer.name, layer.op_type, f"{layer.ms:.3f}", f"{layer.share:.1%}", ", ".join(layer.kernels))
        table.add_row("other", "", f"{layers.other_ms:.3f}", f"{layers.other_share:.1%}", ", ".join(layers.other))
        table.add_row("between nodes", "", f"{layers.overhead_ms:.3f}", "", "")
        console.print(table)


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        numeric = column in {"before", "after", "ratio", "kept", "of", "size", "parameters", "MACs", "ms", "share",
                             "latency", "wall", "memory", "bytes"}  # fmt: skip
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    return table


def _row(table: Table, name: str, before: int, after: int) -> None:
    table.add_row(name, f"{before:,}", f"{after:,}", f"{after / before:.3f}" if before else "-")


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _short(names: Sequence[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _names(fixed: Iterable[FixedAxis]) -> str:
    return _short([f"{f.tensor}[{f.axis}]" for f in fixed])
