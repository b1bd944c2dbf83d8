"""What a layer multiplies its weights with, as real numbers, or why that cannot be had.

A layer of floats multiplies the tensor that it reads. One of integers reads them with a scale and a zero point: what
they stand for is multiplied where both are constant, and where they are made while the model runs, what was quantized.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.analysis import Analysis
from onnxprune.layers import Layer
from onnxprune.model import Node
from onnxprune.model.segment import Segments
from onnxprune.quantization import quantized

__all__ = ["RECURRENT", "Reading", "reading_of"]

Array: TypeAlias = npt.NDArray[Any]
RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_QUANTIZERS = frozenset({"DynamicQuantizeLinear", "QuantizeLinear"})


@dataclass(frozen=True, slots=True)
class Reading:
    """The layer multiplies (`tensor` - `point`) x `scale`, and the product with `gain`."""

    tensor: str
    scale: float = 1.0
    point: float = 0.0
    gain: float = 1.0

    def real(self, x: Array) -> Array:
        """The values of the tensor, as the layer multiplies them: float32, or wider as they are."""
        floats = x.dtype.kind == "f" and x.dtype.itemsize >= 4
        wide = x if floats else x.astype(np.float32)
        if self.point:
            wide = wide - np.float32(self.point)
        factor = self.scale * self.gain
        return wide if factor == 1 else wide * wide.dtype.type(factor)


def reading_of(layer: Layer, analysis: Analysis, segments: Segments) -> Reading | str:
    """How the layer reads, or why it is not known what it multiplies."""
    node = analysis.model.nodes[layer.node]
    if not layer.data:
        return "it multiplies no tensor of the graph" if layer.op_type not in RECURRENT else "it multiplies a state"
    if layer.data not in segments.live:
        known = layer.data in segments.maker or layer.data in analysis.model.weights
        return "it reads constants" if known else "it is in the body of an If, a Loop or a Scan"
    if node.attributes.get("channels_last"):
        return "its channels are last"
    gain = float(node.attributes.get("alpha", 1.0)) if layer.op_type in ("Gemm", "FusedGemm", "FusedMatMul") else 1.0
    if node.op_type == "QGemm" and float(node.attributes.get("alpha", 1.0)) != 1:
        return "its product of integers is scaled"
    how = quantized(node.op_type, node.attributes, node.inputs.index(layer.data))
    if how is None:
        return Reading(layer.data, gain=gain)
    names = [node.inputs[k] if k is not None and k < len(node.inputs) else "" for k in (how.scale, how.point)]
    constants = [_one(analysis, name, default) for name, default in zip(names, (1.0, 0.0), strict=True)]
    source = _quantized_from(analysis, segments, layer.data)
    scale, point = constants
    if how.scale is not None and scale is not None and point is not None:
        return Reading(layer.data, scale, point)
    if source:
        return Reading(source)
    if how.scale is None and point is not None:
        return Reading(layer.data, 1.0, point)
    return "the scale of what it reads is not known"


def _one(analysis: Analysis, name: str, default: float) -> float | None:
    """The constant of one number of this name; None where it is none."""
    if not name:
        return default
    info = analysis.model.weights.get(name)
    if info is None or np.prod(info.shape, dtype=int) != 1:
        return None
    return float(analysis.model.array(name).reshape(-1)[0])


def _quantized_from(analysis: Analysis, segments: Segments, name: str) -> str:
    """What a node has quantized to make this tensor, "" where none did."""
    maker: Node | None = next((node for node in analysis.model.nodes if name in node.outputs), None)
    if maker is None or maker.op_type not in _QUANTIZERS or maker.inputs[0] not in segments.live:
        return ""
    return maker.inputs[0]
