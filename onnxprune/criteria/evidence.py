"""What criteria judge by: the analysed model, statistics of its activations, labels, and runs with indices damped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from onnxprune.dependency import Analysis, Group
from onnxprune.dimensions import Vector
from onnxprune.layers import Layer, layers_of
from onnxprune.model import Array
from onnxprune.statistics import Statistics
from onnxprune.weights import Weights

__all__ = ["Divergence", "Evidence"]


class Divergence(Protocol):
    """How far the model's outputs are from the original's when indices of groups are damped.

    `gates[atom id]`, shape `(group size,)`, is what each index of a group is multiplied with where it is read: 1 leaves
    it, 0 silences it as a cut would; a group without one is left. The result is a number, 0 for no change at all.
    """

    def __call__(self, gates: Mapping[int, Vector]) -> float:
        """Run the model on the calibration samples with these gates."""
        ...

    def __len__(self) -> int:
        """How many samples there are."""
        ...

    def losses(self, gates: Mapping[int, Vector], part: slice = slice(None)) -> Vector:
        """One number for each sample of a part, whose squared slope says how much the outputs depend on a gate.

        The cross-entropy of its label where there are labels; else what stands for one, drawn from the outputs.
        """
        ...

    @property
    def gated(self) -> frozenset[int]:
        """The atoms whose gates have an effect; of others nothing can be measured."""
        ...


@dataclass(frozen=True)
class Evidence:
    """Everything that a criterion may look at; what it did not ask for is absent (see `Criterion`).

    `labels` are the class numbers of the samples that `statistics` were computed from, in the same order.
    """

    analysis: Analysis
    statistics: Statistics = field(default_factory=Statistics)
    seed: int = 0
    labels: Array | None = None
    divergence: Divergence | None = None

    @property
    def groups(self) -> Sequence[Group]:
        """The groups to score."""
        return self.analysis.groups

    @cached_property
    def weights(self) -> Weights:
        """The real values of the model's weights."""
        return Weights(self.analysis.model)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The model's layers, without embeddings."""
        return layers_of(self.analysis)
