"""Random samples for a model of which no real ones are at hand: `random`, or `random:N` for N of them.

They fit what the model declares: shapes (example sizes where they are symbolic), token ids inside the vocabulary, masks
of ones. With a preprocessing, floats of four axes are pixels of random images that went through it; without, they are
drawn from N(0, 1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onnxprune.data import Samples, fixed_batch
from onnxprune.errors import UsageError
from onnxprune.model import Array, Model, TensorInfo, input_shapes, vocabulary
from onnxprune.preprocess import Preprocess
from onnxprune.runtime.feeds import InputSpec, random_feeds
from onnxprune.tokens import MASK

__all__ = ["NOTE", "asked_for", "random_samples"]

COUNT = 64
NOTE = (
    "calibrated on random inputs: they show that everything runs and how large numbers get, not which channels matter "
    "on real inputs; give real ones (unlabelled, some hundred are enough) before trusting the choice"
)


def asked_for(source: str, most: int) -> int | None:
    """How many random samples `source` asks for, `most` at most; None where it asks for something else.

    A file of that name is a file.
    """
    match = re.fullmatch(r"random(?::(\d+))?", source)
    if match is None or Path(source).exists():
        return None
    count = int(match[1]) if match[1] else COUNT
    if count < 1:
        raise UsageError(f"{source}: expected at least one sample")
    return min(count, most)


def random_samples(
    model: Model, sizes: Mapping[str, int], count: int, seed: int = 0, preprocess: Preprocess | None = None
) -> Samples:
    """`count` samples, the same for the same seed; `sizes` are those of symbolic dimensions other than the batch."""
    shapes = input_shapes(model, sizes)
    if not shapes or not all(shapes.values()):
        raise UsageError(
            "random: an input of the model has no axis of samples; give a module:function that makes inputs"
        )
    specs = [InputSpec(i.name, i.dtype, (count, *shapes[i.name][1:])) for i in model.inputs]
    arrays = random_feeds(specs, bounds=vocabulary(model), seed=seed)
    for position, info in enumerate(model.inputs):
        if info.name == MASK:
            arrays[info.name] = np.ones_like(arrays[info.name])
        elif preprocess is not None and info.dtype.kind == "f" and len(shapes[info.name]) == 4:
            arrays[info.name] = _pixels(info, arrays[info.name].shape, preprocess, seed + position)
    return Samples("random", arrays, None, fixed_batch(model.inputs), noise=True)


def _pixels(info: TensorInfo, shape: tuple[int, ...], preprocess: Preprocess, seed: int) -> Array:
    samples, *rest = shape
    stored = (*rest[1:], rest[0]) if preprocess.layout == "NCHW" else tuple(rest)
    images = np.random.default_rng(seed).integers(0, 256, (samples, *stored)).astype(np.uint8)
    try:
        return preprocess(images, info.dtype)
    except ValueError as error:
        raise UsageError(f"random: input {info.name!r}: {error}") from error
