"""What a graph is made of, as everybody above this room sees it: nodes, their bodies, and what is said of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Body", "Node", "Shape", "TensorInfo", "WeightInfo"]

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A graph input or output: `shape` holds sizes, symbolic names, or None where nothing is said."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape | None


@dataclass(frozen=True, slots=True)
class WeightInfo:
    """A constant tensor of the model: an initializer, the value of a Constant node, or a folded constant."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    nbytes: int
    constant_node: int | None  # index of the Constant node, None for an initializer


@dataclass(frozen=True, slots=True)
class Body:
    """A graph that a node holds (the branch of an If, the body of a Loop or Scan): names of its inputs and outputs."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


_NO_BODIES: Mapping[str, Body] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Node:
    """One ONNX node; `name` is its own, or made from its operator and place, and is unique in the model.

    `bodies` are the graphs that it holds, by attribute; `within` is the node whose body it belongs to, and which one
    of its bodies that is: None in the main graph.
    """

    index: int
    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    bodies: Mapping[str, Body] = field(default_factory=lambda: _NO_BODIES)
    within: tuple[int, str] | None = None
    scope: str = ""  # the module that the framework made it in, where the exporter wrote that down

    def __str__(self) -> str:
        return f"{self.op_type} {self.name!r}"
