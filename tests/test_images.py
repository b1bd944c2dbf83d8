"""A folder of images is decoded, sized and labelled as its preprocessing and its sub-folders say."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune.data import Array, load
from onnxprune.errors import UsageError
from onnxprune.preprocess import Preprocess
from tests.test_data import IMAGE, Input


def written(folder: Path, files: Mapping[str, Array]) -> Path:
    """`folder` with these images in it."""
    images = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install -e '.[dev]'")
    for name, array in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        images.fromarray(array).save(folder / name)
    return folder


def pixels(seed: int, height: int = 2, width: int = 2) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    """In sorted order, hidden folders aside; the data.toml in the folder says how pixels become numbers."""
    folder = written(tmp_path / "f", {"dog/1.png": pixels(0), "cat/2.PNG": pixels(1), "dog/0.png": pixels(2)})
    (folder / ".git").mkdir()
    (folder / "data.toml").write_text('layout = "NCHW"\nscale = "1/255"')
    samples = load(str(folder), [IMAGE])
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 1]
    for row, seed in enumerate((1, 2, 0)):
        np.testing.assert_allclose(samples.arrays["image"][row], pixels(seed).transpose(2, 0, 1) / 255, rtol=1e-6)


def test_images_without_classes_have_no_labels(tmp_path: Path) -> None:
    """The data.toml may lie beside the folder, too; other files are left alone."""
    folder = written(tmp_path / "f", {"b.png": pixels(0), "a.bmp": pixels(1)})
    (folder / "notes.txt").write_text("nothing")
    (tmp_path / "data.toml").write_text('layout = "NCHW"\nchannels = "BGR"')
    samples = load(f"{folder}/", [IMAGE])
    assert samples.labels is None
    assert np.array_equal(samples.arrays["image"][0], pixels(1)[:, :, ::-1].transpose(2, 0, 1))


def test_only_the_images_that_are_taken_are_read(tmp_path: Path) -> None:
    """The same ones that taking from all would have given; the others may even be broken."""
    folder = written(tmp_path / "f", {f"{k}/{j}.png": pixels(4 * k + j) for k in range(3) for j in range(4)})
    (tmp_path / "data.toml").write_text('layout = "NCHW"')
    taken = load(str(folder), [IMAGE]).take(5, seed=3)
    few = load(str(folder), [IMAGE], most=5, seed=3)
    assert np.array_equal(few.arrays["image"], taken.arrays["image"])
    assert few.labels is not None
    assert taken.labels is not None
    assert few.labels.tolist() == taken.labels.tolist()


def test_images_are_resized_and_cropped(tmp_path: Path) -> None:
    """The shorter side first, then the middle; grey images have one channel."""
    folder = written(tmp_path / "f", {"a.png": pixels(0, 8, 12), "b.png": pixels(1, 16, 8)})
    (folder / "data.toml").write_text('size = 4\ncrop = [2, 4]\nlayout = "NCHW"\nchannels = "L"\nresample = "nearest"')
    samples = load(str(folder), [Input("x", ("N", 1, 2, 4))])
    assert samples.arrays["x"].shape == (2, 1, 2, 4)


@pytest.mark.parametrize(
    ("table", "height", "width", "resized", "cropped"),
    [
        ({}, 30, 40, (30, 40), (0, 0, 30, 40)),
        ({"size": 256, "crop": 224}, 375, 500, (256, 341), (16, 58, 224, 224)),
        ({"size": [20, 10]}, 375, 500, (20, 10), (0, 0, 20, 10)),
        ({"crop": [10, 20]}, 30, 40, (30, 40), (10, 10, 10, 20)),
    ],
)
def test_sizes_are_those_that_the_usual_transforms_give(
    table: Mapping[str, Any], height: int, width: int, resized: tuple[int, ...], cropped: tuple[int, ...]
) -> None:
    """Resize(256), CenterCrop(224) and the like."""
    how = Preprocess.from_table(table, "here")
    assert how.resized(height, width) == resized
    assert how.cropped(*how.resized(height, width)) == cropped


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "224", [1, 2, 3], []])
def test_sizes_are_whole_numbers(value: object) -> None:
    """Anything else is named with its key."""
    with pytest.raises(UsageError, match=r"here: crop is .*; expected a number of pixels, or \[height, width\]"):
        Preprocess.from_table({"crop": value}, "here")


def test_folders_that_are_no_data_are_refused(tmp_path: Path) -> None:
    """No images, images on two levels, sizes that differ, files that are no images."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty: no images; expected files \.bmp, "):
        load(str(tmp_path / "empty"), [IMAGE])
    both = written(tmp_path / "both", {"a.png": pixels(0), "c/b.png": pixels(1)})
    with pytest.raises(UsageError, match=r"both in sub-folders \(classes\) and beside them \(a\.png\)"):
        load(str(both), [IMAGE])
    sizes = written(tmp_path / "sizes", {"a.png": pixels(0), "b.png": pixels(1, 3, 2)})
    with pytest.raises(UsageError, match=r"differ in size \(a\.png 2 x 2 and b\.png 3 x 2\); say size and crop"):
        load(str(sizes), [IMAGE])
    one = written(tmp_path / "one", {"a.png": pixels(0)})
    with pytest.raises(UsageError, match=r"expected float32 values, or a data\.toml"):
        load(str(one), [IMAGE])
    (one / "a.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(UsageError, match=r"a\.png: not a readable image: "):
        load(str(one), [IMAGE])


def test_without_pillow_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Image files are the one thing that needs it."""
    (tmp_path / "a.png").write_bytes(b"")
    before = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "PIL":
            raise ImportError(name)
        return before(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"needs Pillow: pip install 'onnxprune\[images\]'"):
        load(str(tmp_path), [IMAGE])
