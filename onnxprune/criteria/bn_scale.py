"""Batch-norm scale: an index matters as much as the norm that follows it lets through."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxprune.criteria.criterion import Criterion
from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.scores import Scores
from onnxprune.dependency import Analysis
from onnxprune.dimensions import Dimension, Vector, atoms, project
from onnxprune.layers import layers_of
from onnxprune.statistics import Moments

__all__ = ["BN_SCALE", "bn_scale"]

_FOLDED_INTO = frozenset({"Conv", "ConvTranspose", "Gemm"})


def bn_scale(evidence: Evidence) -> Scores:
    """|gamma|: Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017.

    (arXiv 1708.06519.) An index takes the mean |gamma| of all BatchNormalization channels that go with it. As there,
    scales are compared across the whole network: they are divided by one number, the mean over the model, so that
    they are of the size of other scores.

    A norm that was folded into its layer cannot be had back: the weights are gamma / sigma x w, and no one knows sigma.
    But what the norm made has the standard deviation |gamma| on the data that it was trained on, and the layer still
    makes the same numbers. So where calibration samples are given, a group without a norm takes the standard deviation
    of what its layers with a bias make. (A layer that never had a norm cannot be told from one that had.) Without
    samples it is missing.
    """
    analysis = evidence.analysis
    found = [(dim, np.abs(evidence.weights.real(gamma)).astype(np.float64)) for gamma, dim in _gammas(analysis).items()]
    for request, dim in _folded(analysis):
        if evidence.statistics.has(request):
            found.append((dim, np.sqrt(evidence.statistics.moments(request.tensor, request.axis).variance)))
    totals: dict[int, Vector] = {}
    channels: dict[int, Vector] = {}
    total, number = 0.0, 0
    for dim, values in found:
        total, number = total + float(values.sum()), number + values.size
        project(dim, values, totals)
        project(dim, np.ones_like(values), channels)
    scale = total / number if total > 0 else 1.0
    return Scores.of("bn-scale", analysis.groups, {atom: totals[atom] / channels[atom] / scale for atom in totals})


def needs(analysis: Analysis) -> Iterator[Moments]:
    """What the layers make whose norm may have been folded."""
    return (request for request, _ in _folded(analysis))


def _gammas(analysis: Analysis) -> dict[str, Dimension]:
    """The type of the only axis of every gamma."""
    model = analysis.model
    nodes = (n for n in model.nodes if n.op_type == "BatchNormalization" and n.domain == "")
    return {n.inputs[1]: analysis.dims(n.inputs[1])[0] for n in nodes if n.inputs[1] in model.weights}


def _folded(analysis: Analysis) -> Iterator[tuple[Moments, Dimension]]:
    """What layers with a bias make, where it holds a group but no index of a group that has a norm."""
    groups = {group.atom for group in analysis.groups}
    normed = {atom for dim in _gammas(analysis).values() for atom in atoms(dim)}
    for layer in layers_of(analysis):
        dims = analysis.dims(layer.output)
        if layer.op_type in _FOLDED_INTO and layer.bias and dims:
            held = set(atoms(dims[layer.output_axis])) & groups
            if held and held.isdisjoint(normed):
                yield Moments(layer.output, layer.output_axis), dims[layer.output_axis]


BN_SCALE = Criterion(
    "bn-scale",
    "|gamma| of batch normalisation, measured where it is folded: network slimming (arXiv 1708.06519)",
    bn_scale,
    needs,
)
