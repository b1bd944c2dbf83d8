"""What was computed once is found again for the same model, samples and request, and for nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune.calibration import Cache, collect, collecting
from onnxprune.calibration.cache import VARIABLE
from onnxprune.data import Samples
from onnxprune.dependency import analyse
from onnxprune.layers import layers_of
from onnxprune.model import Model
from onnxprune.statistics import Gram, Maps, Moments, Pooled, Request, Statistics
from onnxprune.testing import build
from tests.calibration.test_grams import samples_for

TEXT = "x[N,3,4] -> y\nt = Relu(x)\ny = MatMul(t, W[4,6])"


class Counted:
    """Collects, and counts the batches that were run for it."""

    def __init__(self, folder: Path, limit: int = 1 << 20) -> None:
        self.cache, self.runs = Cache(folder, limit), 0

    def __call__(self, model: Model, samples: Samples, seed: int = 0) -> Statistics:
        analysis = analyse(model)
        (layer,) = layers_of(analysis)
        requests: list[Request] = [Gram(layer), Moments("t", 2), Pooled("t", 2), Maps("t", 2, 2)]
        self.runs = 0
        return collect(analysis, samples, requests, watch=self.count, cache=self.cache, seed=seed)

    def count(self, what: str, done: int, total: int) -> None:
        self.runs += 1


def test_what_is_stored_is_not_computed_again(tmp_path: Path) -> None:
    """All four kinds come back as they were, without a run."""
    ask, model = Counted(tmp_path / "new"), build(TEXT)
    first = ask(model, samples_for(model))
    assert ask.runs > 0
    again = ask(model, samples_for(model))
    assert ask.runs == 0
    for request, answer in first.answers.items():
        other = again.answers[request]
        pairs: Iterable[tuple[Any, Any]] = [(answer, other)] if isinstance(answer, np.ndarray) else zip(
            vars(answer).values(), vars(other).values(), strict=True
        )  # fmt: skip
        assert all(np.array_equal(a, b) for a, b in pairs)
    assert not list(tmp_path.glob("new/*.part"))


def test_another_model_sample_or_choice_is_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight, a value or the bound of rows that differs makes a statistic of its own."""
    monkeypatch.setattr(collecting, "ROWS", 4)
    monkeypatch.setattr(collecting, "FEWEST_ROWS", 2)
    ask, model = Counted(tmp_path), build(TEXT)
    ask(model, samples_for(model))
    for other, samples, seed in ((build(TEXT, seed=1), samples_for(model), 0), (model, samples_for(model, seed=1), 0),
                                 (model, samples_for(model, 4), 0), (model, samples_for(model), 1)):  # fmt: skip
        ask(other, samples, seed)
        assert ask.runs > 0


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a zip", None])
def test_a_damaged_file_is_as_if_it_were_not_there(tmp_path: Path, damage: bytes | None) -> None:
    """It is computed again, and replaced."""
    ask, model = Counted(tmp_path), build(TEXT)
    ask(model, samples_for(model))
    for path in tmp_path.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    ask(model, samples_for(model))
    assert ask.runs > 0
    ask(model, samples_for(model))
    assert ask.runs == 0


def test_a_folder_that_cannot_be_written_to_is_no_failure(tmp_path: Path) -> None:
    """The numbers are there; they will be computed again."""
    (tmp_path / "file").write_text("here")
    ask, model = Counted(tmp_path / "file"), build(TEXT)
    assert ask(model, samples_for(model)).samples == 5


def test_the_cache_is_bounded_and_forgets_what_was_not_used_for_longest(tmp_path: Path) -> None:
    """Reading counts as use."""
    import os

    cache = Cache(tmp_path, 3000)
    for number, name in enumerate("abc"):
        cache.put(name, {"x": np.zeros(100)})
        os.utime(tmp_path / f"{name}.npz", (number, number))
    assert cache.get("a") is not None
    cache.trim()
    assert {path.stem for path in tmp_path.iterdir()} == {"a", "c"}


def test_the_environment_says_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder by name, the user's folder for caches, or nowhere."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert Cache.of_user() == Cache(tmp_path)
    monkeypatch.setenv(VARIABLE, "")
    assert Cache.of_user() is None
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Cache.of_user() == Cache(tmp_path / "onnxprune")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Cache.of_user() == Cache(tmp_path / ".cache" / "onnxprune")
