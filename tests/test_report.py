"""The report: the keys that stay, the same bytes for the same input, and words that claim no more than was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from math import inf, nan
from pathlib import Path

import pytest
from rich.console import Console

import onnxprune
from onnxprune import api
from onnxprune.jsontext import json_text
from onnxprune.report.console import show_report, show_verdict
from onnxprune.report.report import MEASURED, FixedAxis, GroupReport, Report
from onnxprune.testing import build
from onnxprune.verification import Verdict

PROMISED = [
    *("schema_version", "model", "output", "pipeline", "groups", "fixed", "params_before", "params_after"),
    *("nonzero_before", "nonzero_after", "macs_before", "macs_after", "bytes_before", "bytes_after", "sparsity"),
    *("verified", "max_error", "reconstruction_error", "latency_before_ms", "latency_after_ms", "speedup"),
    *("speedup_ci", "metric_before", "metric_after", "seconds"),
]

TEXT = "x[N,6] -> y; a = MatMul(x, A[6,16]); y = MatMul(a, B[16,5])"


def shown(report: Report, width: int = 120) -> str:
    stream = StringIO()
    show_report(Console(file=stream, width=width), report)
    return stream.getvalue()


def test_the_promised_keys_are_there(models: Path) -> None:
    """With an evaluation and a timing, every number has a value; groups and fixed axes have their promised keys."""
    report = json.loads(
        api.prune(
            models / "cifar10_mlperf_resnet8_int8_qdq.onnx",
            evaluate=models / "cifar10_calibration.npz",
            preprocess=models / "cifar10_raw.toml",
            rounds=3,
        ).report.to_json()
    )
    assert set(PROMISED) <= report.keys()
    assert [key for key in PROMISED if report[key] is None] == ["output", "reconstruction_error"]
    assert {"name", "size", "kept", "sites", "criterion"} <= report["groups"][0].keys()
    assert {"tensor", "axis", "reason", "node"} <= report["fixed"][0].keys()
    assert 0.5 < report["metric_before"] <= 1
    assert len(report["speedup_ci"]) == 2
    assert report["speedup_significant"] is False  # three rounds prove nothing
    assert set(report["seconds"]) == {step["use"] for step in report["pipeline"]}


def test_equal_input_gives_equal_bytes(models: Path, tmp_path: Path) -> None:
    """Two runs differ in what is measured alone; so do not the files that they write."""
    reports = []
    for name in ("a", "b"):
        path = tmp_path / name / "o.onnx"
        result = api.prune(models / "kws_dscnn.onnx", path, target="params=0.6", rounds=3)
        reports.append(replace(result.report, output="o.onnx"))
    assert reports[0].to_json(measured=False) == reports[1].to_json(measured=False)
    assert (tmp_path / "a/o.onnx").read_bytes() == (tmp_path / "b/o.onnx").read_bytes()
    whole, rest = json.loads(reports[0].to_json()), json.loads(reports[0].to_json(measured=False))
    assert whole.keys() - rest.keys() == set(MEASURED)


def test_counts_are_those_of_the_files(tmp_path: Path) -> None:
    build(TEXT).save(tmp_path / "m.onnx")
    report = api.prune(tmp_path / "m.onnx", tmp_path / "o.onnx", rounds=0).report
    assert (report.params_before, report.params_after) == (6 * 16 + 16 * 5, 6 * 8 + 8 * 5)
    assert (report.macs_before, report.macs_after) == (report.params_before, report.params_after)
    assert report.sparsity == pytest.approx(0.5)
    assert report.bytes_before == (tmp_path / "m.onnx").stat().st_size
    assert report.bytes_after == (tmp_path / "o.onnx").stat().st_size


def test_bytes_are_those_on_disk(models: Path) -> None:
    for path in sorted(models.glob("*.onnx")):
        assert onnxprune.Model.load(path).size_bytes == path.stat().st_size


def test_json_has_no_infinity() -> None:
    text = json_text({"a": inf, "b": [nan, 1.5], "c": {"d": -inf}, "e": (1, "x")})
    assert json.loads(text) == {"a": None, "b": [None, 1.5], "c": {"d": None}, "e": [1, "x"]}
    assert json.loads(Report(max_error=inf).to_json())["max_error"] is None


TIMED = Report(
    latency_before_ms=2.0,
    latency_after_ms=1.0,
    speedup=2.0,
    speedup_ci=(1.9, 2.1),
    speedup_significant=True,
    latency_note="faster by more than chance",
    groups=(GroupReport("g", 8, 4, ("w[0]",), "l2"),),
)


def test_what_became_faster_is_called_so() -> None:
    assert "2.00x faster (1.90 to 2.10)" in shown(TIMED)


def test_what_became_slower_is_called_so() -> None:
    assert "2.00x slower (1.60 to 2.50)" in shown(replace(TIMED, speedup=0.5, speedup_ci=(0.4, 0.625)))


def test_what_is_within_chance_is_not_claimed() -> None:
    text = shown(replace(TIMED, speedup=1.01, speedup_ci=(0.98, 1.03), speedup_significant=False, latency_note="so so"))
    assert "not sure: 1.01x faster (0.98 to 1.03)" in text
    assert "latency: so so" in text


def test_what_was_left_whole_and_notes_are_shown() -> None:
    report = replace(TIMED, fixed=(FixedAxis("w", 0, "verification", "verify"),), notes=("take [care]",))
    assert "left whole, because pruning them could not be verified: w[0]" in shown(report)
    assert "note: take [care]" in shown(report)


def test_names_in_brackets_are_names() -> None:
    """A tensor called `[bold]` is shown as it is."""
    report = replace(TIMED, groups=(GroupReport("[bold]g", 8, 4, ("[red]w[0]",), "l2"),))
    assert "[bold]g" in shown(report)
    assert "[red]w[0]" in shown(report)


def test_many_groups_are_cut_short() -> None:
    groups = tuple(GroupReport(f"g{k}", 8, 4, (f"w{k}[0]",), "l2") for k in range(50))
    assert "10 more, see --json" in shown(replace(TIMED, groups=groups))
    assert "g39" in shown(replace(TIMED, groups=groups))


def test_a_narrow_terminal_loses_nothing() -> None:
    text = shown(replace(TIMED, groups=(GroupReport("a/rather/long/name/of/a/node", 8, 4, ("w[0]",), "l2"),)), 40)
    assert all(len(line) <= 40 for line in text.splitlines())
    words = "".join(line.split(" ")[1] for line in text.splitlines() if line.startswith(" ") and line[1:2].strip())
    assert "a/rather/long/name/of/a/node" in words


def test_a_verdict_that_failed_says_why() -> None:
    stream = StringIO()
    show_verdict(Console(file=stream, width=120), Verdict(False, inf, 2, (1, 3), "output 'y': shapes", ("only one",)))
    assert stream.getvalue().splitlines() == [
        "NOT verified: largest relative error inf on 2 inputs, batch 1 and 3",
        "output 'y': shapes",
        "note: only one",
    ]
