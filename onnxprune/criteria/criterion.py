"""A criterion: how it judges, what it must be given for that, and at which granularities it has a say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.scores import Scores
from onnxprune.criteria.sites import SiteScore
from onnxprune.dependency import Analysis
from onnxprune.dimensions import Mask
from onnxprune.layers import Layer
from onnxprune.model import Array
from onnxprune.statistics import GramMatrix, Request

__all__ = ["Criterion", "Elements", "Select", "Sites", "Solve"]

Sites: TypeAlias = Mapping[int, Sequence[SiteScore]]
"""By atom id, what each site of a group says of its indices; a group of which nothing can be said is absent."""

Elements: TypeAlias = Callable[[Layer, Array, Evidence], Array]
"""The importance of every weight of a layer, (G, O, I, K), from its real values in that form; never negative."""


class Select(Protocol):
    """From importances and a sparsity to what stays, in the form that the user chose.

    Importances are those of a whole layer, (G, O, I, K), or of some of its inputs: from a multiple of `span` on, as
    many as `span`, or the rest. Where a solver decides piece by piece, that is what it may decide at once.
    """

    @property
    def span(self) -> int:
        """How many consecutive inputs are decided together."""
        ...

    def __call__(self, importance: Array, sparsity: float, /) -> Mask:
        """The mask of what stays, in the shape of `importance`."""
        ...


Solve: TypeAlias = Callable[[Layer, Array, GramMatrix, Select, float], tuple[Array, Mask]]
"""The new weights of a layer and which of them stay, (G, O, I, K) both, from its real values in that form, the Gram
matrix of its input, how to select, and the sparsity."""


def _nothing(analysis: Analysis) -> Iterable[Request]:
    return ()


@dataclass(frozen=True)
class Criterion:
    """`judge` scores groups: as sites, which the aggregation and normalisation that the user chose make one, or as is.

    `needs` are the statistics that it reads. `data` says what it takes beyond weights: calibration samples, labels
    with them, or runs of the model (`Evidence.divergence`). Statistics are there where samples are given; one of
    `weights` that has needs does without them, too. `elements` judges single weights, for granularities below the
    channel; None where the criterion has nothing to say of them. `solve` masks a whole layer and repairs what stays,
    instead of `elements`. `compare` says what single weights are weighed against: the layer, or their output alone.
    `about` is one line with its source.
    """

    name: str
    about: str
    judge: Callable[[Evidence], Sites | Scores]
    needs: Callable[[Analysis], Iterable[Request]] = _nothing
    data: Literal["weights", "samples", "labels", "runs"] = "weights"
    elements: Elements | None = None
    solve: Solve | None = None
    compare: Literal["layer", "output"] = "layer"
