"""What lies behind a layer: where its bias is stored, and the Add that joins it to a shortcut.

Frameworks export a bias as an operand of the node, as an Add of a constant behind it, or hide it in the mean of a
BatchNormalization. Whoever refits a layer refits its bias with it, wherever that is. A pair of QuantizeLinear and
DequantizeLinear behind the layer changes nothing but for what its range cuts off, as an activation does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.dependency import Analysis
from onnxprune.layers import LOOKED_THROUGH, Layer
from onnxprune.model import Model, Node
from onnxprune.model.segment import Segments
from onnxprune.recovery.activations import limits_of, range_of
from onnxprune.recovery.clipping import Bounds
from onnxprune.recovery.reading import RECURRENT
from onnxprune.recovery.stored import unit_of
from onnxprune.weights import Weights

__all__ = ["Behind", "Surroundings"]

Array: TypeAlias = npt.NDArray[Any]
_PLAIN = frozenset({"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul",
                    "TransposeMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearConv", "QLinearMatMul",
                    "QGemm"})  # fmt: skip
_BIAS = {"Conv": 2, "FusedConv": 2, "ConvTranspose": 2, "Gemm": 2, "FusedGemm": 2, "QLinearConv": 8, "QGemm": 6,
         "MatMulIntegerToFloat": 6, "DynamicQuantizeMatMul": 4}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Behind:
    """`bias` is a constant whose value times `factor` (a number, or (G, O)) adds to the outputs, "" if there is none.

    `shortcut` is the other operand of an Add behind the layer, "" where there is none that is known before the layer
    runs; what the shortcut lacks is to be made by the layer `scale` times, a number for each output. Of what the layer
    makes, with that, an activation behind it sees what is within `bounds`; None where none follows that cuts off.
    """

    bias: str = ""
    factor: float | Array = 1.0
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
        self._weights = Weights(analysis.model)
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
        """Follow the layer's output while one node alone reads it, and it is what the layer makes and no more."""
        bias, factor, known = self._own_bias(layer)
        node = self._analysis.model.nodes[layer.node]
        more = node.op_type == "FusedConv" and len(node.inputs) > 3  # what it adds beside its bias
        if not known or more or layer.op_type not in _PLAIN or "activation" in node.attributes:
            return Behind(bias, factor)
        offset = np.zeros(layer.shape[0] * layer.shape[1])  # of what is read behind, beyond what the layer makes
        if layer.bias and not bias:
            offset = offset + self._weights.real(layer.bias).reshape(-1) * factor
        if layer.op_type.startswith("Q"):
            limits = range_of(node, self._analysis.model)
            return Behind(bias, factor, bounds=None if limits is None else _bounds(limits, None, offset, layer))
        return self._further(layer, bias, factor, offset)

    def _further(self, layer: Layer, bias: str, factor: float | Array, offset: Array) -> Behind:
        shortcut, name, model = "", layer.output, self._analysis.model
        scale: Array | None = None
        ranged: Bounds | None = None  # by integers behind, and by nothing else so far
        while (node := self._only_reader(name)) is not None:
            if node.op_type == "BatchNormalization" and node.domain == "" and scale is None and not shortcut:
                own, gamma = self._norm(node, layer)
                if gamma is None:
                    break
                beta, mean = (model.array(node.inputs[k]).astype(np.float64) for k in (2, 3))
                if own and not bias:
                    bias, factor = own, -1.0
                else:
                    offset = offset - mean
                scale, offset, ranged = gamma, offset + beta * gamma, None
            elif node.op_type == "Add" and not shortcut:
                other = node.inputs[1] if node.inputs[0] == name else node.inputs[0]
                ranged = None
                if other in model.weights and self._fits(other, layer):
                    if not bias and scale is None and self.readers(other) == 1:
                        bias, factor = other, 1.0
                    else:
                        offset = offset + model.array(other).reshape(-1) * (1.0 if scale is None else scale)
                elif other in model.weights or other == name or not self._is_shortcut(other, layer):
                    break
                else:
                    shortcut = other
            elif node.op_type == "QuantizeLinear":
                limits = range_of(node, model)
                ranged = None if limits is None else _bounds(limits, scale, offset, layer)
            elif node.op_type != "DequantizeLinear":
                limits = limits_of(node, model)
                bounds = ranged if limits is None else _bounds(limits, scale, offset, layer)
                return Behind(bias, factor, shortcut, scale if shortcut else None, bounds)
            name = node.outputs[0]
        return Behind(bias, factor, shortcut, scale if shortcut else None, ranged)

    def _own_bias(self, layer: Layer) -> tuple[str, float | Array, bool]:
        """The bias that the node reads and a repair may change, "" for none; its factor; whether what it adds is known.

        Of a recurrence, the input's half of it: the first of two rows of each direction.
        """
        model, name = self._analysis.model, layer.bias
        node = model.nodes[layer.node]
        if layer.op_type in RECURRENT:
            name = node.inputs[3] if len(node.inputs) > 3 else ""
            own = name in model.weights and name not in model.folded and self.alone(name)
            return (name if own and self._weights.is_known(name) else ""), 1.0, True
        outputs = layer.shape[0] * layer.shape[1]
        operand = node.inputs[_BIAS[layer.op_type]] if len(node.inputs) > _BIAS.get(layer.op_type, 99) else ""
        if not name:
            return "", 1.0, not operand
        unit = unit_of(model, layer, node, name)
        if unit is None:
            return "", 1.0, False
        factor = unit * (float(node.attributes.get("beta", 1.0)) if layer.op_type in ("Gemm", "FusedGemm") else 1.0)
        fits = np.prod(model.weights[name].shape, dtype=int) == outputs
        changed = fits and bool(np.all(factor != 0)) and self.alone(name)
        return (name if changed else ""), factor if fits else 1.0, fits

    def alone(self, name: str) -> bool:
        """Whether one node alone reads a constant, and one alone what is moved or dequantized of it."""
        while (node := self._only_reader(name)) is not None and node.op_type in LOOKED_THROUGH:
            name = node.outputs[0]
        return node is not None

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
