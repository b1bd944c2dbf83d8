"""What lies behind a layer: where its bias is stored, and the Add that joins it to a shortcut.

Frameworks export a bias as an operand of the node, as an Add of a constant behind it, or hide it in the mean of a
BatchNormalization. Whoever refits a layer refits its bias with it, wherever that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.dependency import Analysis
from onnxprune.layers import Layer
from onnxprune.model import Model, Node
from onnxprune.model.segment import Segments
from onnxprune.recovery.activations import limits_of
from onnxprune.recovery.clipping import Bounds

__all__ = ["Behind", "Surroundings"]

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Behind:
    """`bias` is a constant whose value times `sign` adds to the layer's outputs, "" where there is none.

    `shortcut` is the other operand of an Add behind the layer, "" where there is none that is known before the layer
    runs; what the shortcut lacks is to be made by the layer `scale` times, a number for each output. Of what the layer
    makes, with that, an activation behind it sees what is within `bounds`; None where none follows that cuts off.
    """

    bias: str = ""
    sign: float = 1.0
    shortcut: str = ""
    scale: Array | None = None
    bounds: Bounds | None = None

    def share(self, beside: Array, groups: int) -> Array:
        """What a shortcut (G, R, O) adds to what the layer makes."""
        if self.scale is None:
            return beside
        return np.asarray(beside * self.scale.reshape(groups, 1, -1).astype(beside.dtype))


def _bounds(limits: tuple[float, float], scale: Array | None, offset: Array, layer: Layer) -> Bounds:
    """The limits of an activation in what the layer makes: it reads made / scale + offset / scale.

    An output whose scale is 0 stands for one that the norm all but removes; it is bounded by nothing.
    """
    factor = np.ones_like(offset) if scale is None else np.asarray(scale, np.float64).reshape(-1)
    with np.errstate(invalid="ignore"):
        ends = np.sort(np.stack([limit * factor for limit in limits]), axis=0) - offset
    ends[:, factor == 0] = [[-np.inf], [np.inf]]
    floor, ceiling = (end.reshape(layer.shape[0], 1, layer.shape[1]).astype(np.float32) for end in ends)
    return Bounds(floor, ceiling)


class Surroundings:
    """Looks behind the layers of one model."""

    def __init__(self, analysis: Analysis, segments: Segments) -> None:
        self._analysis, self._segments = analysis, segments
        self._readers: dict[str, list[Node]] = {}
        for node in analysis.model.nodes:
            for name in node.inputs:
                self._readers.setdefault(name, []).append(node)
        for info in analysis.model.outputs:
            self._readers.setdefault(info.name, []).append(Node(-1, "", "", "", (), (), {}))

    def readers(self, name: str) -> int:
        """How many nodes read a tensor; the graph's outputs count."""
        return len(self._readers.get(name, ()))

    def behind(self, layer: Layer) -> Behind:
        """Follow the layer's output while one node alone reads it."""
        bias, sign, shortcut, name = layer.bias, 1.0, "", layer.output
        scale: Array | None = None
        offset = np.zeros(layer.shape[0] * layer.shape[1])  # of what is read behind, beyond what the layer makes
        model = self._analysis.model
        if bias and self.readers(bias) > 1:
            offset, bias = offset + model.array(bias).reshape(-1), ""
        while (node := self._only_reader(name)) is not None:
            if node.op_type == "BatchNormalization" and node.domain == "" and scale is None and not shortcut:
                own, gamma = self._norm(node, layer)
                if gamma is None:
                    break
                beta, mean = (model.array(node.inputs[k]).astype(np.float64) for k in (2, 3))
                if own and not bias:
                    bias, sign = own, -1.0
                else:
                    offset = offset - mean
                scale, offset = gamma, offset + beta * gamma
            elif node.op_type == "Add" and not shortcut:
                other = node.inputs[1] if node.inputs[0] == name else node.inputs[0]
                if other in model.weights and self._fits(other, layer):
                    if not bias and scale is None and self.readers(other) == 1:
                        bias = other
                    else:
                        offset = offset + model.array(other).reshape(-1) * (1.0 if scale is None else scale)
                elif other in model.weights or other == name or not self._is_shortcut(other, layer):
                    break
                else:
                    shortcut = other
            else:
                limits = limits_of(node, model)
                bounds = None if limits is None else _bounds(limits, scale, offset, layer)
                return Behind(bias, sign, shortcut, scale if shortcut else None, bounds)
            name = node.outputs[0]
        return Behind(bias, sign, shortcut, scale if shortcut else None)

    def _only_reader(self, name: str) -> Node | None:
        readers = self._readers.get(name, [])
        return readers[0] if len(readers) == 1 and readers[0].index >= 0 else None

    def _fits(self, bias: str, layer: Layer) -> bool:
        """Whether a constant added behind a layer has one number for each of its outputs, along their axis."""
        shape = self._analysis.model.weights[bias].shape
        rank = len(self._analysis.shapes.shape.get(layer.output) or ())
        axis = layer.output_axis % rank if rank else 0
        aligned = (1,) * (rank - len(shape)) + shape
        outputs = layer.shape[0] * layer.shape[1]
        return len(aligned) == rank and aligned[axis] == outputs == int(np.prod(shape))

    def _norm(self, node: Node, layer: Layer) -> tuple[str, Array | None]:
        """The mean of a BatchNormalization, if no other node reads it, and by what it divides each channel."""
        model: Model = self._analysis.model
        if layer.output_axis != 1 or any(name not in model.weights for name in node.inputs[1:5]):
            return "", None
        gamma, variance = (model.array(node.inputs[k]).astype(np.float64) for k in (1, 4))
        deviation = np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
        scale = np.divide(deviation, gamma, out=np.zeros_like(gamma), where=np.abs(gamma) > 1e-3 * np.abs(gamma).max())
        mean = node.inputs[3]
        return mean if self.readers(mean) == 1 else "", scale

    def _is_shortcut(self, other: str, layer: Layer) -> bool:
        """Whether a tensor is an activation of the layer's shape that is known before the layer's output is."""
        shapes, segments = self._analysis.shapes.shape, self._segments
        if other not in segments.live or shapes.get(other) != shapes.get(layer.output):
            return False
        own = segments.maker[layer.output]
        return segments.maker.get(other, -1) < own and own not in segments.needed([other], frozenset())
