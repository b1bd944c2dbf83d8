"""Samples to calibrate and to judge a model with, checked against the inputs of the model before anything runs.

A source is one of

1. `file.npz`: arrays named after the model's inputs, first axis samples; labels, if any, under `labels`.
   A single array serves a single-input model under any name.
2. `file.npy`: the array of a single-input model.
3. a folder of images (see `images`), for a model whose one input is an image; its sub-folders are the labels.
4. `module:function`, importable from the working directory: the function takes nothing and yields dicts of arrays
   as in case 1, each with one or more samples.

Tokenised text is completed (see `tokens`). Arrays are already what the model wants, but for one case: uint8 images that
feed an input of another type go through the preprocessing that a `data.toml` beside the file (in the folder, for
images), or a file given by name, describes (see `preprocess`).
"""

from __future__ import annotations

import importlib
import re
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from onnxprune.errors import UsageError
from onnxprune.images import chosen, read_images
from onnxprune.preprocess import Preprocess
from onnxprune.tokens import completed

__all__ = ["Array", "InputLike", "Samples", "fixed_batch", "load", "load_function", "names_function"]

Array = npt.NDArray[Any]
LABELS = "labels"


class InputLike(Protocol):
    """What is asked of a model input."""

    @property
    def name(self) -> str:
        """The key of its array in a feed."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type that the runtime wants."""

    @property
    def shape(self) -> tuple[int | str | None, ...] | None:
        """A number for each fixed axis, a symbol or None for each free one, the batch first; None if not declared."""


