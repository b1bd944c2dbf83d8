"""One walk forward over a model: what is known of every tensor, and what every contraction with a weight reads.

What an operator makes of its inputs is said in `transfer`; where nothing is said, nothing is claimed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onnxprune.dependency import Analysis
from onnxprune.lossless.contraction import Contraction, contraction_of
from onnxprune.lossless.seen import Seen
from onnxprune.lossless.transfer import transfer
from onnxprune.lossless.values import Unknowable, Values, constant, settled, unknown
from onnxprune.model import Array, Node, evaluate
from onnxprune.weights import Weights

__all__ = ["Flow"]

DRAWN = frozenset({"Bernoulli", "Dropout", "Multinomial", "RandomNormalLike", "RandomUniformLike"})


class Flow:
    """What is known of the tensors of an analysed model."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis, self.model = analysis, analysis.model
        self._maker = {name: node for node in self.model.nodes for name in node.outputs}
        self._weights = Weights(self.model)
        self._constant: dict[str, bool] = {}
        self._values: dict[str, Values | None] = {}
        self._contractions: dict[int, Contraction | None] = {}
        self._nonzero: dict[int, npt.NDArray[np.bool_]] = {}
        for node in self.model.nodes:
            if node.index not in self.model.spent:
                self._visit(node)

    def values(self, name: str) -> Values | None:
        """What is known of a tensor; None where its shape is not known."""
        if name not in self._values:
            self._values[name] = self._of_weight(name) if name in self.model.weights else self._unknown(name)
        return self._values[name]

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is a weight, or computed from weights alone."""
        if name not in self._constant:
            node = self._maker.get(name)
            if name in self.model.weights:
                self._constant[name] = name not in self.model.overridable
            elif node is None or not node.inputs or name != node.outputs[0] or node.op_type in DRAWN:
                self._constant[name] = False
            else:
                self._constant[name] = all(not i or self.is_constant(i) for i in node.inputs) and node.domain == ""
        return self._constant[name]

    def array(self, name: str) -> Array | None:
        """The values of a constant tensor, read or computed now and not kept; None where it is not constant."""
        if not name or not self.is_constant(name):
            return None
        if name in self.model.weights:
            return self.model.array(name)
        node = self._maker[name]
        if node.op_type == "DequantizeLinear" and node.inputs[0] in self.model.weights:
            return self._weights.real(node.inputs[0])
        inputs = [self.array(i) if i else None for i in node.inputs]
        if any(array is None and i for array, i in zip(inputs, node.inputs, strict=True)):
            return None
        with np.errstate(all="ignore"):
            made = evaluate(self.model.protos[node.index], inputs, self.model.opsets.get("", 1))
        return None if made is None else made[0]

    def nonzeros(self, name: str) -> npt.NDArray[np.bool_] | None:
        """Where a constant tensor is not zero; of stored integers, where they are not at a zero point that is known."""
        array = self.array(name)
        if array is None or array.dtype.kind in "fV":
            return None if array is None else np.asarray(array != 0)
        if name in self.model.weights and self._weights.is_quantized(name):
            return np.asarray(self._weights.real(name) != 0)
        return np.ones(array.shape, np.bool_)

    def contraction(self, node: Node) -> Contraction | None:
        """The contraction with a constant weight that a node is, or None."""
        if node.index not in self._contractions:
            found = None
            if len(node.inputs) > 1 and self.is_constant(node.inputs[1]) and not self.is_constant(node.inputs[0]):
                x = self.analysis.shapes.shape.get(node.inputs[0])
                info = self.model.weights.get(node.inputs[1])
                shape = self.analysis.shapes.shape.get(node.inputs[1]) if info is None else info.shape
                found = None if x is None else contraction_of(node, shape, len(x))
            self._contractions[node.index] = found
        return self._contractions[node.index]

    def nonzero(self, node: Node) -> npt.NDArray[np.bool_] | None:
        """Which channels a contraction reads for which, (groups, made, read), whatever their values are."""
        found = self.contraction(node)
        if found is not None and node.index not in self._nonzero:
            weight = self.array(node.inputs[1])
            if weight is None:
                return None
            self._nonzero[node.index] = (found.matrix(weight) != 0).any(axis=3)
        return self._nonzero.get(node.index)

    def _visit(self, node: Node) -> None:
        """Ask what the node makes of what is known of its inputs; nothing is claimed where a tensor is empty."""
        sizes = (self.analysis.shapes.shape.get(name) or () for name in (*node.inputs, *node.outputs))
        if any(min(shape, default=1) < 1 for shape in sizes):
            return
        for position, name in enumerate(node.outputs):
            shape = self.analysis.shapes.shape.get(name)
            if not name or name in self.model.weights or shape is None:
                continue
            made: Values | None = None
            try:
                made = transfer(self._seen(node, position, name))
            except Unknowable:
                made = None
            self._values[name] = self._unknown(name) if made is None else settled(made)

    def _seen(self, node: Node, position: int, name: str) -> Seen:
        out = self._unknown(name)
        assert out is not None
        opset = self.model.opsets.get(node.domain, 1)
        proto = self.model.protos[node.index]
        contraction = self.contraction(node)
        weight = None if contraction is None else node.inputs[1]  # seen as a matrix, not number by number
        return Seen(
            node, opset, position, tuple(self.values(i) if i and i != weight else None for i in node.inputs), out,
            contraction, self.array, lambda inputs: evaluate(proto, inputs, opset),
        )  # fmt: skip

    def _unknown(self, name: str) -> Values | None:
        shapes = self.analysis.shapes
        shape = shapes.shape.get(name)
        if shape is None:
            return None
        dynamic = shapes.dynamic.get(name, (False,) * len(shape))
        return unknown(name, shape, dynamic, shapes.dtype.get(name, np.dtype(np.float32)))

    def _of_weight(self, name: str) -> Values | None:
        info = self.model.weights[name]
        if name not in self.model.overridable and info.dtype.kind in "biufV":
            try:
                return constant(self.model.array(name))
            except Unknowable:
                pass
        return unknown(name, info.shape, (False,) * len(info.shape), info.dtype)
