"""Repair: what is refitted is nearer to the original, is proven like any cut, and is left alone where it is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune import api
from onnxprune.data import load
from onnxprune.dependency import analyse
from onnxprune.errors import UsageError
from onnxprune.layers import layers_of
from onnxprune.model import Edit, Model
from onnxprune.passes.analyse import Analyse
from onnxprune.passes.mask import Mask
from onnxprune.passes.recover import Recover
from onnxprune.recovery.leastsquares import Normal, solve
from onnxprune.recovery.refitting import SOLVERS
from onnxprune.recovery.rows import unfolding
from onnxprune.repairs import FITTED
from onnxprune.runtime.session import Session
from onnxprune.testing import build
from onnxprune.unit import Unit

QUICK: dict[str, Any] = {"rounds": 0, "round_to": "1"}
LAYERS = {
    "conv": "x[N,4,7,6] -> y\ny = Conv<pads=[1,0,1,2], strides=[2,1], dilations=[1,2]>(x, W[6,4,3,3], B[6])",
    "grouped conv": "x[N,4,6,6] -> y\ny = Conv<group=2, pads=[1,1,1,1]>(x, W[6,2,3,3])",
    "same conv": 'x[N,4,7,7] -> y\ny = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, W[6,4,3,3])',
    "conv 1d": "x[N,4,9] -> y\ny = Conv<pads=[2,1]>(x, W[6,4,3])",
    "transposed conv": (
        "x[N,4,5,5] -> y\ny = ConvTranspose<strides=[2,2], pads=[1,0,1,1], output_padding=[1,0]>(x, W[4,3,3,3])"
    ),
    "grouped transposed conv": "x[N,4,5,5] -> y\ny = ConvTranspose<group=2, dilations=[2,1]>(x, W[4,3,3,2])",
    "transposed conv of as many steps": (
        'x[N,4,5,5] -> y\ny = ConvTranspose<auto_pad="SAME_UPPER", strides=[2,2]>(x, W[4,3,3,3])'
    ),
    "transposed conv, more in front": (
        'x[N,4,5,5] -> y\ny = ConvTranspose<auto_pad="SAME_LOWER", strides=[2,2]>(x, W[4,3,3,3])'
    ),
    "transposed conv of a given size": (
        "x[N,4,5,5] -> y\ny = ConvTranspose<output_shape=[10,9], strides=[2,2]>(x, W[4,3,3,3])"
    ),
    "transposed conv of the largest size": (
        "x[N,4,5,5] -> y\ny = ConvTranspose<output_shape=[11,10], strides=[2,2]>(x, W[4,3,3,3])"
    ),
    "gemm": "x[N,4] -> y\ny = Gemm<transB=1>(x, W[6,4], B[6])",
    "matmul": "x[N,3,4] -> y\ny = MatMul(x, W[4,6])",
    "batched matmul": "x[2,3,4] -> y\ny = MatMul(x, W[2,4,6])",
    "batched matmul of shared data": "x[3,4] -> y\ny = MatMul(x, W[2,4,6])",
    "batched matmul of some shared data": "x[N,1,3,4] -> y\ny = MatMul(x, W[2,4,6])",
    "matmul of batches in two places": "x[5,2,3,4] -> y\ny = MatMul(x, W[5,1,4,6])",
}


@pytest.mark.parametrize("name", LAYERS)
def test_rows_times_weights_is_what_the_layer_makes(name: str) -> None:
    """Whatever its geometry, the rows of a layer times its matrix are the runtime's outputs, at the same positions."""
    model = build(LAYERS[name])
    (layer,) = layers_of(analyse(model))
    shape = [2 if not isinstance(n, int) else n for n in model.inputs[0].shape or ()]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    y = Session(model.to_bytes()).run({"x": x})["y"]
    for limit in (3, 1000):
        found = unfolding(layer, model.nodes[layer.node], limit)
        assert found is not None
        matrix = layer.matrix(model.array("W")).reshape(*layer.shape[:2], -1)
        made = found.rows(x) @ np.swapaxes(matrix, 1, 2)
        if layer.bias:
            made = made + model.array("B").reshape(layer.shape[0], 1, -1)
        np.testing.assert_allclose(made, found.made(y), rtol=1e-4, atol=1e-5)


def test_masked_least_squares_is_the_least() -> None:
    """Row by row the same as numpy's least squares on the columns that stay; the error is that of the residual."""
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((1, 200, 6)), generator.standard_normal((1, 200, 3))
    keep = generator.random((1, 3, 6)) < 0.6
    keep[..., 0] = True
    normal = Normal.empty(1, 6, 3)
    normal.add(Normal.of(x, y))
    found = solve(normal, np.zeros((1, 3, 6)), keep, ridge=0.0)
    for row in range(3):
        at = keep[0, row]
        expected = np.linalg.lstsq(x[0][:, at], y[0, :, row], rcond=None)[0]
        np.testing.assert_allclose(found[0, row, at], expected, rtol=1e-6, atol=1e-9)
        assert not found[0, row, ~at].any()
    residual = np.square(x[0] @ found[0].T - y[0]).sum()
    assert normal.error(found) == pytest.approx(residual, rel=1e-9)


def test_dead_and_equal_inputs_do_no_harm() -> None:
    """A rank-deficient problem has a solution of its own size."""
    x = np.random.default_rng(0).standard_normal((1, 50, 4))
    x[..., 2], x[..., 3] = 0, x[..., 1]
    normal = Normal.empty(1, 4, 1)
    normal.add(Normal.of(x, x[..., 1:2] * 2))
    found = solve(normal, np.zeros((1, 1, 4)), np.ones((1, 1, 4), np.bool_))
    assert np.abs(found).max() < 3
    assert normal.error(found) < 1e-3 * normal.outer.sum()


