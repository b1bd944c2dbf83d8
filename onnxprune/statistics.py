"""What is asked of calibration runs, and what they answer: values only, no graph and no runtime.

A *request* names a tensor, or a layer whose input is meant, and is answered by one *statistic*. Criteria declare
requests; `calibration` answers them all in one go, computed by the graph itself while it runs the original model.

* `Moments(tensor, axis)`: per index of an axis, how often it is zero, its sums, its largest magnitude.
* `Pooled(tensor, axis)`: per sample and index, the mean over everything else.
* `Maps(tensor, axis, samples)`: per sample and index, the values themselves, of a few samples.
* `Gram(layer)`: the second moment matrix X^T X of what a layer multiplies its weights with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.errors import OnnxPruneError
from onnxprune.layers import Layer

__all__ = ["Gram", "GramMatrix", "IndexMoments", "Maps", "Moments", "Pooled", "Request", "Statistics"]

Array: TypeAlias = npt.NDArray[Any]
Float: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moments:
    """`IndexMoments` of every index of `axis` of activation `tensor`, over all samples and all other axes."""

    tensor: str
    axis: int


@dataclass(frozen=True, slots=True)
class Pooled:
    """The mean of every index of `axis` in every sample (axis 0): float64 of shape (samples, indices)."""

    tensor: str
    axis: int


@dataclass(frozen=True, slots=True)
class Maps:
    """The values at every index of `axis` in the first `samples` samples: float32 (samples, indices, *other axes)."""

    tensor: str
    axis: int
    samples: int = 16


@dataclass(frozen=True, slots=True)
class Gram:
    """`GramMatrix` of the input of a layer: of its patches, for a convolution."""

    layer: Layer


Request: TypeAlias = Moments | Pooled | Maps | Gram


@dataclass(frozen=True)
class IndexMoments:
    """Sums over `count` values for each index, float64 of shape (indices,)."""

    count: int
    total: Float
    absolute: Float
    squares: Float
    zeros: Float
    maximum: Float

    @property
    def mean(self) -> Float:
        """The mean of each index."""
        return np.asarray(self.total / self.count)

    @property
    def variance(self) -> Float:
        """The variance of each index, never below zero."""
        return np.maximum(self.squares / self.count - self.mean**2, 0.0)


@dataclass(frozen=True)
class GramMatrix:
    """`matrix`, float64 of shape (G, I x K, I x K), is X^T X over `rows` rows of each group: see `layers.Layer`.

    `total`, shape (G, I x K), is the sum of the rows. Both are sums: the means are theirs over `rows`.
    """

    matrix: Float
    total: Float
    rows: int


@dataclass(frozen=True)
class Statistics:
    """The answers to requests; `samples` is how many samples they were computed from.

    `unanswered` says of a request why it could not be answered; asking for it is an error of the caller's.
    """

    answers: Mapping[Request, IndexMoments | GramMatrix | Array] = field(default_factory=dict)
    unanswered: Mapping[Request, str] = field(default_factory=dict)
    samples: int = 0

    def moments(self, tensor: str, axis: int) -> IndexMoments:
        """The answer to `Moments(tensor, axis)`."""
        found = self._answer(Moments(tensor, axis))
        assert isinstance(found, IndexMoments)
        return found

    def pooled(self, tensor: str, axis: int) -> Array:
        """The answer to `Pooled(tensor, axis)`."""
        found = self._answer(Pooled(tensor, axis))
        assert isinstance(found, np.ndarray)
        return found

    def maps(self, tensor: str, axis: int, samples: int = 16) -> Array:
        """The answer to `Maps(tensor, axis, samples)`."""
        found = self._answer(Maps(tensor, axis, samples))
        assert isinstance(found, np.ndarray)
        return found

    def gram(self, layer: Layer) -> GramMatrix:
        """The answer to `Gram(layer)`."""
        found = self._answer(Gram(layer))
        assert isinstance(found, GramMatrix)
        return found

    def has(self, request: Request) -> bool:
        """Whether a request was answered."""
        return request in self.answers

    def _answer(self, request: Request) -> IndexMoments | GramMatrix | Array:
        if request not in self.answers:
            why = self.unanswered.get(request, "it was not asked for")
            raise OnnxPruneError(f"no statistic for {request}: {why}")
        return self.answers[request]
