"""The Python face: names, types, and the same work as on the command line."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxprune
from onnxprune.errors import OnnxPruneError, UsageError
from onnxprune.passmanager import pipeline_path
from onnxprune.testing import build

TEXT = "x[N,6] -> y; a = MatMul(x, A[6,16]); y = MatMul(a, B[16,5])"


def test_public_names_are_those_of_all() -> None:
    """Every name is there, says where it lives, and `dir` lists it; others are an AttributeError."""
    assert onnxprune.__all__ == sorted(onnxprune.__all__)
    for name in onnxprune.__all__:
        found = getattr(onnxprune, name)
        assert found.__name__ == name
        assert found.__doc__
    assert set(onnxprune.__all__) <= set(dir(onnxprune))
    with pytest.raises(AttributeError, match="no attribute 'prun'"):
        getattr(onnxprune, "prun")  # noqa: B009


def test_public_names_stay_what_they_are_whatever_is_imported() -> None:
    """No module takes the place of a public name when it is imported."""
    for module in pkgutil.walk_packages(onnxprune.__path__, "onnxprune."):
        if not module.name.endswith(("__main__", "worker")):
            importlib.import_module(module.name)
    assert all(callable(getattr(onnxprune, name)) for name in onnxprune.__all__)


def test_errors_are_one_tree() -> None:
    errors = [getattr(onnxprune, name) for name in onnxprune.__all__]
    errors = [e for e in errors if isinstance(e, type) and issubclass(e, Exception)]
    assert {e.exit_code for e in errors} == {1, 2, 3, 4, 5}
    assert all(issubclass(e, OnnxPruneError) for e in errors)


def test_models_in_every_form(tmp_path: Path) -> None:
    """A path, a text, bytes, a proto (which is not changed) and a loaded model give the same result."""
    path = tmp_path / "m.onnx"
    build(TEXT).save(path)
    proto = onnx.load(path)
    before = proto.SerializeToString()
    results = [
        onnxprune.prune(model, rounds=0).model.to_proto(inline=True)
        for model in (path, str(path), path.read_bytes(), proto, onnxprune.Model.load(path))
    ]
    assert all(result == results[0] for result in results)
    assert proto.SerializeToString() == before
    with pytest.raises(
        UsageError,
        match=r"expected a path, .* found int",
    ):
        onnxprune.prune(7)  # type: ignore[arg-type]


def test_nothing_is_written_without_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = onnxprune.prune(build(TEXT), sparsity=0.25, rounds=0)
    assert result.report.output is None
    assert list(tmp_path.iterdir()) == []
    result.model.save("o.onnx")
    assert onnxprune.verify(build(TEXT), "o.onnx").passed


def test_options_are_checked_as_on_the_command_line() -> None:
    with pytest.raises(
        UsageError,
        match="no pass of this pipeline has an option 'sparsty'; known: aggregate, allocation, allow_inexact",
    ):
        onnxprune.prune(build(TEXT), sparsty=0.5)
    with pytest.raises(UsageError, match="option 'rounds' of pass 'profile': expected a whole number, found 'no'"):
        onnxprune.prune(build(TEXT), rounds="no")


def test_progress_is_told() -> None:
    seen: list[tuple[str, int, int]] = []
    onnxprune.prune(build(TEXT), rounds=3, watch=lambda *step: seen.append(step))
    passes = len(onnxprune.Pipeline.from_toml(pipeline_path("prune")).passes)
    assert ("analyse", 0, passes) in seen
    assert ("measure latency", 3, 3) in seen


def test_an_evaluation_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`module:function` gets a function that runs the model; its numbers are the metrics, the first the main one."""
    (tmp_path / "judge.py").write_text(
        "import numpy as np\n"
        "def both(run):\n"
        "    y = run({'x': np.ones((2, 6), np.float32)})['y']\n"
        "    return {'mean': float(y.mean()), 'rows': len(y)}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    report = onnxprune.prune(build(TEXT), rounds=0, evaluate="judge:both").report
    assert report.metric == "mean"
    assert report.metrics["rows"] == (2.0, 2.0)
    assert report.metric_before is not None
    assert np.isfinite(report.metric_before)


def test_inspect_says_what_is_there() -> None:
    found = onnxprune.inspect(build("x[N,3,H,8] -> y; a = Conv(x, A[4,3,1,1]); y = Conv(a, B[2,4,1,1])"), size="H=6")
    assert found.sizes == {"N": 11, "H": 6}
    assert [(g.name, g.size, g.sites, g.params) for g in found.groups] == [("A", 4, ("A[0]", "B[1]"), 20)]
    assert found.macs == 20 * 6 * 8
    assert {(f.reason, f.node) for f in found.fixed} >= {("a graph input", "x"), ("a graph output", "y")}


def test_explain_takes_one_name_or_two() -> None:
    assert "prunable" in onnxprune.explain(build(TEXT), "A")[1].sentence
    assert onnxprune.explain(build(TEXT), "A", "B")[0].sentence == "A[1] and B[0] share 16 indices"


def test_a_pipeline_of_ones_own() -> None:
    """`Pipeline.from_toml` gives the passes; overrides reach those that have the option."""
    pipeline = onnxprune.Pipeline.from_toml(pipeline_path("prune"), seed=7)
    assert [step.name for step in pipeline.passes if getattr(step, "seed", None) == 7] == [
        "calibrate", "score", "sense", "tabulate", "allocate", "meet", "recover", "verify", "profile",
    ]  # fmt: skip
