"""What a cut loses is measured once, of the right model, and only where an allocation asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from onnxprune import cut, prune
from onnxprune.allocators import Candidate, candidates, choose
from onnxprune.analysis import Analysis
from onnxprune.criteria import Evidence, score
from onnxprune.data import Samples, load
from onnxprune.dependency import analyse
from onnxprune.dimensions import Vector
from onnxprune.divergence import divergence_of
from onnxprune.errors import UsageError
from onnxprune.evaluation import Evaluate
from onnxprune.model import Model
from onnxprune.noise import random_samples
from onnxprune.objective import Objective, counts_of, curves_of, repaired_on
from onnxprune.plan import Plan
from onnxprune.recovery.reconstruct import Repaired
from onnxprune.runtime.session import Session
from onnxprune.testing import build
from tests.commands import Commands


def ready(models: Path, name: str, count: int = 8) -> tuple[Analysis, Mapping[int, Vector], Samples]:
    """An analysed model, its l2 scores and some random samples."""
    model = Model.load(models / f"{name}.onnx")
    analysis = analyse(model)
    return analysis, score(Evidence(analysis), "l2").values, random_samples(model, analysis.shapes.sizes, count, 0)


@pytest.mark.parametrize("name", ["cifar10_resnet20", "cifar10_mlperf_resnet8_int8_qdq", "ad01_autoencoder"])
def test_a_trial_is_the_divergence_of_the_cut_model(models: Path, name: str) -> None:
    """Floats or integers, scores or not; what is whole loses nothing, and the same counts run once."""
    analysis, scores, samples = ready(models, name)
    objective, reference = Objective(analysis, scores, samples), divergence_of(analysis, samples)
    counts = {group.atom.id: group.size // 2 for group in analysis.groups[:3]}
    small = cut.shrink(analysis, Plan.of(analysis.groups, choose(scores, counts)))
    found = objective(counts)
    assert found == pytest.approx(reference.of(Session(small.to_bytes()).run), rel=1e-3)
    assert found > 0
    whole = {group.atom.id: group.size for group in analysis.groups}
    assert objective({}) == objective(whole) == 0
    assert objective({**whole, **counts}) == found
    assert objective.trials == 1
    assert objective.measure == reference.measure == "KL"


def test_what_a_linear_map_brings_back_is_not_lost(models: Path) -> None:
    """A model whose scores are turned round has lost nothing by this measure, and much by the other."""
    from onnxprune.model import Edit

    analysis, scores, samples = ready(models, "cifar10_resnet20", 64)
    model = analysis.model
    edit = Edit(model)
    edit.replace("linear.weight", -model.array("linear.weight"))
    turned, counts = edit.done(), {analysis.groups[0].atom.id: 1}
    linear, plain = (
        Objective(analysis, scores, samples, far=far, made=lambda analysis, plan: turned)
        for far in ("unexplained", "divergence")
    )
    assert linear.measure == "unexplained variance"
    assert linear(counts) < 0.1 < 0.5 < plain(counts)
    assert 0.05 < Objective(analysis, scores, samples, far="unexplained")({g.atom.id: 1 for g in analysis.groups}) < 1.5


def test_scores_that_are_shifted_have_not_moved(models: Path) -> None:
    """A constant that is added to all scores of a row changes nothing; half of every score is half of them gone."""
    from onnxprune.model import Edit

    analysis, scores, samples = ready(models, "cifar10_resnet20", 16)
    model, counts = analysis.model, {analysis.groups[0].atom.id: 1}
    weight, bias = (model.array(f"linear.{name}") for name in ("weight", "bias"))

    def moved(weight: Vector, bias: Vector) -> float:
        edit = Edit(model)
        edit.replace("linear.weight", weight.astype(np.float32))
        edit.replace("linear.bias", bias.astype(np.float32))
        made = edit.done()
        objective = Objective(analysis, scores, samples, far="moved", made=lambda analysis, plan: made)
        assert objective.measure == "relative"
        return objective(counts)

    assert moved(weight, bias + 3) == pytest.approx(0, abs=1e-5)
    assert moved(weight / 2, bias / 2) == pytest.approx(0.5, abs=1e-5)


def test_what_is_repaired_first_loses_less(models: Path) -> None:
    """The layers behind a cut are refitted on other samples before the trial is judged."""
    analysis, scores, _ = ready(models, "cifar10_resnet20")
    samples = load(str(models / "cifar10_calibration.npz"), analysis.model.inputs)
    counts = {analysis.groups[1].atom.id: 4}
    plain = Objective(analysis, scores, samples, most=32)
    mended = Objective(analysis, scores, samples, most=32, made=repaired_on(samples))
    assert 0 < mended(counts) < 0.7 * plain(counts)


@pytest.mark.parametrize(("count", "rows"), [(128, 32), (256, 32), (6, 682), (1, 4096)])
def test_few_samples_give_more_rows_each(monkeypatch: pytest.MonkeyPatch, count: int, rows: int) -> None:
    """A repair in a trial is fitted to as many rows of six texts as of a hundred images."""
    asked: list[tuple[int, bool]] = []

    def noted(
        analysis: Analysis, pruned: Analysis, batches: Sequence[object], *, limit: int, within: bool, **_: object
    ) -> Repaired:
        asked.append((limit, within))
        return Repaired({}, {}, (), {})

    monkeypatch.setattr("onnxprune.objective.repaired", noted)
    analysis = analyse(build("x[N,6] -> y; h = MatMul(x, V[6,8]); y = MatMul(h, W[8,4])"))
    samples = Samples("x", {"x": np.zeros((count, 6), np.float32)})
    repaired_on(samples)(analysis, Plan.of(analysis.groups, {}))
    assert asked == [(rows, False)]  # what activations cut off is left to the repair that is written


def test_a_metric_is_what_is_lost_of_it(models: Path) -> None:
    """It drops from that of the original; what rises loses nothing."""
    analysis, scores, samples = ready(models, "cifar10_resnet20")
    seen: list[float] = []

    def metric(sign: float) -> Evaluate:
        def evaluate(run: object) -> dict[str, float]:
            assert callable(run)
            outputs = next(iter(run(next(iter(samples.batches(8)))).values()))
            seen.append(float(np.square(outputs).mean()))
            return {"energy": sign * seen[-1], "other": 0.0}

        return evaluate

    counts = {group.atom.id: 1 for group in analysis.groups}
    rising, falling = (Objective(analysis, scores, samples, evaluate=metric(sign)) for sign in (1.0, -1.0))
    losses = [rising(counts), falling(counts)]
    assert rising.measure == "energy"
    assert sorted(losses) == pytest.approx([0.0, abs(seen[2] - seen[0])])


def test_another_way_to_make_the_model(models: Path) -> None:
    """What is tried may be repaired first, or, as here, left as it was."""
    analysis, scores, samples = ready(models, "cifar10_resnet20")
    objective = Objective(analysis, scores, samples, made=lambda analysis, plan: analysis.model)
    assert objective({analysis.groups[0].atom.id: 1}) == pytest.approx(0, abs=1e-9)


def test_curves_are_measured_on_steps_and_fall(models: Path) -> None:
    """One for each atom, tied ones included; more kept is never said to lose more."""
    analysis, scores, samples = ready(models, "cifar10_resnet20")
    objective = Objective(analysis, scores, samples)
    found = candidates(analysis, analysis.groups[:4], 4, tie=["layer1.*"])
    curves = curves_of(objective, found, points=3)
    assert curves.keys() == {atom for c in found for atom in c.atoms}
    for candidate in found:
        own = curves[candidate.atom]
        assert all(curves[atom] == own for atom in candidate.atoms)
        assert list(own.kept) == [*counts_of(candidate, 3), candidate.size]
        assert all(kept % 4 == 0 for kept in own.kept)
        assert list(own.loss) == sorted(own.loss, reverse=True)
        assert own.loss[-1] == 0
    assert objective.trials == sum(len(counts_of(c, 3)) for c in found)


def test_points_lie_evenly_from_the_lowest_on() -> None:
    """All of them where there are few."""
    assert counts_of(Candidate(0, "g", 64, step=16), 9) == [16, 32, 48]
    assert counts_of(Candidate(0, "g", 64), 4) == [1, 22, 42, 63]
    assert counts_of(Candidate(0, "g", 8, minimum=8), 4) == []


@pytest.mark.parametrize("name", ["knapsack", "netadapt"])
def test_prune_tries_what_it_cuts(models: Path, name: str) -> None:
    """The report says how many cuts were tried, and ties hold in the file."""
    result = prune(
        models / "cifar10_resnet20.onnx", target="macs=0.7", allocation=name, calibration="random:4", rounds=0,
        tie=["layer2.*.conv1"], recover="none", include=["layer[23].*.conv1"],
    )  # fmt: skip
    report = result.report
    assert 0.68 < report.targets["macs"][1] <= 0.7
    assert any(note.startswith("allocation: tried ") and note.endswith("by their KL") for note in report.notes)
    kept = {group.kept for group in report.groups if group.name.startswith("layer2.") and group.name.endswith(".conv1")}
    assert len(kept) == 1
    assert any(note.startswith("tied: layer2.0.conv1 and 2 more") for note in report.notes)


def test_without_samples_the_command_says_what_to_do(models: Path, onnxprune: Commands) -> None:
    """It is a wrong request, told before anything is tried."""
    done = onnxprune("prune", str(models / "cifar10_resnet20.onnx"), "-o", "x.onnx", "--allocation", "knapsack")
    assert done.code == 2
    assert "give --calibration" in done.err


def test_a_metric_needs_an_evaluation() -> None:
    """Before anything runs."""
    from onnxprune.passes.sense import Sense

    with pytest.raises(UsageError, match="needs --evaluate"):
        Sense(objective="metric")
