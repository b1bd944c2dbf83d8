"""A folder of image files, decoded to uint8 arrays; its sub-folders, in sorted order, are the classes.

    folder/cat/1.jpg, folder/dog/2.png     labels 0 and 1
    folder/1.jpg, folder/2.png             no labels

What Pillow reads is read (the extra `images`). Each image is resized and cropped as a `Preprocess` says, after which
all must have one size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxprune.errors import UsageError
from onnxprune.preprocess import Preprocess

__all__ = ["SUFFIXES", "chosen", "read_images"]

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

Array = npt.NDArray[Any]


def chosen(count: int, most: int | None, seed: int) -> Array:
    """`most` of `count` numbers, chosen at random by `seed`, in their order; all where there are no more."""
    if most is None or most >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def read_images(
    folder: Path, how: Preprocess | None, most: int | None = None, seed: int = 0
) -> tuple[Array, Array | None]:
    """Images (samples, height, width, channels) and their labels, None where the folder has no sub-folders.

    UsageError: no images, images beside sub-folders with images, sizes that differ, a file that is no image, no Pillow.
    """
    classes = sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))
    files = [(path, label) for label, place in enumerate(classes) for path in _files(place)]
    beside = _files(folder)
    if files and beside:
        raise UsageError(
            f"{folder}: has images both in sub-folders (classes) and beside them ({beside[0].name}); expected one or "
            "the other"
        )
    if not files and not beside:
        raise UsageError(
            f"{folder}: no images; expected files {', '.join(sorted(SUFFIXES))}, in a folder for each class"
        )
    every = files or [(path, -1) for path in beside]
    picked = [every[k] for k in chosen(len(every), most, seed)]
    images = [_decoded(path, how or Preprocess()) for path, _ in picked]
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        other = next(k for k, image in enumerate(images) if image.shape != images[0].shape)
        sizes = " and ".join(f"{picked[k][0].name} {images[k].shape[0]} x {images[k].shape[1]}" for k in (0, other))
        raise UsageError(f"{folder}: images differ in size ({sizes}); say size and crop in a data.toml in the folder")
    return np.stack(images), np.array([label for _, label in picked]) if files else None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def _decoded(path: Path, how: Preprocess) -> Array:
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError(f"{path}: reading image files needs Pillow: pip install 'onnxprune[images]'") from error
    try:
        with Image.open(path) as opened:
            image = opened.convert("L" if how.channels == "L" else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path}: not a readable image: {error}") from error
    sized = how.resized(image.height, image.width)
    if sized != (image.height, image.width):
        image = image.resize(sized[::-1], getattr(Image.Resampling, how.resample.upper()))
    top, left, height, width = how.cropped(*sized)
    array = np.asarray(image.crop((left, top, left + width, top + height)), np.uint8)
    return array[:, :, None] if array.ndim == 2 else array
