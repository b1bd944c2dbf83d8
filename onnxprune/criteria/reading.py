"""What the readers of a group lose: the common ground of criteria that weigh an index where it is read.

Each layer that adds up over a group is asked, with the second moments of its input; who makes the index has no say.
The error of a layer is taken relative to the energy of its output, so that readers can be added up and groups compared.
A group is missing where no layer reads it (queries and keys meet each other), or none whose input was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxprune.consumers import Consumer, consumers_of
from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.scores import Scores
from onnxprune.criteria.sites import SiteScore
from onnxprune.dependency import Analysis
from onnxprune.dimensions import Vector
from onnxprune.layers import Layer, layers_of
from onnxprune.solvers import Reader
from onnxprune.statistics import Gram, Request

__all__ = ["Reading", "inputs_of_consumers", "inputs_of_layers", "marginal", "readings", "scored", "weighed"]


@dataclass(frozen=True)
class Reading:
    """One consumer of a group, and a `Reader` for each group of its layer, scaled to an output of energy one."""

    consumer: Consumer
    readers: tuple[Reader, ...]


def inputs_of_layers(analysis: Analysis) -> Iterable[Request]:
    """The second moments of the input of every layer."""
    return [Gram(layer) for layer in layers_of(analysis) if layer.data]


def inputs_of_consumers(analysis: Analysis) -> Iterable[Request]:
    """The second moments of the input of every layer that reads a group."""
    found = consumers_of(analysis, layers_of(analysis))
    layers = dict.fromkeys(consumer.layer for consumers in found.values() for consumer in consumers)
    return [Gram(layer) for layer in layers if layer.data]


def readings(evidence: Evidence) -> Mapping[int, tuple[Reading, ...]]:
    """By atom id, the consumers of each group whose inputs were measured."""
    found: dict[int, tuple[Reading, ...]] = {}
    measured = [layer for layer in evidence.layers if evidence.statistics.has(Gram(layer))]
    shares: dict[Layer, tuple[Reader, ...]] = {}
    for atom, consumers in consumers_of(evidence.analysis, measured).items():
        held = []
        for consumer in consumers:
            if consumer.layer not in shares:
                shares[consumer.layer] = _whole(evidence, consumer.layer)
            whole = shares[consumer.layer]
            readers = (Reader(w.weights, w.gram, c) for w, c in zip(whole, consumer.columns, strict=True))
            held.append(Reading(consumer, tuple(readers)))
        found[atom] = tuple(held)
    return found


def _whole(evidence: Evidence, layer: Layer) -> tuple[Reader, ...]:
    """The groups of a layer, with all their weights divided by the root of the energy of the layer's output."""
    groups, outputs, inputs, positions = layer.shape
    stored = np.asarray(evidence.weights.real(layer.weight), np.float64)
    weights = layer.matrix(stored).reshape(groups, outputs, inputs * positions)
    gram = evidence.statistics.gram(layer).matrix
    nothing = np.zeros((0, 1), np.intp)
    energy = sum(Reader(w, g, nothing).energy for w, g in zip(weights, gram, strict=True))
    scale = energy**-0.5 if energy > 0 else 1.0
    return tuple(Reader(w * scale, g, nothing) for w, g in zip(weights, gram, strict=True))


def weighed(evidence: Evidence, judge: Callable[[Reader], Vector]) -> Mapping[int, Sequence[SiteScore]]:
    """Sites of which each is a consumer, and the values of an index are the sum over the groups of its layer."""
    found: dict[int, list[SiteScore]] = {}
    for atom, held in readings(evidence).items():
        for reading in held:
            values = np.sum([judge(reader) for reader in reading.readers], axis=0)
            layer = reading.consumer.layer
            numbers = max(1, layer.numbers // len(values))
            found.setdefault(atom, []).append(SiteScore(layer.weight, reading.consumer.axis, values, numbers))
    return found


def scored(evidence: Evidence, name: str, judge: Callable[[Sequence[Reader]], Vector]) -> Scores:
    """Scores of groups from all their readers together, divided by one number: their mean over the model."""
    values = {
        atom: judge([reader for reading in held for reader in reading.readers])
        for atom, held in readings(evidence).items()
    }
    everything = np.concatenate(list(values.values())) if values else np.ones(1)
    scale = float(everything.mean()) or 1.0
    return Scores.of(name, evidence.groups, {atom: found / scale for atom, found in values.items()})


def marginal(order: Sequence[int] | np.ndarray[tuple[int, ...], np.dtype[np.intp]], losses: Vector) -> Vector:
    """Scores by which indices go in `order`: what each going costs, but never less than one before it cost."""
    rising: Vector = np.maximum.accumulate(losses)
    rising = rising + np.arange(len(rising)) * 1e-9 * (float(rising[-1]) or 1.0)
    scores = np.empty_like(rising)
    scores[np.asarray(order)] = rising
    return np.asarray(scores)
