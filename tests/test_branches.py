"""Residual branches: which sums have one, what is left when it is gone, and that the least important ones go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune import api
from onnxprune.branches import branches_of, drop, silence
from onnxprune.dependency import analyse
from onnxprune.depth import Depth
from onnxprune.errors import GateNotMet, PassFailed, UsageError, VerificationFailed
from onnxprune.model import Array, Edit, Model
from onnxprune.runtime.session import Session
from onnxprune.targets import Bound
from onnxprune.testing import build
from tests.commands import Commands

BLOCKS = """
    x[N,5,6] -> y
    h = MatMul(x, W[6,8])
    a = MatMul(h, A[8,16]); b = Relu(a); c = MatMul(b, C[16,8]); r = Add(h, c)
    d = LayerNormalization(r, S[8], B[8]); e = MatMul(d, D[8,12]); f = Tanh(e)
    g = MatMul(f, E[12,8]); s = Add(g, r)
    k = MatMul(s, K[8,8]); l = Add(s, k); y = MatMul(l, V[8,3])
"""
NONE = {
    "an activation": "x[N,8] -> y; h = MatMul(x, W[8,8]); p = Pow(h, 3.0); g = Add(h, p); y = MatMul(g, V[8,3])",
    "a shortcut with a weight of its own": """x[N,8] -> y
        h = MatMul(x, W[8,8]); a = MatMul(h, A[8,8]); b = MatMul(h, B[8,8]); g = Add(a, b); y = MatMul(g, V[8,3])""",
    "a shape that grows": """x[N,1,8] -> y
        h = MatMul(x, W[8,8]); a = MatMul(P[5,1], h); g = Add(h, a); y = MatMul(g, V[8,3])""",
    "a weight that is read elsewhere": """x[N,8] -> y
        h = MatMul(x, W[8,8]); a = MatMul(h, A[8,8]); g = Add(h, a); k = MatMul(a, V[8,8]); y = Sub(g, k)""",
    "positions": "x[N,8] -> y; h = MatMul(x, W[8,8]); g = Add(h, P[1,8]); y = MatMul(g, V[8,3])",
}  # fmt: skip


def run(model: Model, x: Array) -> Array:
    return np.asarray(Session(model.to_bytes()).run({"x": x})["y"])


def test_branches_of_a_graph() -> None:
    """In the order of the graph, either operand of the Add, with the weights that are theirs alone."""
    found = branches_of(analyse(build(BLOCKS)))
    assert [branch.name for branch in found] == ["Add_4", "Add_9", "Add_11"]
    assert [branch.position for branch in found] == [1, 0, 1]
    assert found[1].weights == ("S", "B", "D", "E")


def test_branches_are_named_after_their_module(models: Path) -> None:
    """As the framework called it."""
    found = branches_of(analyse(Model.load(models / "cifar10_resnet20.onnx")))
    assert [branch.name for branch in found] == [
        "layer1.0", "layer1.1", "layer1.2", "layer2.1", "layer2.2", "layer3.1", "layer3.2",
    ]  # fmt: skip


@pytest.mark.parametrize("what", NONE)
def test_what_is_no_branch(what: str) -> None:
    """Sums that look alike."""
    assert branches_of(analyse(build(NONE[what]))) == ()


@pytest.mark.parametrize("chosen", [[0], [1], [2], [0, 1], [1, 2], [0, 2], [0, 1, 2]])
def test_dropping_is_silencing(chosen: list[int]) -> None:
    """Any choice, also of neighbours; weights and nodes of the branch are gone, what is left keeps its bytes."""
    model = build(BLOCKS)
    analysis = analyse(model)
    picked = [branches_of(analysis)[k] for k in chosen]
    smaller = drop(analysis, picked)
    x = np.random.default_rng(0).standard_normal((3, 5, 6)).astype(np.float32)
    np.testing.assert_allclose(run(silence(analysis, picked), x), run(smaller, x), rtol=1e-5, atol=1e-5)
    gone = {name for branch in picked for name in branch.weights}
    assert set(model.weights) - set(smaller.weights) == gone


def test_a_sum_that_is_an_output_stays_one() -> None:
    """Its name must be there, so zero is added."""
    model = build("x[N,8] -> y; h = MatMul(x, W[8,8]); a = MatMul(h, A[8,8]); y = Add(h, a)")
    analysis = analyse(model)
    smaller = drop(analysis, branches_of(analysis))
    x = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)
    np.testing.assert_allclose(run(smaller, x), x @ model.array("W"), rtol=1e-5, atol=1e-5)
    assert "A" not in smaller.weights


def quiet() -> Model:
    """The blocks, the second of which hardly says anything."""
    model = build(BLOCKS)
    edit = Edit(model)
    edit.replace("E", model.array("E") * np.float32(1e-3))
    return edit.done()


@pytest.mark.parametrize("criterion", ["forward", "l2"])
def test_the_least_important_goes(criterion: str, tmp_path: Path) -> None:
    """By what the outputs lose, or by weights alone; the report says what it cost, and that it is not exact."""
    model = quiet()
    path = tmp_path / "smaller.onnx"
    result = api.prune(model, path, granularity="branch", sparsity=0.4, criterion=criterion, rounds=0)
    report = result.report
    assert {branch.name: branch.dropped for branch in report.branches} == {
        "Add_4": False,
        "Add_9": True,
        "Add_11": False,
    }
    assert (report.exact, report.verified) == (False, False)
    assert report.output_change is not None
    assert 0 < report.output_change < 0.01
    assert report.macs_after < report.macs_before
    assert any("random inputs" in note for note in report.notes) == (criterion == "forward")
    verdict = api.verify(model, path)
    assert (verdict.passed, verdict.exact) == (True, False)


def test_names_choose() -> None:
    """Include and exclude name branches; a name that there is not is a mistake, and so is a model without any."""
    report = api.prune(
        quiet(), granularity="branch", sparsity=0.9, include="Add_[49]", exclude="Add_9", rounds=0
    ).report
    assert [branch.name for branch in report.branches if branch.dropped] == ["Add_4"]
    with pytest.raises(UsageError, match="'d' matches no residual branch"):
        api.prune(quiet(), granularity="branch", include="d")
    with pytest.raises(UsageError, match="no residual branch"):
        api.prune(build(NONE["positions"]), granularity="branch")
    with pytest.raises(UsageError, match="--sparsity 1"):
        api.prune(quiet(), granularity="branch", sparsity=1.0)
    with pytest.raises(UsageError, match="round_to"):
        api.prune(quiet(), granularity="branch", round_to="1")


def test_nothing_to_drop_is_exact() -> None:
    """A fraction that rounds to no branch changes nothing, and says so."""
    report = api.prune(quiet(), granularity="branch", sparsity=0.1, rounds=0).report
    assert report.exact
    assert report.params_after == report.params_before


def test_a_stamp_of_another_model_is_found_out() -> None:
    """What the stamp says was dropped must be there to drop."""
    result = api.prune(quiet(), granularity="branch", sparsity=0.4, rounds=0)
    text = result.model.metadata["onnxprune"]
    forged = result.model.with_metadata({"onnxprune": text.replace('"dropped": ["', '"dropped": ["no')})
    with pytest.raises(VerificationFailed, match="where there is none"):
        api.verify(quiet(), forged)


def test_every_second_block_of_a_trained_network(models: Path) -> None:
    """ResNet-20 without two of its seven identity blocks runs, and is smaller by what they held."""
    result = api.prune(models / "cifar10_resnet20.onnx", granularity="branch", sparsity=0.3, criterion="l2", rounds=0)
    assert sum(branch.dropped for branch in result.report.branches) == 2
    assert result.report.params_after < result.report.params_before


def test_as_many_go_as_a_target_asks_for(models: Path) -> None:
    """The fewest with which it is met; where all are not enough that is said, and nothing is written unless asked."""
    source = models / "cifar10_resnet20.onnx"
    report = api.prune(source, granularity="branch", target="macs=0.8", rounds=0).report
    asked, reached = report.targets["macs"]
    gone = [branch for branch in report.branches if branch.dropped]
    assert asked == 0.8
    assert reached <= 0.8
    assert reached == pytest.approx(report.macs_after / report.macs_before)
    fewer = api.prune(source, granularity="branch", sparsity=(len(gone) - 1) / len(report.branches), rounds=0).report
    assert sum(branch.dropped for branch in fewer.branches) == len(gone) - 1
    assert fewer.macs_after > 0.8 * fewer.macs_before
    with pytest.raises(GateNotMet, match=r"macs=0.01 was asked and macs=0\.\d+ reached: every residual branch"):
        api.prune(source, granularity="branch", target="macs=0.01", rounds=0)
    rest = api.prune(source, granularity="branch", target="macs=0.01", rounds=0, best_effort=True).report
    assert all(branch.dropped for branch in rest.branches)


def test_a_latency_is_measured_until_it_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each branch that goes, the whole model; the last measurement of the run has the last word."""
    asked: list[int] = []

    def measured(self: Depth, made: Model, bound: Bound, number: int) -> tuple[float, float]:
        asked.append(number)
        return bound.of(1.0), 1 - 0.2 * number

    monkeypatch.setattr(Depth, "_latency", measured)
    report = api.prune(quiet(), granularity="branch", target="latency=0.7", rounds=0).report
    assert asked == [0, 1, 2]
    assert report.targets["latency"] == pytest.approx((0.7, 0.6))
    assert sum(branch.dropped for branch in report.branches) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "memory=0.5"}, r"'memory=0.5'.*of branches, expected one of macs, params, size, latency"),
        ({"target": "metric>=0.5"}, "of branches"),
        ({"target": "macs=0.5", "sparsity": 0.5}, "--sparsity and --target"),
        ({"recover": "merge", "sparsity": 0.4}, "no channel is left out"),
    ],
)
def test_what_branches_have_no_use_for_is_refused(options: dict[str, Any], message: str) -> None:
    """Before anything is written."""
    with pytest.raises(UsageError, match=message):
        api.prune(quiet(), granularity="branch", rounds=0, **options)


