"""An operand of a node with some of its indices silenced: zero where they are, for this node alone; shapes stay.

Silent is what adds nothing. Of a quantized tensor that is its zero point, not the number 0.

1. A constant gets new values.
2. What a DequantizeLinear makes is silenced in front of it, and the DequantizeLinear repeated: a runtime that fuses
   quantized patterns then sees the same one in the masked model as in the pruned model, and rounds in the same way.
3. An integer tensor that is made while the model runs takes its zero point where it is silent.
4. Anything else is multiplied by zero.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from onnxprune.dependency import Analysis
from onnxprune.dimensions import Mask
from onnxprune.model import Array, Edit, Node
from onnxprune.quantization import Quantized, along, quantized

__all__ = ["Silencer"]

_MULTIPLIED = ("float16", "float32", "float64", "int32", "int64")  # what ONNX Runtime has a Mul for
_FLOAT, _INT32 = 1, 6  # TensorProto.DataType


class Silencer:
    """Silences operands in one edit of one analysed model."""

    def __init__(self, analysis: Analysis, edit: Edit) -> None:
        self.analysis, self.model, self.edit = analysis, analysis.model, edit

    @cached_property
    def _maker(self) -> dict[str, Node]:
        return {name: node for node in self.model.nodes for name in node.outputs}

    def silence(self, node: Node, operand: int, keep: Mask) -> None:
        """Let `node` read input `operand` with every element silent where `keep`, which broadcasts to it, is False."""
        self.edit.connect(node.index, operand, self._silenced(node.index, node, operand, keep))

    def _silenced(self, before: int, reader: Node, operand: int, keep: Mask) -> str:
        """The name of the silenced tensor; what makes it is put in front of node `before`."""
        name = reader.inputs[operand]
        stored = quantized(reader.op_type, reader.attributes, operand)
        point = self._point(reader, stored)
        constant = name in self.model.weights and name not in self.model.folded
        if constant and (not point or point in self.model.weights):  # case 1
            return self.edit.add(f"{name}__silenced", self._constant(name, point, stored, keep))
        maker = self._maker.get(name)
        if maker is not None and maker.op_type == "DequantizeLinear":  # case 2
            inputs = [self._silenced(before, maker, 0, keep), *maker.inputs[1:]]
            given = {key: value for key, value in maker.attributes.items() if value is not None}
            attributes: dict[str, Any] = {"domain": maker.domain, **given} if maker.domain else given
            return self.edit.insert(before, maker.op_type, inputs, f"{name}__silenced", **attributes)
        if stored is not None:
            return self._at_zero_point(before, name, point, stored, keep)  # case 3
        return self._multiplied(before, name, keep)  # case 4

    def _constant(self, name: str, point: str, stored: Quantized | None, keep: Mask) -> Array:
        values = self.model.array(name)
        zero: Array = np.zeros((), values.dtype)
        if stored is not None and point:
            zero = along(self.model.array(point), values.shape, stored.axis)
        return np.where(keep, values, zero)

    def _point(self, reader: Node, stored: Quantized | None) -> str:
        if stored is None or stored.point is None or stored.point >= len(reader.inputs):
            return ""
        return reader.inputs[stored.point]

    def _at_zero_point(self, before: int, name: str, point: str, stored: Quantized, keep: Mask) -> str:
        """Where and Mul have no 8-bit kernels: in 32 bits, which hold every stored integer, and back."""
        edit, dtype = self.edit, self.analysis.shapes.dtype[name]
        wide = edit.insert(before, "Cast", [name], f"{name}__wide", to=_INT32)
        if point:
            zero = edit.insert(before, "Cast", [point], f"{point}__wide", to=_INT32)
            shape = tuple(dim.size for dim in self.analysis.axes[point])
            if len(shape) == 1 and shape != (1,):
                target = [-1 if k == stored.axis % keep.ndim else 1 for k in range(keep.ndim)]
                zero = edit.insert(before, "Reshape", [zero, edit.add(f"{point}__shape", np.asarray(target))], zero)
        else:
            zero = edit.add(f"{name}__zero", np.zeros((), np.int32))
        kept = edit.insert(before, "Where", [edit.add(f"{name}__keep", keep), wide, zero], f"{name}__silenced")
        return edit.insert(before, "Cast", [kept], f"{name}__silenced", to=self.edit.type_number(dtype))

    def _multiplied(self, before: int, name: str, keep: Mask) -> str:
        edit, dtype = self.edit, self.analysis.shapes.dtype[name]
        if dtype.name in _MULTIPLIED:
            factor = edit.add(f"{name}__keep", keep.astype(dtype))
            return edit.insert(before, "Mul", [name, factor], f"{name}__silenced")
        wide = edit.insert(before, "Cast", [name], f"{name}__wide", to=_FLOAT)
        factor = edit.add(f"{name}__keep", keep.astype(np.float32))
        kept = edit.insert(before, "Mul", [wide, factor], f"{name}__kept")
        return edit.insert(before, "Cast", [kept], f"{name}__silenced", to=self.edit.type_number(dtype))
