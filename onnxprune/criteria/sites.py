"""From what each site says of a group's indices to one score: normalise each site, then aggregate over sites.

Sites differ in scale and in number. By default each is divided by its mean and a group takes the mean of its sites:
the mean score is one in every group, and a group with many sites weighs no more than another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from onnxprune.dimensions import Vector
from onnxprune.errors import UsageError

__all__ = ["AGGREGATIONS", "NORMALISATIONS", "SiteScore", "aggregated", "lamp"]


@dataclass(frozen=True, slots=True)
class SiteScore:
    """What axis `axis` of `tensor` says of a group's indices, float64 (size,); `numbers` weights go with each."""

    tensor: str
    axis: int
    values: Vector
    numbers: int = 1


def _divided(values: Vector, by: float) -> Vector:
    return values / by if by > 0 else values


def _standardised(values: Vector) -> Vector:
    return _divided(values - values.mean(), float(values.std()))


def lamp(values: Vector) -> Vector:
    """The share of an index among those that matter as much or more: Lee et al., ICLR 2021 (arXiv 2010.07611)."""
    order = np.argsort(values, kind="stable")
    squares = np.square(values[order])
    remaining = np.cumsum(squares[::-1])[::-1]
    scores = np.empty_like(squares)
    scores[order] = np.divide(squares, remaining, out=np.zeros_like(squares), where=remaining > 0)
    return scores


NORMALISATIONS: Mapping[str, Callable[[SiteScore], Vector]] = MappingProxyType(
    {
        "none": lambda site: site.values,
        "mean": lambda site: _divided(site.values, float(np.abs(site.values).mean())),
        "max": lambda site: _divided(site.values, float(np.abs(site.values).max())),
        "standardise": lambda site: _standardised(site.values),
        "per-parameter": lambda site: _divided(site.values, float(site.numbers)),
        "lamp": lambda site: lamp(site.values),
    }
)
AGGREGATIONS: Mapping[str, Callable[[Sequence[Vector]], Vector]] = MappingProxyType(
    {
        "mean": lambda sites: np.asarray(np.mean(sites, axis=0)),
        "sum": lambda sites: np.asarray(np.sum(sites, axis=0)),
        "max": lambda sites: np.asarray(np.max(sites, axis=0)),
        "product": lambda sites: np.asarray(np.prod(sites, axis=0)),
        "first": lambda sites: sites[0],
    }
)


def aggregated(sites: Sequence[SiteScore], aggregate: str = "mean", normalise: str = "mean") -> Vector:
    """The scores of one group, float64 of shape (size,). `UsageError` for a name that is in neither table."""
    for name, table, flag in ((aggregate, AGGREGATIONS, "--aggregate"), (normalise, NORMALISATIONS, "--normalise")):
        if name not in table:
            raise UsageError(f"{flag} {name!r}: expected one of {', '.join(table)}")
    return AGGREGATIONS[aggregate]([NORMALISATIONS[normalise](site) for site in sites])
