"""Layers of many inputs are solved from rows, live tensors beyond a limit lie in files: the results are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from onnxprune import api
from onnxprune.dependency import analyse
from onnxprune.layers import layers_of
from onnxprune.model import Model
from onnxprune.recovery import evidence, reconstruct, spilling, wide
from onnxprune.recovery.affine import affine
from onnxprune.recovery.clipping import Rows
from onnxprune.recovery.leastsquares import Normal, solve
from onnxprune.recovery.reconstruct import Start, repaired
from onnxprune.recovery.spilling import Shelf
from onnxprune.recovery.stepping import Stepper
from onnxprune.recovery.wide import Wide
from onnxprune.testing import build
from tests.test_repair_forms import fed, halved

Float = npt.NDArray[np.float64]


def problem(count: int, inputs: int, outputs: int = 3) -> tuple[Wide, Normal, Float]:
    """Rows whose inputs have much in common, a bias behind them, as blocks of rows and as normal equations."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, count, inputs)) + 2 * rng.standard_normal((2, count, 1)) + 1.5
    x[..., -1] = 1
    y = x @ rng.standard_normal((2, inputs, outputs)) + 0.1 * rng.standard_normal((2, count, outputs))
    normal, parts = Normal.empty(2, inputs, outputs), []
    for k in range(0, count, 50):
        seen, wanted = (part[:, k : k + 50].astype(np.float32) for part in (x, y))
        normal.add(Normal.of(seen, wanted))
        parts.append(Rows(seen, wanted, np.zeros((1, 1, 1), np.float32)))
    return Wide(parts), normal, rng.standard_normal((2, outputs, inputs))


@pytest.mark.parametrize("masked", ["nothing", "the same everywhere", "each output by itself"])
def test_rows_come_to_what_the_whole_does(monkeypatch: pytest.MonkeyPatch, masked: str) -> None:
    """Of correlated inputs, masks, two groups and a bias: the error is that of one solution of all."""
    monkeypatch.setattr(wide, "BLOCK", 16)
    rows, normal, begin = problem(300, 41)
    keep = np.ones(begin.shape, np.bool_)
    if masked != "nothing":
        shape = (2, 1, 41) if masked == "the same everywhere" else begin.shape
        keep &= np.random.default_rng(1).random(shape) < 0.7
        keep[..., -1] = True
    found, expected = rows.least(begin, keep, 1), solve(normal, begin, keep, 1)
    assert not found[~keep].any()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert normal.error(found) < 1.001 * normal.error(expected)
    assert rows.error(found) == pytest.approx(normal.error(found), rel=1e-3)
    assert rows.energy() == pytest.approx(normal.energy(), rel=1e-5)
    assert rows.rows == normal.rows == 300


