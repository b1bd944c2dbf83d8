"""What the readers of a group lose: the common ground of criteria that weigh an index where it is read.

Each layer that adds up over a group is asked, with the second moments of its input; who makes the index has no say.
The error of a layer is taken relative to the energy of its output, so that readers can be added up and groups compared.
A group is missing where no layer reads it (queries and keys meet each other), or none whose input was measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np

from onnxprune.consumers import Consumer, consumers_of
from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.scores import Scores
from onnxprune.criteria.sites import SiteScore
from onnxprune.dependency import Analysis
from onnxprune.dimensions import Vector
from onnxprune.layers import Layer, layers_of
from onnxprune.model import Array
from onnxprune.solvers import Reader, damped_inverse, heard
from onnxprune.statistics import Gram, Request

__all__ = [
    "Reading",
    "inputs_of_consumers",
    "inputs_of_layers",
    "marginal",
    "readings",
    "scored",
    "weighed",
    "weighed_by_weight",
]


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
    measured = [layer for layer in evidence.layers if evidence.statistics.has(Gram(layer))]
    found = consumers_of(evidence.analysis, measured)
    groups_of = Counter(consumer.layer for consumers in found.values() for consumer in consumers)
    whole = {layer: _whole(evidence, layer, often > 1) for layer, often in groups_of.items()}
    return {
        atom: tuple(
            Reading(c, tuple(replace(r, columns=own) for r, own in zip(whole[c.layer], c.columns, strict=True)))
            for c in consumers
        )
        for atom, consumers in found.items()
    }


def _whole(evidence: Evidence, layer: Layer, often: bool) -> tuple[Reader, ...]:
    """The groups of a layer, with all their weights divided by the root of the energy of the layer's output.

    Where several groups of indices ask for the inverse, it is computed once.
    """
    groups, outputs, inputs, positions = layer.shape
    stored = np.asarray(evidence.weights.real(layer.weight), np.float64)
    grams = evidence.statistics.gram(layer).matrix
    weights = heard(layer.matrix(stored).reshape(groups, outputs, inputs * positions), grams)
    nothing = np.zeros((0, 1), np.intp)
    energy = sum(Reader(w, g, nothing).energy for w, g in zip(weights, grams, strict=True))
    scale = energy**-0.5 if energy > 0 else 1.0
    inverses = [cache(partial(damped_inverse, gram)) if often else None for gram in grams]
    return tuple(Reader(w * scale, g, nothing, i) for w, g, i in zip(weights, grams, inverses, strict=True))


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


def weighed_by_weight(
    evidence: Evidence, saliency: Callable[[Array, Array], Array]
) -> Mapping[int, Sequence[SiteScore]]:
    """The same where an index is worth the sum of what its weights are: `saliency(weights, gram)`, (O, D)."""
    columns: dict[int, Vector] = {}

    def judge(reader: Reader) -> Vector:
        known = id(reader.weights)  # all readers are alive while they are judged
        if known not in columns:
            columns[known] = np.asarray(saliency(reader.weights, reader.gram).sum(axis=0))
        return np.asarray(columns[known][reader.columns].sum(axis=1))

    return weighed(evidence, judge)


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
