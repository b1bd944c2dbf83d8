"""Sensitivity: the curves of all groups, the same whoever measures them, and measured once."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import onnxprune as package
from onnxprune import survey
from onnxprune.errors import UsageError
from onnxprune.testing import build
from tests.commands import Commands

TWO = """
    x[N,4] -> y
    h = Gemm(x, A[4,10], B[10]); r = Relu(h); k = Gemm(r, C[10,6], D[6]); s = Relu(k); y = Gemm(s, E[6,3])
"""


@pytest.fixture
def two(desk: Path) -> Path:
    """A model of two groups, `A` of 10 and `C` of 6 indices."""
    build(TWO).save(desk / "two.onnx")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 4)).astype(np.float32)
    np.savez(desk / "data.npz", x=x, labels=generator.integers(0, 3, 40))
    return desk / "two.onnx"


def test_curves_of_all_groups(onnxprune: Commands, two: Path) -> None:
    """The file for programs, the table for people, the plot: one result."""
    ran = onnxprune("sensitivity", two, "--calibration", "data.npz", "--ratios", "0.2,0.5,0.95", "--workers", 1,
                    "--json", "s.json", "--csv", "s.csv", "--plot", "s.png")  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(Path("s.json").read_text())
    assert {key: value for key, value in found.items() if key not in ("groups", "model")} == {
        "schema_version": 1, "measure": "KL", "of": "data.npz", "samples": 40, "criterion": "obd",
        "ratios": [0.2, 0.5, 0.95], "notes": [],
    }  # fmt: skip
    assert [(g["name"], g["kind"], g["size"]) for g in found["groups"]] == [("A", "channel", 10), ("C", "channel", 6)]
    assert [[p["kept"] for p in g["points"]] for g in found["groups"]] == [[8, 5, 1], [5, 3, 1]]
    assert [p["removed"] for p in found["groups"][0]["points"]] == pytest.approx([0.2, 0.5, 0.9])
    losses = [[p["loss"] for p in g["points"]] for g in found["groups"]]
    assert all(min(own) >= 0 and own[-1] > 0 for own in losses)
    rows = list(csv.DictReader(Path("s.csv").read_text().splitlines()))
    assert [(row["group"], row["kept"]) for row in rows] == [("A", "8"), ("A", "5"), ("A", "1"), ("C", "5"),
                                                             ("C", "3"), ("C", "1")]  # fmt: skip
    assert Path("s.png").read_bytes().startswith(b"\x89PNG")
    assert "loss: KL, when one group alone loses this fraction" in ran.out
    assert "█" in ran.out


def test_a_loss_is_what_the_cut_model_loses(two: Path) -> None:
    """What a group is said to lose is the divergence of the model that is really cut so."""
    found = package.sensitivity(two, calibration="data.npz", criterion="l2", ratios=[0.5])
    loss = found.groups[0].points[0].loss
    cut = package.prune(two, sparsity=0.5, include="A", round_to=1, rounds=0, recover="none")
    assert [group.kept for group in cut.report.groups] == [5, 6]
    from onnxprune.runtime.change import change
    from onnxprune.runtime.session import Options, Session

    feed = {"x": np.load("data.npz")["x"]}
    before, after = (Session(m, Options()).run(feed) for m in (two.read_bytes(), cut.model.to_bytes()))
    assert change([before], [after]).divergence == pytest.approx(loss, rel=1e-4)


def test_workers_find_the_same(two: Path) -> None:
    one = package.sensitivity(two, calibration="data.npz", criterion="wanda")
    many = package.sensitivity(two.read_bytes(), calibration="data.npz", criterion="wanda", workers=2)
    assert one.groups == many.groups
    assert one.ratios == survey.RATIOS


def test_what_is_in_the_journal_is_not_measured_again(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    answered = survey.answered

    def counted(question: survey.Question) -> object:
        calls.append(question.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return answered(question)

    monkeypatch.setattr(survey, "answered", counted)
    with pytest.raises(KeyboardInterrupt):
        package.sensitivity(two, calibration="data.npz", journal="j.jsonl")
    again = package.sensitivity(two, calibration="data.npz", journal="j.jsonl")
    assert calls == ["A", "C", "C"]
    assert again == package.sensitivity(two, calibration="data.npz", journal="j.jsonl")
    assert len(calls) == 3
    package.sensitivity(two, calibration="data.npz", journal="j.jsonl", criterion="l1")
    assert len(calls) == 5


def test_the_drop_of_a_metric(onnxprune: Commands, two: Path) -> None:
    Path("worth.py").write_text(
        "import numpy as np\ndef size(run):\n"
        "    return float(np.abs(run({'x': np.load('data.npz')['x']})['y']).mean())\n"
    )
    ran = onnxprune(
        "sensitivity", two, "--calibration", "random", "--evaluate", "data.npz", "-o", "all", "--workers", 1
    )
    assert ran.code == 0, ran.err
    assert sorted(p.name for p in Path("all").iterdir()) == [
        "journal.jsonl", "sensitivity.csv", "sensitivity.json", "sensitivity.svg"
    ]  # fmt: skip
    assert json.loads(Path("all/sensitivity.json").read_text())["measure"] == "drop of top1"
    drop = package.sensitivity(two, calibration="random", evaluate="worth:size", ratios=[0.95])
    rise = package.sensitivity(two, calibration="random", evaluate="worth:size", ratios=[0.95], lower_is_better=True)
    assert drop.groups[0].points[0].loss > 0
    assert rise.groups[0].points[0].loss == 0  # what becomes better is no loss


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "sensitivity needs --calibration"),
        (("--calibration", "no.npz"), "no.npz"),
        (("--calibration", "random", "--ratios", "0.5,1"), "--ratios 1"),
        (("--calibration", "random", "--include", "nosuch"), "nosuch"),
        (("--calibration", "random", "--plot", "curves.gif"), ".svg"),
        (("--calibration", "random", "--evaluate", "no.npz"), "no.npz"),
    ],
)
def test_what_sensitivity_refuses(onnxprune: Commands, two: Path, arguments: tuple[str, ...], words: str) -> None:
    ran = onnxprune("sensitivity", two, *arguments, "--workers", 1)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err


def test_a_plot_that_cannot_be_drawn_is_refused_at_once(
    onnxprune: Commands, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxprune.plots.drawable", lambda: False)
    ran = onnxprune("sensitivity", two, "--calibration", "random", "--plot", "s.png", "--workers", 1)
    assert (ran.code, "pip install 'onnxprune[plots]'" in ran.err) == (2, True)
    ran = onnxprune("sensitivity", two, "--calibration", "random", "-o", "all", "--workers", 1)
    assert (ran.code, "pip install 'onnxprune[plots]'" in ran.out) == (0, True)


def test_integers_have_curves(models: Path) -> None:
    """Groups that only integers hold are measured as all others: no gate is needed for it."""
    path = models / "cifar10_mlperf_resnet8_int8_qdq.onnx"
    found = package.sensitivity(path, calibration="random:8", ratios=[0.5])
    assert {group.name for group in found.groups} == {group.name for group in package.inspect(path).groups}
    with pytest.raises(UsageError, match="needs --calibration"):
        package.sensitivity(path, calibration="")
