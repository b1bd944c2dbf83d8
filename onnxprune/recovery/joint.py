"""All layers of a pruned model refitted together: both sides of each group move, by slopes, towards the original.

The closed form refits one layer after the other, each given what is in front of it; a producer never learns what its
readers miss. Here all of them do: the error is that of every tensor that a layer reads and of the outputs, against the
original's (FitNets, Romero et al., arXiv 1412.6550; no labels), as a share of its energy, and weights take steps along
its slopes (`gradients`): Adam (Kingma and Ba, arXiv 1412.6980), its step for each tensor a share of its root mean
square, for a folded norm leaves tensors of all sizes, and of the root of the error, for there is as far to go; warmed
up and brought to zero along a cosine. A zero of a mask
stays zero.

What judges is the same error on held-out samples. The divergence of the outputs there would not do: a classifier is
certain of what it was trained on, and on calibration images from its training set says next to nothing of how far
features are off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.analysis import Analysis
from onnxprune.gradients import Slopes, slopes_of
from onnxprune.layers import layers_of
from onnxprune.model.segment import Segments
from onnxprune.recovery.behind import Surroundings
from onnxprune.recovery.evidence import parted
from onnxprune.recovery.spilling import Shelf
from onnxprune.runtime.session import Options, Session

__all__ = ["EPOCHS", "Feed", "Joint", "Mask", "Student", "jointly"]

Array: TypeAlias = npt.NDArray[Any]
Feed: TypeAlias = Mapping[str, Array]
Mask: TypeAlias = npt.NDArray[np.bool_]

EPOCHS = 12  # passes over the samples
RATE = 0.06  # a step, as a share of the root mean square of a tensor, where the error is all of the energy
WARM = 10  # steps until it is as long as that
LOST = 2  # times the error before: where the mean of as many steps is beyond that, the rest does not bring it back
MOMENTS = (0.9, 0.99)  # how much of the first and second moments of slopes a step leaves


@dataclass(frozen=True)
class Student:
    """A pruned model, analysed at the sizes of the samples, and of each tensor's axes what it has of the original's.

    `kept(name)` is a mask for each axis, None where all is kept. With `masked`, zeros of its weights stay zero.
    """

    analysis: Analysis
    kept: Callable[[str], Sequence[Mask | None]]
    masked: bool = False


@dataclass(frozen=True, slots=True)
class Joint:
    """New weights by name, in the shapes of the student; the mean error of its tensors on held-out samples, as a share
    of their energy, before and after; over how many epochs; and at which operators slopes ended."""

    values: Mapping[str, Array]
    before: float
    after: float
    epochs: int
    stopped: tuple[str, ...]

    @property
    def better(self) -> bool:
        """Whether tensors are nearer to the original's on samples that nothing was fitted to."""
        return self.after < self.before


def jointly(
    original: Analysis,
    student: Student,
    batches: Sequence[Feed],
    *,
    epochs: int = EPOCHS,
    seed: int = 0,
    threads: int = 1,
    watch: Callable[[int, int], None] | None = None,
) -> Joint | None:
    """Refit the student's layers together; None where there is nothing to learn, or nothing to learn it from.

    Errors: `RunFailed` where a model does not run on the batches.
    """
    weights = _trainable(student.analysis)
    if not weights:
        return None
    targets = _Targets(original, student, batches, threads)
    if not targets.taps:
        return None
    model, shapes = student.analysis.model, student.analysis.shapes.shape
    slopes = slopes_of(model, shapes, weights, targets.taps)
    if not slopes.weights:
        return None
    process = _Steps(slopes, {name: model.array(name) for name in slopes.weights}, student.masked, threads)
    fitted, held = parted(len(batches))
    before = process.error(targets.feed(k, slopes) for k in held)
    reach = RATE * before**0.5
    generator, total, recent = np.random.default_rng(seed), epochs * len(fitted), deque[float](maxlen=WARM)
    for done, k in enumerate(k for _ in range(epochs) for k in generator.permutation(fitted)):
        if watch is not None:
            watch(done, total)
        share = reach * min(1.0, (done + 1) / WARM) * (1 + cos(pi * done / total)) / 2
        recent.append(process.step(targets.feed(k, slopes), share))
        if len(recent) == WARM and sum(recent) > LOST * WARM * before:
            break
    return Joint(process.weights, before, process.error(targets.feed(k, slopes) for k in held), epochs, slopes.stopped)


