"""What goes is folded into its nearest neighbour that stays: repair from weights alone, for runs without data.

If two filters make nearly the same map, one up to a positive factor, the layers that read both can read the one that
stays for both: its columns take those of the other times the factor (Srinivas & Babu, Data-free Parameter Pruning,
BMVC 2015, arXiv 1507.06149; RED, Yvinec et al., NeurIPS 2021, arXiv 2105.14797). A negative factor does not pass a
ReLU, so it is never taken; the less alike the two are, the less is folded.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.consumers import consumers_of
from onnxprune.criteria.vectors import rows
from onnxprune.dependency import Analysis, Group
from onnxprune.dimensions import Mask
from onnxprune.layers import Layer, layers_of
from onnxprune.plan import Plan
from onnxprune.weights import Weights

__all__ = ["folded"]

Array: TypeAlias = npt.NDArray[Any]
ALIKE = 0.2  # the least cosine of two filters of which one is folded into the other (measured: docs/benchmarks.md)
BLOCK = 512  # filters that are compared with all others at once


def folded(analysis: Analysis, plan: Plan) -> tuple[dict[str, Array], int]:
    """New values of weights by name, and how many indices were folded into another."""
    layers = layers_of(analysis)
    readers = consumers_of(analysis, layers)
    weights = Weights(analysis.model)
    shared = _shared(layers)
    matrices: dict[str, tuple[Layer, Array]] = {}
    number = 0
    for group in analysis.groups:
        keep = plan.keep.get(group.atom.id)
        consumers = [c for c in readers.get(group.atom.id, ()) if c.layer.weight not in shared]
        if keep is None or not consumers:
            continue
        read = {c.layer.weight for c in readers[group.atom.id]}
        factors = _factors(analysis, weights, group, keep, read)
        number += len(factors)
        for consumer in consumers:
            layer = consumer.layer
            if analysis.model.weights[layer.weight].dtype.kind != "f":
                continue
            if layer.weight not in matrices:
                groups, outputs, _, _ = layer.shape
                matrix = layer.matrix(analysis.model.array(layer.weight)).reshape(groups, outputs, -1)
                turned = matrix.astype(np.result_type(matrix, np.float32), copy=False).transpose(0, 2, 1)
                matrices[layer.weight] = layer, turned.copy()
            matrix = matrices[layer.weight][1]
            for part, columns in enumerate(consumer.columns):
                for gone, (stays, factor) in factors.items():
                    matrix[part, columns[stays]] += factor * matrix[part, columns[gone]]
    found = {}
    for name, (layer, matrix) in matrices.items():
        stored = layer.stored(matrix.transpose(0, 2, 1).reshape(layer.shape))
        found[name] = np.ascontiguousarray(stored.astype(analysis.model.weights[name].dtype))
    return found, number


def _shared(layers: tuple[Layer, ...]) -> frozenset[str]:
    names = [layer.weight for layer in layers]
    return frozenset(name for name in names if names.count(name) > 1)


def _factors(
    analysis: Analysis, weights: Weights, group: Group, keep: Mask, read: set[str]
) -> dict[int, tuple[int, float]]:
    """For each index that goes and is like one that stays: which, and how many times it."""
    made = [site for site in group.sites if site.tensor not in read]
    parts = [rows(weights.real(s.tensor), s.axis, s.dim, group.atom) for s in made]
    if not parts or all(len(analysis.dims(site.tensor)) < 2 for site in made):
        return {}
    vectors = np.concatenate([part.reshape(group.size, -1) for part in parts], axis=1, dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=1)
    directions = np.divide(vectors, norms[:, None], out=np.zeros_like(vectors), where=norms[:, None] > 0)
    stay, going = np.flatnonzero(keep), np.flatnonzero(~keep)
    kept = directions[stay].T
    found = {}
    for start in range(0, len(going), BLOCK):
        some = going[start : start + BLOCK]
        alike = directions[some] @ kept
        best = np.argmax(alike, axis=1)
        for gone, nearest, cosine in zip(some, stay[best], alike[np.arange(len(some)), best], strict=True):
            if cosine >= ALIKE:
                found[int(gone)] = int(nearest), float(cosine * norms[gone] / norms[nearest])
    return found
