"""A node apart from its graph: what is known of its operands, and a model of that node and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, helper, numpy_helper

from onnxprune.model.model import Model
from onnxprune.model.nesting import domain_of

__all__ = ["Alone", "Link", "Operand", "Probed", "Prober", "apart"]

Array: TypeAlias = npt.NDArray[Any]
Link: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
"""((operand, axis), (output, axis))."""


@dataclass(frozen=True, slots=True)
class Operand:
    """An input of the node: its shape, its element type, and its values where the node is always given the same.

    `number` holds integers and truth values that say how to compute, such as axes; `weight` reads what is learnt.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    number: Array | None = None
    weight: Callable[[], Array] | None = None


@dataclass(frozen=True, slots=True)
class Alone:
    """One node with its operands, None where it leaves one out; it holds no graph of its own."""

    node: NodeProto
    opset: int
    ir_version: int
    operands: tuple[Operand | None, ...]

    @property
    def key(self) -> bytes:
        """Equal for nodes that do the same to operands of the same kind."""
        node = NodeProto()
        node.CopyFrom(self.node)
        node.ClearField("name")
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
        node.input[:] = [f"x{k}" if name else "" for k, name in enumerate(node.input)]
        node.output[:] = [f"y{k}" if name else "" for k, name in enumerate(node.output)]
        facts = [
            None if o is None else (o.shape, o.dtype.str, None if o.number is None else o.number.tobytes())
            for o in self.operands
        ]
        return bytes(node.SerializeToString(deterministic=True)) + repr((self.opset, facts)).encode()

    def model(self, shapes: Sequence[tuple[int, ...]] | None = None) -> bytes:
        """A model of this node alone, with the inputs `x0`, `x1`, ... and the outputs `y0`, `y1`, ...

        `shapes` are those of all operands, by default their own; an operand that is a number is an initializer of it.
        """
        node = NodeProto()
        node.CopyFrom(self.node)
        node.input[:] = [f"x{k}" if name else "" for k, name in enumerate(node.input)]
        node.output[:] = [f"y{k}" if name else "" for k, name in enumerate(node.output)]
        graph = onnx.GraphProto(name="alone", node=[node])
        for k, operand in enumerate(self.operands):
            if operand is not None and operand.number is not None:
                graph.initializer.append(numpy_helper.from_array(operand.number, f"x{k}"))
            elif operand is not None:
                shape = operand.shape if shapes is None else shapes[k]
                kind = helper.np_dtype_to_tensor_dtype(operand.dtype)
                graph.input.append(helper.make_tensor_value_info(f"x{k}", kind, shape))
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
        model = onnx.ModelProto(ir_version=self.ir_version, graph=graph)
        model.opset_import.append(helper.make_opsetid(self.node.domain, self.opset))
        if self.node.domain not in ("", "ai.onnx"):
            model.opset_import.append(helper.make_opsetid("", 17))
        return bytes(model.SerializeToString())


def apart(
    model: Model,
    node: NodeProto,
    shapes: Mapping[str, tuple[int, ...] | None],
    dtypes: Mapping[str, np.dtype[Any]],
    numbers: Mapping[str, Array],
) -> Alone | None:
    """The node with what is known of its operands; None where one's shape is not known, or it holds a graph."""
    if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
        return None
    operands: list[Operand | None] = []
    for name in node.input:
        info = model.weights.get(name)
        shape = info.shape if info is not None else shapes.get(name)
        dtype = info.dtype if info is not None else dtypes.get(name)
        if name and (shape is None or dtype is None or dtype == np.dtype(object)):
            return None
        if not name or shape is None or dtype is None:
            operands.append(None)
        else:
            weight = None if info is None else partial(model.array, name)
            number = numbers.get(name)
            is_weight = number is None or number.dtype.kind == "f"
            operands.append(Operand(shape, dtype, None if is_weight else number, weight))
    opset = model.opsets.get(domain_of(node.domain), 1)
    return Alone(node, opset, model.frame.ir_version, tuple(operands))


@dataclass(frozen=True, slots=True)
class Probed:
    """What running a node alone taught: which axes it carries through unchanged, or why nothing was learnt."""

    links: tuple[Link, ...] = ()
    reason: str = ""


class Prober:
    """Learns about nodes without a rule by running them. What is here is the seam: `onnxprune.probing` runs them."""

    def outputs(self, node: Alone) -> Mapping[int, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Element type and shape of every output that is a tensor, by position; empty where it does not run."""
        raise NotImplementedError

    def carried(self, node: Alone) -> Probed:
        """Which axes the node carries through unchanged."""
        raise NotImplementedError
