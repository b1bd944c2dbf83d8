"""What `models/` promises: origin, licence and checksum of every file, and accuracies that can be measured again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest

from onnxprune.data import load
from onnxprune.evaluation import evaluation
from tools import make_models

FILES = [entry for entries in make_models.manifest().values() for entry in entries]
JUDGED = [entry for entry in make_models.manifest()["model"] if "accuracy" in entry]


def test_every_file_is_the_one_that_the_manifest_describes(root: Path) -> None:
    """The checking tool finds no difference and says so."""
    run = subprocess.run(
        [sys.executable, "tools/make_models.py"], cwd=root, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (0, "models/ is what its manifest says\n")


@pytest.mark.parametrize("entry", FILES, ids=lambda entry: entry["name"])
def test_every_file_has_an_origin_and_a_licence(entry: dict[str, str]) -> None:
    """No file lies here whose source or terms are unknown."""
    assert all(entry.get(key) for key in ("name", "file", "origin", "licence", "sha256"))


def test_the_folder_stays_small(models: Path) -> None:
    """A clone does not have to fetch more than about 10 MiB of models and data."""
    assert sum(path.stat().st_size for path in models.iterdir()) < 10.5 * 2**20


@pytest.mark.parametrize("entry", JUDGED, ids=lambda entry: entry["name"])
def test_stored_accuracy_is_measured_again(entry: dict[str, str], models: Path) -> None:
    """ONNX Runtime reaches the manifest's top-1 on the stored test images, give or take one image."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    session = ort.InferenceSession(models / entry["file"], options, providers=["CPUExecutionProvider"])
    inputs = [
        SimpleNamespace(name=i.name, dtype=np.dtype(np.float32), shape=tuple(i.shape)) for i in session.get_inputs()
    ]
    names = [output.name for output in session.get_outputs()]
    judge = evaluation(str(models / "cifar10_test.npz"), inputs, models / entry["preprocess"])
    metrics = judge(lambda feeds: dict(zip(names, session.run(None, dict(feeds)), strict=True)))
    assert metrics["top1"] == pytest.approx(float(entry["accuracy"]), abs=1.5 / 1017)


def test_images_are_scaled_as_the_networks_were_trained(models: Path) -> None:
    """The float32 input is (x / 255 - mean) / std of the stored pixel, channels first, to the last bit of float64."""
    wanted = SimpleNamespace(name="input", dtype=np.dtype(np.float32), shape=("N", 3, 32, 32))
    samples = load(str(models / "cifar10_calibration.npz"), [wanted])
    pixels = np.load(models / "cifar10_calibration.npz")["input"].astype(np.float64)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = ((pixels * (1 / 255) - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)
    assert len(samples) == 256
    assert np.array_equal(samples.arrays["input"], expected)
