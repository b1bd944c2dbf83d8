"""A criterion: how it judges, what it must be given for that, and at which granularities it has a say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.scores import Scores
from onnxprune.criteria.sites import SiteScore
from onnxprune.dependency import Analysis
from onnxprune.layers import Layer
from onnxprune.model import Array
from onnxprune.statistics import Request, Statistics

__all__ = ["Criterion", "Elements", "Sites"]

Sites: TypeAlias = Mapping[int, Sequence[SiteScore]]
"""By atom id, what each site of a group says of its indices; a group of which nothing can be said is absent."""

Elements: TypeAlias = Callable[[Layer, Array, Statistics], Array]
"""The importance of every weight of a layer, (G, O, I, K), from its real values in that form; never negative."""


def _nothing(analysis: Analysis) -> Iterable[Request]:
    return ()


@dataclass(frozen=True)
class Criterion:
    """`judge` scores groups: as sites, which the aggregation and normalisation that the user chose make one, or as is.

    `needs` are the statistics that it reads. `data` says what it takes beyond weights: calibration samples, labels
    with them, or runs of the model (`Evidence.divergence`). Statistics are there where samples are given; one of
    `weights` that has needs does without them, too. `elements` judges single weights, for granularities below
    the channel; None where the criterion has nothing to say of them. `about` is one line with its source.
    """

    name: str
    about: str
    judge: Callable[[Evidence], Sites | Scores]
    needs: Callable[[Analysis], Iterable[Request]] = _nothing
    data: Literal["weights", "samples", "labels", "runs"] = "weights"
    elements: Elements | None = None