def test_fewer_rows_than_inputs_stay_sane(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is fitted exactly anyway is fitted near to where it began."""
    monkeypatch.setattr(wide, "BLOCK", 64)
    rows, _, begin = problem(50, 201)
    found = rows.least(begin, np.ones(begin.shape, np.bool_), 1)
    assert rows.error(found) < 1e-3 * rows.energy()
    assert np.linalg.norm(found - begin) < 1.2 * np.linalg.norm(begin)


@pytest.mark.parametrize("free", [0, 1])
def test_scales_are_the_same_of_rows_and_of_moments(free: int) -> None:
    """Norms are refitted from sums over outputs, whichever way these are made."""
    rows, normal, begin = problem(300, 21)
    layer = halved(build("x[N,5,3] -> y; h = MatMul(x, W[3,8]); y = MatMul(h, V[8,4])"))[0]
    start = Start(layers_of(layer)[0], begin, begin, np.ones(begin.shape, np.bool_), free)
    np.testing.assert_allclose(affine(rows, start)[0], affine(normal, start)[0], rtol=1e-3, atol=1e-4)


def test_a_layer_is_repaired_from_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no room for its second moments it comes to the same, and to no more rows than there is room for."""
    model = build("x[N,3,6,6] -> y; h = Conv(x, W[8,3,1,1]); y = Conv(h, V[4,8,3,3], B[4])")
    analysis, _, pruned = halved(model)
    whole = repaired(analysis, pruned, fed(model))
    monkeypatch.setattr(evidence, "MOMENTS_HELD", 1000)
    monkeypatch.setattr(wide, "BLOCK", 20)
    by_rows = repaired(analysis, pruned, fed(model))
    assert [repair.kept for repair in by_rows.repairs] == [True]
    assert whole.repairs[0].after < 0.01
    assert by_rows.repairs[0].after < 0.03
    monkeypatch.setattr(evidence, "ROWS_HELD", 3000)
    sizes: list[int] = []

    def least(self: Wide, weights: Float, *_: object) -> Float:
        sizes.append(sum(part.seen.nbytes for part in self.parts))
        return weights

    monkeypatch.setattr(Wide, "least", least)
    repaired(analysis, pruned, fed(model))
    assert sizes
    assert max(sizes) < 2 * 3000


def test_too_many_masks_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide layer whose outputs each have a mask of their own is left as it is, where that is too much work."""
    model = build("x[N,5,3] -> y; h = MatMul(x, W[3,8]); y = MatMul(h, V[8,4])")
    analysis, _, pruned = halved(model)
    monkeypatch.setattr(evidence, "MOMENTS_HELD", 100)
    monkeypatch.setattr(reconstruct, "WORK", 100.0)
    assert list(repaired(analysis, pruned, fed(model)).left.values()) == [
        "its 8 inputs are too many for a mask of its own for each output"
    ]


def test_a_shelf_holds_what_it_may_and_files_the_rest() -> None:
    """The same arrays come back; what is dropped makes room, and its file goes."""
    shelf = Shelf(limit=100)
    arrays = [np.arange(10, dtype=np.float32) + k for k in range(5)]
    for number, array in enumerate(arrays):
        shelf.put((number, "a"), array)
    assert (shelf.held, shelf.spilled) == (80, 3)
    for number, array in enumerate(arrays):
        assert np.array_equal(shelf[number, "a"], array)
    folder = Path(shelf.folder)
    assert len(list(folder.iterdir())) == 3
    shelf.drop([(0, "a"), (3, "a"), (9, "a")])
    assert (shelf.held, shelf.spilled, len(list(folder.iterdir()))) == (40, 2, 2)
    shelf.put((0, "b"), arrays[0])
    assert (shelf.held, shelf.spilled) == (80, 2)
    shelf.put((1, "text"), np.array(["one", "another"] * 20, dtype=object))
    shelf.put((1, "nothing"), np.zeros((0, 3)))
    assert shelf.spilled == 2
    del shelf
    assert not folder.exists()


@pytest.mark.parametrize("dtype", ["float16", "int64", "bool", "bfloat16"])
def test_files_keep_the_type(dtype: str) -> None:
    """Also one that numpy has from elsewhere."""
    import ml_dtypes

    array = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    shelf = Shelf(limit=1)
    shelf.put((0, "a"), array)
    assert shelf.spilled == 1
    assert shelf[0, "a"].dtype == array.dtype
    assert np.array_equal(shelf[0, "a"], array)


def test_a_model_runs_on_from_files(monkeypatch: pytest.MonkeyPatch, models: Path) -> None:
    """Piece by piece, with next to nothing in memory, the tensors are those of a run that holds them all."""
    model = Model.load(models / "kws_dscnn.onnx")
    dtypes = analyse(model).shapes.dtype
    shape = [2, 1, 49, 10]
    batches = [{model.inputs[0].name: np.random.default_rng(k).standard_normal(shape).astype(np.float32)}
               for k in range(3)]  # fmt: skip
    stops = [frozenset({node.outputs[0]}) for node in model.nodes if node.op_type == "Conv"]

    def run() -> list[list[Any]]:
        stepper = Stepper(model, batches, stops, dtypes)
        return [[np.array(batch[name]) for batch in stepper.step() for name in stop] for stop in stops]

    expected = run()
    monkeypatch.setattr(spilling, "LIMIT", 1)
    for ours, theirs in zip(run(), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_repair_from_rows_and_from_files_is_verified(
    monkeypatch: pytest.MonkeyPatch, models: Path, tmp_path: Path
) -> None:
    """All together, on a real model: as good as without, within a little."""
    options: dict[str, Any] = {"target": "macs=0.6", "allocation": "global", "rounds": 0, "round_to": "1",
               "calibration": str(models / "cifar10_calibration.npz"), "samples": 96}  # fmt: skip
    source, out = models / "cifar10_resnet20.onnx", tmp_path / "o.onnx"
    plain = api.prune(source, **options).report
    monkeypatch.setattr(evidence, "MOMENTS_HELD", 8 * 500**2)
    monkeypatch.setattr(wide, "ROWS", 1000)
    monkeypatch.setattr(wide, "BLOCK", 100)
    monkeypatch.setattr(spilling, "LIMIT", 1 << 20)
    report = api.prune(source, out, **options).report
    assert report.verified
    assert api.verify(source, out).passed
    assert report.reconstruction_error is not None
    assert plain.reconstruction_error is not None
    assert report.reconstruction_error < 1.2 * plain.reconstruction_error