def _trainable(analysis: Analysis) -> list[str]:
    """The float32 weights of layers that read them as they are stored, and the biases behind them."""
    model, surroundings = analysis.model, Surroundings(analysis, Segments(analysis.model))
    found: dict[str, None] = {}
    for layer in layers_of(analysis):
        node = model.nodes[layer.node]
        if node.within is None and node.inputs[layer.operand] == layer.weight:
            found[layer.weight] = None
            found.update(dict.fromkeys((layer.bias, surroundings.behind(layer).bias)))
    return [name for name in found if name in model.tensors and model.weights[name].dtype == np.float32]


class _Targets:
    """What tensors of the student should be: the original's, where both have them, of what the student has kept."""

    def __init__(self, original: Analysis, student: Student, batches: Sequence[Feed], threads: int) -> None:
        self._batches, self._shelf = batches, Shelf()
        names = [name for name in _compared(original, student) if self._fits(original, student, name)]
        energy = dict.fromkeys(names, 0.0)
        wanted = dict.fromkeys(names, np.dtype(np.float32))
        run = Session(original.model.with_outputs(wanted).to_bytes(), Options(threads=threads)).run if names else None
        samples = 0
        for number, batch in enumerate(batches if run is not None else ()):
            assert run is not None
            made = run(batch)
            samples += len(made[names[0]])
            for name in names:
                part = np.asarray(made[name])
                for axis, mask in enumerate(student.kept(name)):
                    part = part if mask is None else np.compress(mask, part, axis=axis)
                energy[name] += float(np.square(part, dtype=np.float64).sum())
                self._shelf.put((number, name), np.ascontiguousarray(part))
        alive = [name for name in names if 0 < energy[name] < np.inf]
        self.taps = {name: samples / energy[name] / len(alive) for name in alive}

    @staticmethod
    def _fits(original: Analysis, student: Student, name: str) -> bool:
        theirs, ours = original.shapes.shape.get(name), student.analysis.shapes.shape.get(name)
        if not theirs or not ours or len(theirs) != len(ours):
            return False
        masks = list(student.kept(name)) or [None] * len(theirs)
        return (
            all(
                own == whole if mask is None else len(mask) == whole and mask.sum() == own
                for own, whole, mask in list(zip(ours, theirs, masks, strict=True))[1:]
            )
            and masks[0] is None
        )

    def feed(self, number: int, slopes: Slopes) -> dict[str, Array]:
        """What a step on one batch reads, weights aside."""
        return {**self._batches[number], **{slopes.targets[name]: self._shelf[number, name] for name in self.taps}}


def _compared(original: Analysis, student: Student) -> Iterator[str]:
    """Float32 tensors of both models that change with the inputs: what layers read, and the outputs."""
    model, dtype = student.analysis.model, original.shapes.dtype
    live = Segments(model).live & Segments(original.model).live
    given = {info.name for info in model.inputs}
    read = [layer.data for layer in layers_of(student.analysis) if model.nodes[layer.node].within is None]
    for name in dict.fromkeys((*read, *(info.name for info in model.outputs))):
        if name in live and name not in given and dtype.get(name) == np.float32:
            yield name


class _Steps:
    """The weights on their way, and the runs that say where it goes."""

    def __init__(self, slopes: Slopes, weights: Mapping[str, Array], masked: bool, threads: int) -> None:
        self._slopes = slopes
        self._run = Session(slopes.model, Options(threads=threads)).run
        self.weights = {name: np.array(array) for name, array in weights.items()}
        self._free = {name: array != 0 for name, array in weights.items() if masked}
        self._length = {name: float(np.sqrt(np.mean(np.square(array)))) for name, array in weights.items()}
        self._means = {name: np.zeros_like(array) for name, array in weights.items()}
        self._squares = {name: np.zeros_like(array) for name, array in weights.items()}
        self._number = 0

    def error(self, feeds: Iterable[Feed]) -> float:
        """The mean over batches of the error, summed over taps."""
        names = self._slopes.errors.values()
        made = [self._run({**feed, **self.weights}) for feed in feeds]
        return float(np.mean([sum(float(outputs[name]) for name in names) for outputs in made]))

    def step(self, feed: Feed, share: float) -> float:
        """Go along the slopes on one batch, each tensor `share` of its root mean square; the error there before."""
        outputs = self._run({**feed, **self.weights})
        self._number += 1
        first, second = (1 - moment**self._number for moment in MOMENTS)
        for name, array in self.weights.items():
            slope = np.asarray(outputs[self._slopes.slopes[name]])
            mean, square = self._means[name], self._squares[name]
            mean += (1 - MOMENTS[0]) * (slope - mean)
            square += (1 - MOMENTS[1]) * (np.square(slope) - square)
            way = (mean / first) / (np.sqrt(square / second) + 1e-12)
            if name in self._free:
                way *= self._free[name]
            array -= np.float32(share * self._length[name]) * way
        return sum(float(outputs[name]) for name in self._slopes.errors.values())