@dataclass(frozen=True)
class Samples:
    """Every array has one row for each sample, and each row fits the input that it is named after.

    `source` is the name of the data in messages; `fixed_batch` is the batch size of a model that takes no other.
    `noise` are samples that were drawn at random, and say nothing of what real inputs are like.
    """

    source: str
    arrays: Mapping[str, Array]
    labels: Array | None = None
    fixed_batch: int | None = None
    noise: bool = False

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def take(self, n: int, seed: int = 0) -> Samples:
        """`n` samples chosen at random by `seed`, in their order; all of them where there are no more than `n`."""
        if n < 1:
            raise UsageError(f"{self.source}: asked for {n} samples; expected at least 1")
        if n >= len(self):
            return self
        rows = chosen(len(self), n, seed)
        arrays = {name: array[rows] for name, array in self.arrays.items()}
        return replace(self, arrays=arrays, labels=None if self.labels is None else self.labels[rows])

    def halves(self, seed: int = 0) -> tuple[Samples, Samples]:
        """Two parts of equal size without a sample in common, chosen at random by `seed`; one sample is in both."""
        order = np.random.default_rng(seed).permutation(len(self))
        parts = np.sort(order[: max(len(self) // 2, 1)]), np.sort(order[len(self) // 2 :])
        first, second = (
            replace(
                self,
                arrays={name: array[rows] for name, array in self.arrays.items()},
                labels=None if self.labels is None else self.labels[rows],
            )
            for rows in parts
        )
        return first, second

    def batches(self, size: int) -> Iterator[dict[str, Array]]:
        """Feeds of `size` samples each, in order; the last may be smaller.

        A model with a fixed batch size gets batches of exactly that size instead, and the last sample repeats at the
        end of the last batch: the first `len(self)` rows of all outputs together belong to the samples.
        """
        size = self.fixed_batch or size
        if size < 1:
            raise UsageError(f"{self.source}: batch size is {size}; expected at least 1")
        for start in range(0, len(self), size):
            feed = {name: array[start : start + size] for name, array in self.arrays.items()}
            missing = start + size - len(self)
            if self.fixed_batch is not None and missing > 0:
                feed = {name: np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]) for name, a in feed.items()}
            yield feed


def load(
    source: str, inputs: Sequence[InputLike], preprocess: Path | None = None, most: int | None = None, seed: int = 0
) -> Samples:
    """The samples in `source`, fit to feed `inputs`.

    `preprocess` is a TOML file for uint8 images; without it, `data.toml` beside the file or in the folder (or, for a
    function, in the working directory) is used where there is one. Of a folder, `most` images at most are read: those
    that `take(most, seed)` would take. UsageError: no such source, an array that is missing or does not fit an input
    (type, rank, a fixed dimension), arrays that disagree in their number of samples.
    """
    path = Path(source)
    function = names_function(source)
    beside = [Path("data.toml")] if function else [path / "data.toml"] * path.is_dir() + [path.with_name("data.toml")]
    spec = preprocess or next((file for file in beside if file.exists()), None)
    convert = None if spec is None else Preprocess.load(spec)
    if function:
        found = _collect(source)
    elif path.is_dir():
        found = _images(path, convert, most, seed)
    else:
        found = _read(path)
    if preprocess is not None and all(array.dtype != np.uint8 for array in found.values()):
        raise UsageError(f"{preprocess}: preprocessing is for uint8 images, and {source} has none; leave it out")

    labels = None if any(wanted.name == LABELS for wanted in inputs) else found.pop(LABELS, None)
    found = completed(found, inputs, source)
    if len(found) == 1 and len(inputs) == 1:
        found = {inputs[0].name: next(iter(found.values()))}
    arrays = {wanted.name: _fit(_pick(found, wanted.name, source), wanted, convert, source) for wanted in inputs}
    if not arrays:
        raise UsageError(f"{source}: the model has no inputs, so there is nothing that data could feed")
    _check_rows(arrays if labels is None else {**arrays, LABELS: labels}, source)
    return Samples(source, arrays, labels, fixed_batch(inputs))


def names_function(source: str) -> bool:
    """Whether `source` reads `module:function` and is not the name of a file."""
    return re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", source) is not None and not Path(source).exists()


def load_function(source: str) -> Callable[..., Any]:
    """The function that `module:function` names; the working directory is on the import path from then on."""
    module_name, _, name = source.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the module is the user's: whatever it raises is told, with its cause
        raise UsageError(f"{source}: cannot import '{module_name}': {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"{source}: '{module_name}' has no function '{name}'")
    return function  # type: ignore[no-any-return]


def _read(path: Path) -> dict[str, Array]:
    """The arrays of an .npz or .npy file (whose one array is called by the file's stem)."""
    if not path.exists():
        raise UsageError(
            f"{path}: no such file; expected an existing .npz or .npy file, a folder of images, or module:function"
        )
    if path.suffix not in (".npz", ".npy"):
        raise UsageError(f"{path}: unknown kind of data; expected .npz, .npy, a folder of images or module:function")
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return {path.stem: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path}: not readable {path.suffix} data, damaged perhaps: {error}") from error


def _images(folder: Path, how: Preprocess | None, most: int | None, seed: int) -> dict[str, Array]:
    images, labels = read_images(folder, how, most, seed)
    return {"images": images} if labels is None else {"images": images, LABELS: labels}


def _collect(source: str) -> dict[str, Array]:
    """What the function yields, one dict after the other, as whole arrays."""
    function = load_function(source)
    try:
        produced = function()
        parts = [dict(part) for part in produced] if isinstance(produced, Iterable) else None
    except Exception as error:  # the function is the user's: whatever it raises is told, with its cause
        raise UsageError(f"{source}: failed: {type(error).__name__}: {error}") from error
    if not parts:
        what = type(produced).__name__ if parts is None else "nothing"
        raise UsageError(f"{source}: expected dicts of arrays named after the model's inputs, found {what}")
    names = parts[0].keys()
    for number, part in enumerate(parts):
        if part.keys() != names:
            raise UsageError(f"{source}: dict {number} has {sorted(part)}, the first has {sorted(names)}")
    try:
        return {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in names}
    except ValueError as error:
        raise UsageError(f"{source}: the dicts do not go together: {error}") from error


def _pick(found: Mapping[str, Array], name: str, source: str) -> Array:
    if name not in found:
        raise UsageError(
            f"{source}: no array for model input '{name}'; expected one of that name, found "
            f"{', '.join(found) or 'none'}"
        )
    return found[name]


def _fit(array: Array, wanted: InputLike, convert: Preprocess | None, source: str) -> Array:
    """`array` as the type of the input, once it is known to fit it."""
    where = f"{source}: array for model input '{wanted.name}'"
    if array.dtype == np.uint8 and wanted.dtype != np.uint8:
        if convert is None:
            raise UsageError(
                f"{where} is uint8, the input is {wanted.dtype}; expected {wanted.dtype} values, or a data.toml beside "
                "the file (or --preprocess FILE) that says how images become them"
            )
        try:
            array = convert(array, wanted.dtype)
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from error
    if array.dtype.kind != wanted.dtype.kind:
        raise UsageError(f"{where} is {array.dtype}, the input is {wanted.dtype}; convert the array")
    if wanted.shape == ():
        raise UsageError(f"{where}: the input is a single number, without an axis for samples; data cannot feed it")
    sizes = array.shape[1:] if wanted.shape is None else wanted.shape[1:]
    if array.shape == () or not _matches(array.shape[1:], sizes):
        expected = " x ".join(["samples", *("any" if size is None else str(size) for size in sizes)])
        found = " x ".join(map(str, array.shape)) or "a single number"
        raise UsageError(f"{where}: expected shape {expected}, found {found}")
    if len(array) == 0:
        raise UsageError(f"{where} has no samples")
    fitted = array.astype(wanted.dtype, copy=False)
    if wanted.dtype.kind in "iu" and not np.array_equal(fitted, array):
        raise UsageError(f"{where} is {array.dtype} with values that do not fit {wanted.dtype}")
    return fitted


def _matches(shape: tuple[int, ...], sizes: tuple[int | str | None, ...]) -> bool:
    fits = (not isinstance(size, int) or size == actual for actual, size in zip(shape, sizes, strict=False))
    return len(shape) == len(sizes) and all(fits)


def _check_rows(arrays: Mapping[str, Array], source: str) -> None:
    first, *others = arrays
    for name in others:
        if len(np.atleast_1d(arrays[name])) != len(arrays[first]):
            raise UsageError(
                f"{source}: '{first}' has {len(arrays[first])} samples, '{name}' has {len(np.atleast_1d(arrays[name]))}"
            )


def fixed_batch(inputs: Sequence[InputLike]) -> int | None:
    """The one batch size that the inputs take, or None where it is free."""
    fixed = {wanted.name: wanted.shape[0] for wanted in inputs if wanted.shape and isinstance(wanted.shape[0], int)}
    if len(set(fixed.values())) > 1:
        told = ", ".join(f"'{name}' {size}" for name, size in fixed.items())
        raise UsageError(f"the model's inputs do not share a batch size on their first axis: {told}")
    return next(iter(fixed.values()), None)
