"""What a model of the assets is fed with and how it is judged: every model that the tools repair is one of these.

A `Subject` has samples to calibrate with, samples to judge with that are none of those, and a metric. All comes from
the folder of assets:

* `cifar10_*`: CIFAR-10's lossless training images; top-1 of the test images.
* classifiers of ImageNet (`mobilenet*`, `squeezenet*`): 500 photographs, of which every other one calibrates; top-1.
* detectors (`DETECTORS`): the same photographs at the size that the model takes; how far its raw outputs are from the
  original's, |y' - y| / |y| over the photographs that judge, in percent. There are no boxes to compare with, so what is
  measured is what changes and not what is found.
* `stories260k_llama`: texts that it wrote itself, 12 to calibrate and 12 to judge; perplexity.
* `byte_sb_bidi_lstm`, which marks the bytes of a text at which a sentence ends (its first output, above 0): sentences
  of SST-2, each with a capital letter, a period and a blank, one behind the other, in pieces of 256 bytes, the
  training sentences to calibrate and those of `dev` to judge; F1 of the blanks behind the periods, in percent.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxprune.data import Samples, fixed_batch
from onnxprune.evaluation import top1
from onnxprune.model import Model
from onnxprune.runtime.change import change
from onnxprune.runtime.session import Options, Session

__all__ = ["METRICS", "SAMPLES", "Judged", "Metric", "Subject", "logarithms", "perplexity", "subject"]

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]
LETTERS = 256
SAMPLES = 256
PIXELS: Mapping[str, Callable[[Array], Array]] = {
    "squeezenet": lambda rgb: rgb[..., ::-1] - np.array([104, 117, 123], np.float32),
    "mobilenet": lambda rgb: rgb / 127.5 - 1,
    "fastestdet": lambda rgb: rgb[..., ::-1] / 255,
    "yolox": lambda rgb: rgb[..., ::-1],
    "yunet": lambda rgb: rgb[..., ::-1],
    "ultraface": lambda rgb: (rgb - 127) / 128,
}
"""What the models whose names begin so make of pixels from 0 to 255 (height x width x RGB)."""

DETECTORS = ("fastestdet", "yolox", "yunet", "ultraface")


@dataclass(frozen=True)
class Metric:
    """A number of a model's outputs on test samples, given the original's outputs and the labels.

    `scores` makes of the first output logits of which a softmax over the last axis is what the model says; None where
    the outputs are no chances of anything. `digits` behind the point are what the test samples can tell.
    """

    name: str
    of: Callable[[Outputs, Outputs, Samples], float]
    scores: Callable[[Array], Array] | None
    digits: int = 1


@dataclass(frozen=True)
class Judged:
    """The metric of the original and of the model, and their KL divergence in nats (-1: outputs are no chances)."""

    before: float
    after: float
    kl: float


@dataclass(frozen=True)
class Subject:
    """A model, samples to calibrate it with (an array, first axis samples), samples to judge it with, a metric."""

    path: Path
    calibration: Array
    test: Samples
    metric: Metric

    def drawn(self, seed: int) -> Array:
        """`SAMPLES` of the calibration samples, by the seed: all of them, in another order, where there are fewer."""
        count = len(self.calibration)
        return self.calibration[np.random.default_rng(seed).choice(count, min(SAMPLES, count), replace=False)]

    def judge(self, model: Model) -> Judged:
        """What the model is worth beside the original."""
        first, second = self._original, self._outputs(model)
        kl = None
        if self.metric.scores is not None:
            pair = [{name: self.metric.scores(values)} for (name, values), *_ in (o.items() for o in (first, second))]
            kl = change(pair[:1], pair[1:]).divergence
        before, after = (self.metric.of(outputs, first, self.test) for outputs in (first, second))
        return Judged(before, after, -1.0 if kl is None else kl)

    @cached_property
    def _original(self) -> Outputs:
        return self._outputs(Model.load(self.path))

    def _outputs(self, model: Model) -> Outputs:
        run = Session(model.to_bytes(), Options(threads=1)).run
        found = [run(feed) for feed in self.test.batches(64)]
        return {name: np.concatenate([np.asarray(part[name]) for part in found])[: len(self.test)] for name in found[0]}


def _accuracy(outputs: Outputs, original: Outputs, samples: Samples) -> float:
    assert samples.labels is not None
    return 100 * top1(next(iter(outputs.values())), samples.labels)


def _distance(outputs: Outputs, original: Outputs, samples: Samples) -> float:
    return 100 * change([original], [outputs]).relative


def perplexity(outputs: Outputs, original: Outputs, samples: Samples) -> float:
    """What the scores of tokens (samples x length x vocabulary) make of the samples' own next tokens."""
    (ids,) = samples.arrays.values()
    chances = logarithms(np.asarray(next(iter(outputs.values())), np.float64)[:, :-1])
    return float(np.exp(-np.take_along_axis(chances, ids[:, 1:, None], axis=-1).mean()))


def _f1(outputs: Outputs, original: Outputs, samples: Samples) -> float:
    assert samples.labels is not None
    said, true = next(iter(outputs.values()))[..., 0] > 0, samples.labels
    return 100 * float(2 * (said & true).sum() / max(said.sum() + true.sum(), 1))


