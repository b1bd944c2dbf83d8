"""Which sparsity a model has already: shares of zeros, and which N:M holds along which axis of which layer.

TensorRT takes a layer for its sparse kernels if, for each output and position, at most two of every four consecutive
inputs are not zero, and the inputs are a multiple of four, by its documentation (NVIDIA TensorRT, "Structured
Sparsity"); it does so for convolutions and for products with a constant. Whether these are faster it measures when it
builds. This is its rule, not a run of TensorRT. cuSPARSELt's 2:4 is the same along the contracted axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxprune.dependency import Analysis
from onnxprune.dimensions import Mask
from onnxprune.layers import Layer, layers_of
from onnxprune.weights import Weights

__all__ = ["LayerSparsity", "sparsity_of"]

GROUPS = (4, 8, 16)  # the M that hardware and papers use
TENSORRT = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True)
class LayerSparsity:
    """Shares of zeros of one layer: of its weights, 2-D kernels, outputs and inputs that are zero as a whole.

    `along_inputs` and `along_outputs` are the tightest N:M that hold for M = 4, 8, 16. `why_not` says why TensorRT
    would not take the layer for its 2:4 kernels; empty where it would.
    """

    name: str
    weight: str
    op_type: str
    shape: tuple[int, int, int, int]
    zeros: float
    kernels: float
    outputs: float
    inputs: float
    along_inputs: tuple[str, ...]
    along_outputs: tuple[str, ...]
    why_not: str

    @property
    def tensorrt(self) -> bool:
        """Whether TensorRT's rule is met."""
        return not self.why_not


def sparsity_of(analysis: Analysis) -> tuple[LayerSparsity, ...]:
    """The sparsity of every layer, in the order of the graph."""
    weights = Weights(analysis.model)
    return tuple(_of_layer(layer, layer.matrix(weights.real(layer.weight) != 0)) for layer in layers_of(analysis))


def _of_layer(layer: Layer, nonzero: Mask) -> LayerSparsity:
    def dead(*axes: int) -> float:
        return float(1 - nonzero.any(axis=axes).mean())

    inputs = _holding(nonzero)
    return LayerSparsity(
        layer.name, layer.weight, layer.op_type, layer.shape,
        float(1 - nonzero.mean()), dead(3), dead(2, 3), dead(1, 3),
        inputs, _holding(nonzero.swapaxes(1, 2)), _why_not(layer, nonzero),
    )  # fmt: skip


def _holding(nonzero: Mask) -> tuple[str, ...]:
    """The tightest N:M along axis 2, for each M that it has room for; a last group is as if filled up with zeros."""
    groups, outputs, inputs, positions = nonzero.shape
    found = []
    for of in (m for m in GROUPS if m <= inputs):
        padded = np.pad(nonzero, ((0, 0), (0, 0), (0, -inputs % of), (0, 0)))
        most = int(padded.reshape(groups, outputs, -1, of, positions).sum(axis=3).max(initial=0))
        if most < of:
            found.append(f"{most}:{of}")
    return tuple(found)


def _why_not(layer: Layer, nonzero: Mask) -> str:
    inputs = layer.shape[2]
    if layer.op_type not in TENSORRT:
        return f"{layer.op_type} has no sparse kernel"
    if inputs % 4:
        return f"{inputs} inputs are no multiple of 4"
    most = int(nonzero.reshape(*layer.shape[:2], -1, 4, layer.shape[3]).sum(axis=3).max(initial=0))
    return f"{most} of 4 inputs are not zero" if most > 2 else ""
