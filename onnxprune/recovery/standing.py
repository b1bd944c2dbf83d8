"""On inputs that are not real, what layers read has the moments of real ones: norms take theirs from these inputs.

A BatchNormalization stores the mean and the variance that each channel had in training. On noise channels have others,
and what is fitted to them is fitted to nothing (docs/benchmarks.md). In the *stand-in* of a model these numbers are
those of the inputs at hand, taken norm after norm, each behind norms that have theirs already. So behind every norm
each channel has the mean and the spread that it has on real inputs, whatever goes in. What is chosen and refitted on
the stand-in is put back by taking the shift of the norms off again.

Matching these statistics is the idea of ZeroQ (Cai et al., CVPR 2020, arXiv 2001.00281) and DeepInversion (Yin et al.,
CVPR 2020, arXiv 1912.08795), who change inputs by gradients until they do. Here the norms are moved, not the inputs,
so that no gradients are needed, and the match is exact. How channels go together is still that of the inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.dependency import Analysis, analyse
from onnxprune.model import Edit, Node
from onnxprune.model.segment import Segments
from onnxprune.recovery.stepping import Feed, Stepper

__all__ = ["Shift", "norms_of", "put_back", "shift_of", "stand_in"]

Array: TypeAlias = npt.NDArray[Any]
Shift: TypeAlias = Mapping[str, npt.NDArray[np.float64]]
"""What is added to means and variances of norms, by name."""


def norms_of(analysis: Analysis) -> list[Node]:
    """The norms with statistics of their own, in the order in which they run: in the main graph, read by no other."""
    model, segments = analysis.model, Segments(analysis.model)
    readers = Counter(name for node in model.nodes for name in node.inputs)
    found = [
        node
        for node in model.nodes
        if node.op_type == "BatchNormalization"
        and node.domain == ""
        and not node.attributes.get("training_mode", 0)
        and len(node.outputs) == 1
        and node.outputs[0] in segments.maker
        and node.inputs[0] in segments.live
        and all(name in model.weights and readers[name] == 1 for name in node.inputs[3:5])
    ]
    return sorted(found, key=lambda node: segments.maker[node.outputs[0]])


def shift_of(analysis: Analysis, batches: Sequence[Feed], threads: int = 1) -> Shift:
    """How far the statistics of norms move when they are taken from `batches`; empty where there are none.

    Errors: `RunFailed`.
    """
    model, norms = analysis.model, norms_of(analysis)
    stepper = Stepper(model, batches, [frozenset({node.inputs[0]}) for node in norms], analysis.shapes.dtype, threads)
    taken: dict[str, Array] = {}
    shift: dict[str, npt.NDArray[np.float64]] = {}
    for node in norms:
        values = [batch[node.inputs[0]].astype(np.float64) for batch in stepper.step(taken)]
        count = sum(array.size // array.shape[1] for array in values)
        mean = sum(_over_channels(array) for array in values) / count
        spread = sum(_over_channels((array - _along(mean, array)) ** 2) for array in values) / count
        for name, found in zip(node.inputs[3:5], (mean, spread), strict=True):
            now = model.array(name)
            shift[name] = found - now.astype(np.float64)
            taken[name] = found.astype(now.dtype)
    return shift


def stand_in(analysis: Analysis, shift: Shift) -> Analysis:
    """The model with the statistics of its norms moved by `shift`, analysed; the same one, where that is empty."""
    if not shift:
        return analysis
    edit = Edit(analysis.model)
    for name, by in shift.items():
        now = analysis.model.array(name)
        edit.replace(name, (now.astype(np.float64) + by).astype(now.dtype))
    return analyse(edit.done(), analysis.shapes.sizes, allow=analysis.allow, prober=analysis.prober)


def put_back(values: Mapping[str, Array], shift: Shift) -> dict[str, Array]:
    """New values of the stand-in's weights as values of the model's own: without the shift."""
    return {
        name: (array.astype(np.float64) - shift[name]).astype(array.dtype) if name in shift else array
        for name, array in values.items()
    }


def _over_channels(array: Array) -> Array:
    """The sum over all axes but the second."""
    return np.asarray(array.sum(axis=tuple(axis for axis in range(array.ndim) if axis != 1)))


def _along(channels: Array, array: Array) -> Array:
    return channels.reshape(-1, *[1] * (array.ndim - 2))