def test_a_model_that_does_not_run_on_the_samples(onnxprune: Commands, tmp_path: Path) -> None:
    """It reads a table where there is no row; nothing is written."""
    source, samples, out = tmp_path / "m.onnx", tmp_path / "x.npz", tmp_path / "o.onnx"
    source.write_bytes(build("""
        x[N,5] -> y
        i = Cast<to=7>(x); h = Gather(T[4,8], i); a = MatMul(h, A[8,8]); g = Add(h, a); y = MatMul(g, V[8,3])
    """).to_bytes())  # fmt: skip
    np.savez(samples, x=np.full((8, 5), 9, np.float32))
    ran = onnxprune("prune", source, "-o", out, "--granularity", "branch", "--calibration", samples, "--rounds", 0)
    assert ran.code == PassFailed.exit_code
    assert "branches cannot be ranked, the model does not run: " in " ".join(ran.err.split())
    assert not out.exists()


@pytest.mark.parametrize("name", ["cifar10_resnet20", "cifar10_resnet20_bn"])
def test_what_is_left_is_repaired(models: Path, tmp_path: Path, name: str) -> None:
    """The layers behind a branch that is gone make up for much of it; the file is proven, now and later."""
    source, out = models / f"{name}.onnx", tmp_path / "o.onnx"
    options: dict[str, Any] = {"granularity": "branch", "target": "macs=0.7", "rounds": 0, "samples": 96,
               "calibration": str(models / "cifar10_calibration.npz"),
               "evaluate": str(models / "cifar10_test.npz")}  # fmt: skip
    bare = api.prune(source, recover="none", **options).report
    report = api.prune(source, out, **options).report
    assert report.recovery == "reconstruct"
    assert bare.metric_after is not None
    assert report.metric_after is not None
    assert report.metric_after > bare.metric_after + 0.05
    assert report.reconstruction_error is not None
    assert report.reconstruction_error_before is not None
    assert report.reconstruction_error < report.reconstruction_error_before
    assert (report.output_change, report.output_change_on) == (report.reconstruction_error, "held-out samples")
    assert api.verify(source, out).passed
