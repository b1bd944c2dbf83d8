"""Magnitude criteria: an index matters as much as the weights that leave or enter with it are large.

Every axis of every weight of rank two or more that a group occurs in is a site (biases and norms have no vote: they
shift and scale what the weights make). At a site, the score of an index is the norm of all numbers that go with it:
the slice of a convolution's filter, the columns of the layer that reads it, both halves of a gated unit. How sites
become one score is told in `sites`.

Quantized weights are judged by their real values. Each weight is read once, for all its axes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np

from onnxprune.criteria.criterion import Criterion, Sites
from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.sites import SiteScore
from onnxprune.dependency import Analysis
from onnxprune.dimensions import Vector, project
from onnxprune.layers import Layer
from onnxprune.model import Array

__all__ = ["L0", "L1", "L2", "LINF", "magnitude"]


def _itself(values: Vector) -> Vector:
    return values


def magnitude(
    evidence: Evidence, power: Callable[[Array], Array], combine: np.ufunc, root: Callable[[Vector], Vector]
) -> Sites:
    """`root(combine(power(w)))` over what goes with each index, for each site of each group."""
    analysis = evidence.analysis
    wanted = {group.atom.id: group.size for group in analysis.groups}
    sites: dict[int, list[SiteScore]] = defaultdict(list)
    for tensor, axes in _sites(analysis).items():
        values = power(evidence.weights.real(tensor))
        for axis, along in _along_axes(values, axes, combine).items():
            found: dict[int, Vector] = {}
            project(analysis.dims(tensor)[axis], along, found, combine)
            for atom in found.keys() & wanted.keys():
                sites[atom].append(SiteScore(tensor, axis, root(found[atom]), max(1, values.size // wanted[atom])))
    return sites


def _criterion(
    name: str, about: str, power: Callable[[Array], Array], combine: np.ufunc, root: Callable[[Vector], Vector]
) -> Criterion:
    def judge(evidence: Evidence) -> Sites:
        return magnitude(evidence, power, combine, root)

    def elements(layer: Layer, weights: Array, evidence: Evidence) -> Array:
        return power(weights)

    return Criterion(name, about, judge, elements=elements)


def _nonzero(values: Array) -> Array:
    return np.asarray(values != 0, dtype=np.float32)


L0 = _criterion("l0", "how many weights are not zero: for models that are sparse already", _nonzero, np.add, _itself)
L1 = _criterion("l1", "the sum of absolute weights: Li et al., ICLR 2017 (arXiv 1608.08710)", np.abs, np.add, _itself)
L2 = _criterion(
    "l2",
    "the Euclidean norm: Han et al., NIPS 2015 (arXiv 1506.02626); over a group as in DepGraph (arXiv 2301.12900)",
    np.square,
    np.add,
    np.sqrt,
)
LINF = _criterion(
    "linf",
    "the largest absolute weight: the limit of the norms that Li et al. compare (arXiv 1608.08710)",
    np.abs,
    np.maximum,
    _itself,
)


def _sites(analysis: Analysis) -> Mapping[str, list[int]]:
    """The axes of weights of rank two or more that any group occurs in, by weight."""
    found: dict[str, list[int]] = defaultdict(list)
    for group in analysis.groups:
        for site in group.sites:
            if len(analysis.dims(site.tensor)) > 1 and site.axis not in found[site.tensor]:
                found[site.tensor].append(site.axis)
    return {tensor: axes for tensor, axes in found.items() if axes}


def _along_axes(values: Array, axes: list[int], combine: np.ufunc) -> dict[int, Vector]:
    """For each of `axes`, `values` combined over all other axes; those that no one asks for go first, and once."""
    others = tuple(axis for axis in range(values.ndim) if axis not in axes)
    small = combine.reduce(values, axis=others, keepdims=True) if others else values
    return {
        axis: combine.reduce(small, axis=tuple(k for k in range(values.ndim) if k != axis), dtype=np.float64)
        for axis in axes
    }
