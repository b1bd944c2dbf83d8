"""Without any data, norms say what real inputs are like: synthetic inputs, and a stand-in that they suit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxprune as package
from onnxprune.dependency import analyse
from onnxprune.errors import UsageError
from onnxprune.model import Edit, Model
from onnxprune.noise import random_samples
from onnxprune.pictures import pictures
from onnxprune.preprocess import Preprocess
from onnxprune.recovery import norms_of, put_back, shift_of, stand_in
from onnxprune.runtime.session import Session
from onnxprune.testing import build

NORMED = """
    x[N,3,8,8] -> y, b, d
    a = Conv<pads=[1,1,1,1]>(x, A[8,3,3,3]); b = BatchNormalization(a, G[8], B[8], M[8], V[8]{})
    r = Relu(b); c = Conv(r, C[6,8,1,1]); d = BatchNormalization(c, H[6], D[6], N[6], W[6]{})
    s = Relu(d); g = GlobalAveragePool(s); f = Flatten(g); y = Gemm(f, L[6,4])
"""


def normed(outputs: str = "y, b, d") -> Model:
    """Two norms, whose outputs are outputs of the model where nothing else is said, with variances that are such."""
    numbers = ",".join("1.0" for _ in range(8)), ",".join("2.0" for _ in range(6))
    text = NORMED.replace("y, b, d", outputs)
    return build(text.replace("V[8]{}", f"V{{{numbers[0]}}}[8]").replace("W[6]{}", f"W{{{numbers[1]}}}[6]"))


@pytest.mark.parametrize("sizes", [(32, 32), (5, 40), (64,), (8, 8, 8), (1, 7)], ids=str)
def test_pictures_are_smooth_and_of_one_scale(sizes: tuple[int, ...]) -> None:
    """Mean 0 and variance 1, neighbours alike, channels too; the same for the same seed."""
    found = pictures(64, 3, sizes, np.random.default_rng(1))
    assert found.shape == (64, 3, *sizes)
    assert abs(found.mean()) < 0.3
    assert found.std() == pytest.approx(1, abs=0.2)
    along = int(np.argmax(sizes)) + 2
    one, other = (np.take(found, range(k, found.shape[along] - 1 + k), along).ravel() for k in (0, 1))
    assert np.corrcoef(one, other)[0, 1] > 0.5
    assert np.corrcoef(found[:, 0].ravel(), found[:, 1].ravel())[0, 1] > 0.6
    assert np.array_equal(found, pictures(64, 3, sizes, np.random.default_rng(1)))


def test_channels_are_where_the_axis_is_shortest() -> None:
    """Images as they are stored in either layout, signals, and rows of features, for which there is nothing to draw."""
    model = build(
        "a[N,3,16,16], b[N,16,16,3], c[N,2,40], d[N,9] -> y\nr = Relu(a); s = Relu(b); t = Relu(c); y = Relu(d)"
    )
    drawn = random_samples(model, analyse(model).shapes.sizes, 32, kind="synthetic")
    assert {name: array.shape[1:] for name, array in drawn.arrays.items()} == {
        "a": (3, 16, 16), "b": (16, 16, 3), "c": (2, 40), "d": (9,)}  # fmt: skip
    for name, axis in (("a", 3), ("b", 1), ("c", 2)):
        array = np.moveaxis(drawn.arrays[name], axis, -1)
        assert np.corrcoef(array[..., 1:].ravel(), array[..., :-1].ravel())[0, 1] > 0.6, name
    assert (drawn.source, drawn.noise) == ("synthetic", False)


def test_synthetic_pixels_go_through_the_preprocessing() -> None:
    model = build("x[N,3,16,16] -> y\ny = Relu(x)")
    how = Preprocess(layout="NCHW", scale=1 / 255, mean=(1.0,))
    sizes = analyse(model).shapes.sizes
    found = random_samples(model, sizes, 16, preprocess=how, kind="synthetic").arrays["x"]
    assert -1 <= found.min() < found.max() <= 0
    assert found.mean() == pytest.approx(-0.5, abs=0.1)
    with pytest.raises(UsageError, match=r"synthetic: input 'x': mean in the preprocessing has 2 values"):
        random_samples(model, sizes, 5, preprocess=Preprocess(layout="NCHW", mean=(0.0, 1.0)), kind="synthetic")


def test_behind_each_norm_moments_are_the_stored_ones() -> None:
    """Whatever goes in: gamma and beta are the deviation and the mean of what a norm makes."""
    analysis = analyse(normed())
    x = (7 + 3 * np.random.default_rng(0).standard_normal((64, 3, 8, 8))).astype(np.float32)
    shift = shift_of(analysis, [{"x": x[:40]}, {"x": x[40:]}])
    assert shift.keys() == {"M", "V", "N", "W"}
    made = Session(stand_in(analysis, shift).model.to_bytes()).run({"x": x})
    for name, gamma, beta in (("b", "G", "B"), ("d", "H", "D")):
        values = made[name].astype(np.float64)
        wanted = np.abs(analysis.model.array(gamma))
        np.testing.assert_allclose(values.mean(axis=(0, 2, 3)), analysis.model.array(beta), atol=1e-4)
        np.testing.assert_allclose(values.std(axis=(0, 2, 3)), wanted, rtol=1e-3)


def test_what_is_put_back_is_the_models_own() -> None:
    """The shift goes off again; what a repair changed beside it stays changed."""
    analysis = analyse(normed())
    shift = shift_of(analysis, [{"x": np.ones((4, 3, 8, 8), np.float32)}])
    there = stand_in(analysis, shift).model
    repaired = {"M": there.array("M") + 0.5, "A": 2 * there.array("A")}
    found = put_back(repaired, shift)
    np.testing.assert_allclose(found["M"], analysis.model.array("M") + 0.5, atol=1e-5)
    np.testing.assert_array_equal(found["A"], 2 * analysis.model.array("A"))
    assert stand_in(analysis, {}) is analysis


def test_norms_that_cannot_be_moved_are_left_alone() -> None:
    """Statistics that two norms share are those of neither input."""
    analysis = analyse(normed())
    edit = Edit(analysis.model)
    second = norms_of(analysis)[1]
    text = NORMED.replace("N[6], W[6]{}", "M, V").replace("V[8]{}", "V[8]")
    shared = build(text.replace("C[6,8", "C[8,8").replace("[6]", "[8]").replace("L[6,4]", "L[8,4]"))
    assert [node.outputs for node in norms_of(analysis)] == [("b",), ("d",)]
    assert norms_of(analyse(shared)) == []
    edit.set_attribute(second.index, "training_mode", 1)
    assert [node.outputs for node in norms_of(analyse(edit.done()))] == [("b",)]


def test_without_norms_there_is_nothing_to_match(models: Path) -> None:
    with pytest.raises(UsageError, match=r"synthetic: there is nothing to match.*kws_dscnn.*--recover merge"):
        package.prune(models / "kws_dscnn.onnx", sparsity=0.3, calibration="synthetic")


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({"target": "macs=0.6667", "round_to": 1, "steps": 2}, 0.7),  # 0.61 unrepaired, in one step
        ({"granularity": "1:4"}, 0.5),  # 0.13 unrepaired
    ],
    ids=["channels", "masks"],
)
def test_without_data_accuracy_comes_back(models: Path, tmp_path: Path, options: dict[str, Any], least: float) -> None:
    """Repaired on drawn inputs alone, a model is far better than left as it was cut; and it is proven."""
    source, out = models / "cifar10_resnet20_bn.onnx", tmp_path / "o.onnx"
    report = package.prune(
        source, out, calibration="synthetic:32", criterion="l2", rounds=0,
        evaluate=str(models / "cifar10_test.npz"), **options,
    ).report  # fmt: skip
    assert report.metric_after is not None
    assert report.metric_after > least
    assert report.recovery == "reconstruct"
    assert any("32 synthetic inputs, for which 19 batch norms say" in note for note in report.notes)
    assert package.verify(source, out).passed


@pytest.mark.parametrize(("model", "told"), [("cifar10_resnet20_bn", True), ("cifar10_resnet20", False)])
def test_who_has_no_data_hears_of_norms(models: Path, model: str, told: bool) -> None:
    """Where norms are left, synthetic inputs are the remedy that needs nothing."""
    report = package.prune(models / f"{model}.onnx", sparsity=0.3, rounds=0).report
    assert any("--calibration synthetic" in note for note in report.notes) == told


def test_curves_are_those_of_the_stand_in(desk: Path) -> None:
    """The same inputs from a file are taken for real, and say something else of a model that they do not suit."""
    model = normed("y")
    analysis = analyse(model)
    drawn = random_samples(model, analysis.shapes.sizes, 32, kind="synthetic")
    np.savez("drawn.npz", x=drawn.arrays["x"])
    shift = shift_of(analysis, list(drawn.batches(32)))
    stand_in(analysis, shift).model.save(desk / "there.onnx")
    own = package.sensitivity(model, calibration="synthetic:32", criterion="l2")
    there, here = (
        package.sensitivity(m, calibration="drawn.npz", criterion="l2") for m in (desk / "there.onnx", model)
    )
    losses = [[point.loss for group in found.groups for point in group.points] for found in (own, there, here)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert not np.allclose(losses[0], losses[2], rtol=1e-2)