def logarithms(scores: Array) -> Array:
    """Scores of the last axis as logarithms of probabilities."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _classes(values: Array) -> Array:
    """Scores of classes; where they are probabilities their logarithms, which a softmax makes the same again."""
    wide = np.asarray(values, np.float64).reshape(len(values), -1)
    chances = (wide >= 0).all() and np.abs(wide.sum(axis=1) - 1).max() < 1e-3
    return np.log(np.maximum(wide, 1e-12)) if chances else wide


def _yes_or_no(values: Array) -> Array:
    """Each output a chance of its own, by a sigmoid: two classes, of which one has the score 0."""
    wide = np.asarray(values, np.float64)
    return np.stack([np.zeros_like(wide), wide], axis=-1).reshape(len(wide), -1, 2)


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("top-1", _accuracy, _classes),
        Metric("relative L2", _distance, None),
        Metric("perplexity", perplexity, lambda values: np.asarray(values, np.float64), 2),
        Metric("F1", _f1, _yes_or_no),
    )
}
"""By name; top-1 and F1 in percent, more is better; relative L2 in percent and perplexity, less is better."""


def subject(model: str, assets: Path) -> Subject:
    """The model of that name with its data; `ValueError` where none is known for it."""
    path = assets / "models" / f"{model}.onnx"
    find: Callable[[], tuple[Array, Array, Array | None, str]]
    if model.startswith("cifar10"):
        find = partial(_cifar, assets)
    elif model.startswith(tuple(PIXELS)):
        find = partial(_photographs, path, assets)
    elif model.startswith("stories260k"):
        find = partial(_stories, assets)
    elif model == "byte_sb_bidi_lstm":
        find = partial(_sentences, assets)
    else:
        raise ValueError(f"{model}: no data is known for it; add a case to tools/subjects.py")
    train, test, labels, metric = find()
    inputs = Model.load(path).inputs
    (wanted,) = inputs
    return Subject(path, train, Samples(model, {wanted.name: test}, labels, fixed_batch(inputs)), METRICS[metric])


def _cifar(assets: Path) -> tuple[Array, Array, Array, str]:
    found = np.load(assets / "data" / "cifar10_lossless.npz")
    mean, std = (np.array(v, np.float32) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    train, test = (
        np.ascontiguousarray(((found[part].astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2))
        for part in ("x_train", "x_test")
    )
    return train, test, found["y_test"].astype(np.int64), "top-1"


def _photographs(path: Path, assets: Path) -> tuple[Array, Array, Array | None, str]:
    shape = Model.load(path).inputs[0].shape
    assert shape is not None
    height, width = shape[-2:]
    assert isinstance(height, int)
    assert isinstance(width, int)
    pixels = next(made for begin, made in PIXELS.items() if path.name.startswith(begin))
    found = np.load(assets / "data" / "imagenet500.npz")
    count = int(np.count_nonzero(np.diff([*found["off"], len(found["jpg"])])))
    x = np.empty((count, 3, height, width), np.float32)
    for row, rgb in zip(x, _pictures(found, (width, height)), strict=True):
        row[...] = pixels(rgb).transpose(2, 0, 1)
    if path.name.startswith(DETECTORS):
        return x[::2], x[1::2], None, "relative L2"
    y = found["label"].astype(np.int64)[:count]
    y = y + 1 if path.name.startswith("mobilenet") else y  # class 0 is the background there
    return x[::2], x[1::2], y[1::2], "top-1"


def _pictures(found: Mapping[str, Array], size: tuple[int, int]) -> Iterator[Array]:
    """The middle 224 x 224 of each photograph, at that width and height: pixels from 0 to 255, RGB last."""
    from PIL import Image

    for start, end in zip(found["off"], [*found["off"][1:], len(found["jpg"])], strict=False):
        if start == end:
            continue
        image = Image.open(io.BytesIO(found["jpg"][start:end].tobytes())).convert("RGB").crop((16, 16, 240, 240))
        yield np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32)


def _stories(assets: Path) -> tuple[Array, Array, None, str]:
    ids = np.load(assets / "data" / "stories260k" / "sampled_ids.npy").astype(np.int64)
    return ids[:12], ids[12:], None, "perplexity"


def _sentences(assets: Path) -> tuple[Array, Array, Array, str]:
    train, test = (_text(assets / "data" / "sst2" / f"{part}.tsv") for part in ("train", "dev"))
    return train[0], *test, "F1"


def _text(path: Path) -> tuple[Array, Array]:
    """The sentences of a file as pieces of bytes (pieces x `LETTERS`), and where one ends (as many, boolean)."""
    sentences = [
        line.split("\t")[0].replace(" ,", ",").replace(" '", "'").replace(" n't", "n't").encode()
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    parts = [sentence[:1].upper() + sentence[1:] + b". " for sentence in sentences]
    letters = np.frombuffer(b"".join(parts), np.uint8)
    ends = np.zeros(len(letters), bool)
    ends[np.cumsum([len(part) for part in parts]) - 1] = True
    whole = len(letters) // LETTERS * LETTERS
    return letters[:whole].reshape(-1, LETTERS), ends[:whole].reshape(-1, LETTERS)
