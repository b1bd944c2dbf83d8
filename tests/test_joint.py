"""All layers refitted together: nearer to the original, proven, in the form of the mask, taken where it is better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune import api
from onnxprune.dependency import analyse
from onnxprune.errors import UsageError
from onnxprune.model import Model
from onnxprune.recovery import joint
from onnxprune.recovery.joint import Joint, Student, jointly
from onnxprune.recovery.refitting import with_weights
from onnxprune.recovery.together import Together
from onnxprune.runtime.session import Session
from onnxprune.testing import build

NET = """
    x[N,3,8,8] -> y
    a = Conv<pads=[1,1,1,1]>(x, A[12,3,3,3], B[12])
    r = Relu(a)
    b = Conv<pads=[1,1,1,1]>(r, C[12,12,3,3], D[12])
    s = Add(b, r)
    t = Relu(s)
    p = GlobalAveragePool(t)
    f = Flatten(p)
    y = Gemm(f, E[12,4], F[4])
"""


def batches(number: int = 6, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Inputs of NET."""
    generator = np.random.default_rng(seed)
    return [{"x": generator.normal(size=(8, 3, 8, 8)).astype(np.float32)} for _ in range(number)]


def damaged(model: Model, share: float, seed: int = 3) -> Model:
    """The model with noise on its weights, or, with a share, with that much of them zero."""
    generator = np.random.default_rng(seed)
    values = {}
    for name in ("A", "C"):
        array = model.array(name)
        noise = 1 + 0.5 * generator.normal(size=array.shape)
        values[name] = (array * (generator.random(array.shape) > share if share else noise)).astype(np.float32)
    return with_weights(model, values)


def everything(name: str) -> tuple[None, ...]:
    """Of each axis all is kept."""
    return ()


def test_slopes_lead_to_the_original() -> None:
    """What layers read, and so the outputs, come nearer on samples that took no part, epoch by epoch the same."""
    model = build(NET)
    original, student = analyse(model, {"N": 8}), Student(analyse(damaged(model, 0), {"N": 8}), everything)
    found = jointly(original, student, batches(), epochs=20, seed=1)
    assert found is not None
    assert found.better
    assert found.after < 0.5 * found.before
    again = jointly(original, student, batches(), epochs=20, seed=1)
    assert again is not None
    assert all(np.array_equal(array, again.values[name]) for name, array in found.values.items())
    feed = batches(1, seed=9)[0]
    wanted, before, after = (
        Session(m.to_bytes()).run(feed)["y"]
        for m in (model, damaged(model, 0), with_weights(damaged(model, 0), found.values))
    )
    assert np.square(after - wanted).sum() < 0.5 * np.square(before - wanted).sum()


def test_the_zeros_of_a_mask_stay() -> None:
    """Where weights are masked, no step touches what is zero."""
    model = build(NET)
    masked = damaged(model, 0.5)
    found = jointly(analyse(model, {"N": 8}), Student(analyse(masked, {"N": 8}), everything, masked=True), batches())
    assert found is not None
    assert found.better
    for name in ("A", "C"):
        assert np.array_equal(found.values[name] == 0, masked.array(name) == 0)


def test_it_ends_early_where_it_gets_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that are far too long double the error at once; the epochs that are left are not waited for."""
    model = build(NET)
    steps: list[int] = []
    monkeypatch.setattr(joint, "RATE", 50.0)
    found = jointly(
        analyse(model, {"N": 8}), Student(analyse(damaged(model, 0), {"N": 8}), everything), batches(),
        epochs=20, watch=lambda done, of: steps.append(of),
    )  # fmt: skip
    assert found is not None
    assert not found.better
    assert joint.WARM <= len(steps) < steps[0] // 2


def test_where_slopes_end_is_told() -> None:
    """What lies in front of such an operator learns nothing from what is behind it."""
    stopped = Joint({}, 1.0, 0.5, 3, ("MaxPool", "Resize"))
    told = Together(analyse(build(NET)), stopped).told
    assert len(told) == 2
    assert told[1].startswith("no slopes lead back through MaxPool, Resize: ")


def test_nothing_is_learnt_where_nothing_can_be() -> None:
    """No layer whose weights are floats; or nothing that both models have."""
    model = build("x[N,4] -> y\ny = Relu(x)")
    assert (
        jointly(analyse(model, {"N": 8}), Student(analyse(model, {"N": 8}), everything), [{"x": np.ones((8, 4))}])
        is None
    )


@pytest.mark.parametrize(
    "options",
    [
        {"target": "macs=0.6", "round_to": "1", "granularity": "channel", "criterion": "l2", "allocation": "uniform"},
        {"granularity": "1:4", "criterion": "l1"},
        {"granularity": "branch", "sparsity": 0.2},
    ],
)
def test_a_whole_run_is_proven(models: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    """Channels and masks: refitted together, the file is still the cut of what it is said to be. Branches, too."""
    with np.load(models / "cifar10_calibration.npz") as found:
        np.savez(tmp_path / "few.npz", **{name: found[name][:96] for name in found})
    (tmp_path / "data.toml").write_bytes((models / "data.toml").read_bytes())
    samples = str(tmp_path / "few.npz")
    made = api.prune(models / "cifar10_resnet20.onnx", calibration=samples, recover="joint", rounds=0, **options)
    report = made.report
    assert report.verified == (options["granularity"] != "branch")  # which no silence can tell of
    assert report.joint_error_before is not None
    assert report.joint_error_after is not None
    assert report.joint_error_after < report.joint_error_before
    assert any(note.startswith("refitted all layers together, 12 passes") for note in report.notes)


def test_it_wants_real_samples(models: Path) -> None:
    """As every fit does."""
    with pytest.raises(UsageError, match="--recover joint fits the model to calibration samples, and there are none"):
        api.prune(models / "cifar10_resnet20.onnx", recover="joint", sparsity=0.2, rounds=0)
