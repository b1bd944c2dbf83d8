"""Drawn samples for a model of which no real ones are at hand: `random` and `synthetic`, or `random:N` for N of them.

They fit what the model declares: shapes (example sizes where they are symbolic), token ids inside the vocabulary, masks
of ones. With a preprocessing, floats of four axes are pixels of images that went through it; without, they are of mean
0 and variance 1. Random ones are white noise; synthetic ones are pictures of nothing (see `pictures`), for a model
whose norms know what real inputs are like (see `recovery.standing`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from onnxprune.data import Samples, fixed_batch
from onnxprune.errors import UsageError
from onnxprune.model import Array, Model, TensorInfo, input_shapes, vocabulary
from onnxprune.pictures import pictures
from onnxprune.preprocess import Preprocess
from onnxprune.runtime.feeds import InputSpec, random_feeds
from onnxprune.tokens import MASK

__all__ = ["NOTE", "Asked", "asked_for", "random_samples"]

COUNTS = {"random": 64, "synthetic": 256}
GREY, CONTRAST = 128, 64  # of synthetic images: the mean of their pixels, and the deviation from it
NOTE = (
    "calibrated on random inputs: they show that everything runs and how large numbers get, not which channels matter "
    "on real inputs; give real ones (unlabelled, some hundred are enough) before trusting the choice"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """`count` samples of a kind, `random` or `synthetic`."""

    kind: str
    count: int


def asked_for(source: str, most: int) -> Asked | None:
    """How many samples of which kind are to be drawn for `source`, `most` at most; None where it names others.

    A file of that name is a file.
    """
    match = re.fullmatch(r"(random|synthetic)(?::(\d+))?", source)
    if match is None or Path(source).exists():
        return None
    count = int(match[2]) if match[2] else COUNTS[match[1]]
    if count < 1:
        raise UsageError(f"{source}: expected at least one sample")
    return Asked(match[1], min(count, most))


def random_samples(
    model: Model,
    sizes: Mapping[str, int],
    count: int,
    seed: int = 0,
    preprocess: Preprocess | None = None,
    kind: str = "random",
) -> Samples:
    """`count` samples, the same for the same seed; `sizes` are those of symbolic dimensions other than the batch."""
    shapes = input_shapes(model, sizes)
    if not shapes or not all(shapes.values()):
        raise UsageError(
            f"{kind}: an input of the model has no axis of samples; give a module:function that makes inputs"
        )
    specs = [InputSpec(i.name, i.dtype, (count, *shapes[i.name][1:])) for i in model.inputs]
    arrays = random_feeds(specs, bounds=vocabulary(model), seed=seed)
    for position, info in enumerate(model.inputs):
        if info.name == MASK:
            arrays[info.name] = np.ones_like(arrays[info.name])
        elif info.dtype.kind == "f":
            drawn = _Drawn(info, arrays[info.name].shape, np.random.default_rng(seed + position), kind)
            if preprocess is not None and len(drawn.shape) == 4:
                arrays[info.name] = drawn.through(preprocess)
            elif kind == "synthetic":
                arrays[info.name] = drawn.signals().astype(info.dtype)
    return Samples(kind, arrays, None, fixed_batch(model.inputs), noise=kind == "random")


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What is drawn for one input of floats."""

    info: TensorInfo
    shape: tuple[int, ...]
    generator: np.random.Generator
    kind: str

    def signals(self) -> Array:
        """Synthetic numbers; the shortest axis behind that of the samples, the first of equals, is the channels'."""
        samples, *rest = self.shape
        axis = int(np.argmin(rest)) if len(rest) > 1 else 0
        sizes = tuple(size for k, size in enumerate(rest) if k != axis)
        if not prod(sizes) > 1:
            return self.generator.standard_normal(self.shape)
        return np.moveaxis(pictures(samples, rest[axis], sizes, self.generator), 1, axis + 1)

    def through(self, preprocess: Preprocess) -> Array:
        """Pixels of images as they are stored, and what a preprocessing makes of them."""
        samples, *rest = self.shape
        stored = (*rest[1:], rest[0]) if preprocess.layout == "NCHW" else tuple(rest)
        if self.kind == "synthetic":
            shown = np.moveaxis(pictures(samples, stored[-1], stored[:-1], self.generator), 1, -1)
            images = np.clip(GREY + CONTRAST * shown, 0, 255).astype(np.uint8)
        else:
            images = self.generator.integers(0, 256, (samples, *stored)).astype(np.uint8)
        try:
            return preprocess(images, self.info.dtype)
        except ValueError as error:
            raise UsageError(f"{self.kind}: input {self.info.name!r}: {error}") from error