@pytest.fixture
def calibration(models: Path) -> str:
    return str(models / "cifar10_calibration.npz")


def test_every_repair_by_name_is_there() -> None:
    """`joint` goes on from `reconstruct`; the others are solvers of single layers."""
    assert set(FITTED) == {*SOLVERS, "joint"}


@pytest.mark.parametrize("model", ["cifar10_resnet20", "cifar10_resnet20_bn"])
def test_a_repair_brings_accuracy_back_and_is_verified(
    models: Path, tmp_path: Path, calibration: str, model: str
) -> None:
    """Half the MACs without repair is worth little; refitted, most comes back; the file is verified, now and later."""
    source, out = models / f"{model}.onnx", tmp_path / "o.onnx"
    options: dict[str, Any] = {"target": "macs=0.5", "allocation": "global", "calibration": calibration, "samples": 96,
               "evaluate": str(models / "cifar10_test.npz"), **QUICK}  # fmt: skip
    bare = api.prune(source, recover="none", **options).report
    report = api.prune(source, out, **options).report
    assert report.verified
    assert report.recovery == "reconstruct"
    assert bare.metric_after is not None
    assert report.metric_after is not None
    assert report.metric_after > bare.metric_after + 0.3
    assert report.reconstruction_error is not None
    assert report.reconstruction_error_before is not None
    assert report.reconstruction_error < report.reconstruction_error_before
    assert all(repair.after < repair.before for repair in report.repairs if repair.kept)
    assert api.verify(source, out).passed


def test_masks_are_repaired_where_they_are(models: Path, tmp_path: Path, calibration: str) -> None:
    """2:4 stays 2:4, chosen anew on the pruned inputs, and accuracy is that of the original, within a few points."""
    source, out = models / "cifar10_resnet20.onnx", tmp_path / "o.onnx"
    report = api.prune(
        source, out, granularity="2:4", criterion="sparsegpt", calibration=calibration, samples=96, rounds=0,
        evaluate=str(models / "cifar10_test.npz"),
    ).report  # fmt: skip
    assert report.metric_after is not None
    assert report.metric_after > 0.88
    assert report.recovery == "reconstruct"
    assert api.verify(source, out).passed


@pytest.mark.parametrize("method", ["norm", "merge"])
def test_other_repairs_are_verified(models: Path, tmp_path: Path, calibration: str, method: str) -> None:
    """Scale and bias alone, and folding without data."""
    source, out = models / "cifar10_resnet20.onnx", tmp_path / "o.onnx"
    data: dict[str, Any] = {} if method == "merge" else {"calibration": calibration, "samples": 64}
    report = api.prune(source, out, target="macs=0.8", allocation="global", recover=method, **data, **QUICK).report
    assert report.verified
    assert report.recovery == method
    assert (report.folded > 0) == (method == "merge")
    assert api.verify(source, out).passed


def test_without_data_nothing_is_refitted(models: Path) -> None:
    """What needs samples says so; random ones are refused, unless asked for."""
    source = models / "kws_dscnn.onnx"
    with pytest.raises(UsageError, match=r"there are none.*--recover merge"):
        api.prune(source, recover="reconstruct", **QUICK)
    with pytest.raises(UsageError, match=r"random samples make it worse.*--from-noise"):
        api.prune(source, recover="reconstruct", calibration="random:8", **QUICK)
    assert api.prune(source, **QUICK).report.recovery is None
    assert api.prune(source, recover="reconstruct", calibration="random:32", from_noise=True, **QUICK).report.verified


def test_a_changed_file_is_noticed_after_a_repair(models: Path, tmp_path: Path, calibration: str) -> None:
    """A graph that does something else with the repaired weights is not verified."""
    source, out = models / "cifar10_resnet20.onnx", tmp_path / "o.onnx"
    api.prune(source, out, target="macs=0.7", calibration=calibration, samples=32, **QUICK)
    model = Model.load(out)
    gemm = next(node for node in model.nodes if node.op_type == "Gemm")
    edit = Edit(model)
    edit.set_attribute(gemm.index, "alpha", 2.0)
    assert not api.verify(source, edit.done()).passed


def test_samples_that_repair_do_not_judge(models: Path) -> None:
    """Held-out batches are told apart, and there is one of two."""
    from onnxprune.recovery.evidence import is_held_out

    assert [is_held_out(k, 8) for k in range(8)].count(True) == 1
    assert [is_held_out(k, 2) for k in range(2)] == [False, True]
    assert not is_held_out(0, 1)
    assert (
        len(load(str(models / "cifar10_calibration.npz"), Model.load(models / "cifar10_resnet20.onnx").inputs)) == 256
    )


def test_a_second_repair_aims_at_the_original_too(models: Path, calibration: str) -> None:
    """Repaired biases are no part of what is aimed at: nothing is left to do, so nothing is made worse."""
    unit = Analyse().run(Unit(source=Model.load(models / "cifar10_resnet20.onnx")))
    samples = load(calibration, unit.source.inputs)
    unit = Mask("1:4", criterion="l2", include=("*layer3*",)).run(replace(unit, samples=samples))
    once = Recover(recover="reconstruct").run(unit)
    twice = Recover(recover="reconstruct").run(once)
    assert once.recovery is not None
    assert twice.recovery is not None
    assert once.recovery.after is not None
    assert twice.recovery.after is not None
    assert twice.recovery.after.relative == pytest.approx(once.recovery.after.relative, rel=0.02)
