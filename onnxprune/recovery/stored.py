"""The numbers of a layer that a repair is free to choose: as reals in one matrix, and as the model stores them.

Integers are the nearest in their range, by the scale and the zero point that the model has for them already. A repair
is judged by what is stored, never by what was solved for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.layers import Layer
from onnxprune.model import Model, Node
from onnxprune.quantization import quantized
from onnxprune.weights import Weights

__all__ = ["Stored", "unit_of"]

Array: TypeAlias = npt.NDArray[Any]
Float: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stored:
    """`layer` of `model`, and the constant `bias` ("": none): `factor` times what it stands for adds to the outputs.

    `factor` is a number, or (G, O). Of a bias that has more numbers for each group than outputs, those in front count.
    """

    model: Model
    weights: Weights
    layer: Layer
    bias: str = ""
    factor: float | Float = 1.0

    @property
    def free(self) -> int:
        """How many columns of the matrix are the bias: 1 or 0."""
        return int(bool(self.bias))

    def matrix(self) -> Float:
        """(G, O, I x K), and the bias as a last column where there is one."""
        return self.meant({name: self.model.array(name) for name in (self.layer.weight, self.bias) if name})

    def meant(self, values: Mapping[str, Array]) -> Float:
        """The matrix that these stored values stand for."""
        groups, outputs = self.layer.shape[:2]
        real = self.weights.meant(self.layer.weight, values[self.layer.weight])
        own = self.layer.matrix(real).reshape(groups, outputs, -1).astype(np.float64)
        if not self.bias:
            return own
        bias = self.weights.meant(self.bias, values[self.bias]).reshape(groups, -1)[:, :outputs] * self.factor
        return np.concatenate([own, bias[..., None]], axis=2)

    def put(self, matrix: Float) -> dict[str, Array]:
        """The stored values, by name, that stand for the matrix most nearly."""
        layer, groups = self.layer, self.layer.shape[0]
        own = layer.stored(matrix[..., : matrix.shape[2] - self.free].reshape(layer.shape))
        found = {layer.weight: np.ascontiguousarray(self.weights.stored(layer.weight, own))}
        if self.bias:
            whole = np.array(self.weights.real(self.bias), np.float64)
            whole.reshape(groups, -1)[:, : layer.shape[1]] = matrix[..., -1] / self.factor
            found[self.bias] = np.ascontiguousarray(self.weights.stored(self.bias, whole))
        return found


def unit_of(model: Model, layer: Layer, node: Node, bias: str) -> float | Float | None:
    """What one of a stored bias stands for: of integers, which say it nowhere else, the product of both scales.

    None where it is not known.
    """
    if Weights(model).is_known(bias):
        return 1.0
    unit: Float = np.ones(layer.shape[:2])
    for operand in (node.inputs.index(layer.data), layer.operand):
        how = quantized(node.op_type, node.attributes, operand)
        if how is None or how.scale is None or node.inputs[how.scale] not in model.weights:
            return None
        scale = model.array(node.inputs[how.scale]).astype(np.float64).reshape(-1)
        if scale.size not in (1, unit.size) or (scale.size > 1 and operand != layer.operand):
            return None
        unit = unit * (scale.reshape(layer.shape[:2]) if scale.size > 1 else scale)
    return unit
