"""The limits beyond which an activation gives the same whatever it reads."""

from __future__ import annotations

from math import inf

import numpy as np

from onnxprune.model import Model, Node

__all__ = ["limits_of", "range_of"]


def limits_of(node: Node, model: Model) -> tuple[float, float] | None:
    """The lowest and the highest input that the node tells from what is beyond; None where it tells all apart.

    ReLU, Clip (with constant limits), HardSigmoid and HardSwish of the standard operators.
    """
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Relu":
        return 0.0, inf
    if node.op_type == "HardSwish":
        return -3.0, inf
    if node.op_type == "HardSigmoid":
        alpha, beta = (float(node.attributes.get(name, value)) for name, value in (("alpha", 0.2), ("beta", 0.5)))
        return (-beta / alpha, (1 - beta) / alpha) if alpha > 0 else None
    return _clip(node, model) if node.op_type == "Clip" else None


def _clip(node: Node, model: Model) -> tuple[float, float] | None:
    """Limits as attributes (up to opset 10) or constant inputs; one that is not given is none."""
    found = []
    for position, name, none in ((1, "min", -inf), (2, "max", inf)):
        given = node.inputs[position] if len(node.inputs) > position else ""
        if not given:
            found.append(float(node.attributes.get(name, none)))
        elif given in model.weights and model.weights[given].shape in ((), (1,)):
            found.append(float(model.array(given).reshape(())))
        else:
            return None
    return (found[0], found[1]) if found[0] < found[1] else None


_OUTPUT = {"QLinearConv": (6, 7), "QLinearMatMul": (6, 7), "QGemm": (7, 8), "QuantizeLinear": (1, 2)}
"""Where a node that makes integers has the scale and the zero point of its output."""


def range_of(node: Node, model: Model) -> tuple[float, float] | None:
    """What the least and the greatest integer stand for that a node makes of reals; None where that is not constant.

    A byte whose zero point is 0 cuts off as a ReLU does, and quantizers leave that one out then.
    """
    names = [node.inputs[k] if k < len(node.inputs) else "" for k in _OUTPUT[node.op_type]]
    if any(name not in model.weights or np.prod(model.weights[name].shape, dtype=int) != 1 for name in names):
        return None
    scale, point = (model.array(name).reshape(-1)[0] for name in names)
    if point.dtype.kind not in "iu":
        return None
    held = np.iinfo(point.dtype)
    return tuple(sorted((int(end) - int(point)) * float(scale) for end in (held.min, held.max)))  # type: ignore[return-value]
