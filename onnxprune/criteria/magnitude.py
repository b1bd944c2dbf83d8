"""Magnitude criteria: an index matters as much as the weights that leave or enter with it are large.

Every axis of every weight of rank two or more that a group occurs in is a site (biases and norms have no vote: they
shift and scale what the weights make). At a site, the score of an index is the norm of all numbers that go with it:
the slice of a convolution's filter, the columns of the layer that reads it, both halves of a gated unit. Sites differ
in scale and in number, so each is divided by its mean, and a group takes the average of its sites: in every group the
mean score is one, and a group with many sites weighs no more than another.

Quantized weights are judged by their real values. Each weight is read once, for all its axes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np

from onnxprune.criteria.scores import Scores
from onnxprune.dependency import Analysis
from onnxprune.dimensions import Vector, project
from onnxprune.model import Array
from onnxprune.weights import Weights

__all__ = ["l1", "l2", "linf"]


def l1(analysis: Analysis, *, seed: int = 0) -> Scores:
    """The sum of absolute weights: Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017 (arXiv 1608.08710)."""
    return _magnitude("l1", analysis, np.abs, np.add, _itself)


def l2(analysis: Analysis, *, seed: int = 0) -> Scores:
    """The Euclidean norm: Han et al., Learning both Weights and Connections, NIPS 2015 (arXiv 1506.02626), by index.

    Over a whole group as in Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023 (arXiv 2301.12900).
    """
    return _magnitude("l2", analysis, np.square, np.add, np.sqrt)


def linf(analysis: Analysis, *, seed: int = 0) -> Scores:
    """The largest absolute weight: the limit p = infinity of the norms that Li et al. compare (arXiv 1608.08710)."""
    return _magnitude("linf", analysis, np.abs, np.maximum, _itself)


def _itself(values: Vector) -> Vector:
    return values


def _magnitude(
    name: str,
    analysis: Analysis,
    power: Callable[[Array], Array],
    combine: np.ufunc,
    root: Callable[[Vector], Vector],
) -> Scores:
    """`root(combine(power(w)))` over what goes with each index, normalised at each site and averaged over sites."""
    wanted = {group.atom.id for group in analysis.groups}
    weights = Weights(analysis.model)
    totals: dict[int, Vector] = {}
    sites: dict[int, int] = defaultdict(int)
    for tensor, axes in _sites(analysis).items():
        for axis, along in _along_axes(power(weights.real(tensor)), axes, combine).items():
            found: dict[int, Vector] = {}
            project(analysis.dims(tensor)[axis], along, found, combine)
            for atom in found.keys() & wanted:
                values = root(found[atom])
                mean = values.mean()
                values = values / mean if mean > 0 else values
                sites[atom] += 1
                totals[atom] = totals[atom] + values if atom in totals else values
    return Scores.of(name, analysis.groups, {atom: total / sites[atom] for atom, total in totals.items()})


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
