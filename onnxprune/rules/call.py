"""One node as its rule sees it: tensors whose axes are dimensions, known numbers, attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxprune.dimensions import Atom, Dimension, Product, Sum

__all__ = ["APART", "Call", "Tensor", "joined", "merged"]

APART = 4096  # indices of an axis that are told apart at most


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output: `tensor[k]` is the dimension of axis k, negative k counts from the end."""

    name: str
    dims: tuple[Atom, ...]
    dynamic: tuple[bool, ...]
    number: npt.NDArray[Any] | None
    varies: npt.NDArray[np.bool_] | None  # which elements of `number` depend on dynamic sizes
    constant: bool  # an initializer or the value of a Constant node
    live: bool = True  # computed from the inputs of the graph, where a weight or what is made of weights is not

    def __getitem__(self, axis: int) -> Atom:
        return self.dims[axis]

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.dims)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes, with example sizes for dynamic axes."""
        return tuple(dim.size for dim in self.dims)


@dataclass(frozen=True, slots=True)
class Body:
    """A graph that a node holds: its own inputs and outputs; None where a shape is not known."""

    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor | None, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One node; `inputs` and `outputs` hold None where the node leaves one out.

    Of a node with `bodies` (If, Loop, Scan) they also hold None where a shape is not known. `dead` names the bodies
    that never run, as the condition of an If is known.
    """

    op_type: str
    opset: int
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor | None, ...]
    attributes: dict[str, Any]
    new_atom: Callable[[int], Atom]
    new_units: Callable[[int], list[Atom]]
    bodies: Mapping[str, Body] = field(default_factory=dict)
    dead: frozenset[str] = frozenset()
    comes_back: Callable[[str], bool] = lambda name: False

    @property
    def x(self) -> Tensor:
        """The first input."""
        tensor = self.inputs[0]
        assert tensor is not None
        return tensor

    @property
    def y(self) -> Tensor:
        """The first output."""
        tensor = self.outputs[0]
        assert tensor is not None
        return tensor

    def input(self, index: int) -> Tensor | None:
        """Input `index`, or None where the node does not have it."""
        return self.inputs[index] if index < len(self.inputs) else None

    def output(self, index: int) -> Tensor | None:
        """Output `index`, or None where the node does not have it."""
        return self.outputs[index] if index < len(self.outputs) else None

    def number(self, index: int) -> list[Any] | None:
        """The known values of input `index` as a flat list, or None where it is absent or not known."""
        tensor = self.input(index)
        return None if tensor is None or tensor.number is None else np.asarray(tensor.number).ravel().tolist()

    def varies(self, index: int) -> list[bool]:
        """Which of the values of `number(index)` are examples that another run may change; empty where not known."""
        tensor = self.input(index)
        return [] if tensor is None or tensor.varies is None else [bool(v) for v in tensor.varies.ravel()]

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute, or `default`."""
        value = self.attributes.get(name)
        return default if value is None else value

    def axes(self, operand: int = 1) -> tuple[int, ...] | None:
        """`axes` as an attribute or as an input (later opsets), counted from the front; None where not given."""
        axes = self.number(operand) if self.input(operand) is not None else self.attribute("axes")
        if axes is None:
            return None
        rank = self.x.rank
        return tuple(sorted(int(axis) % rank for axis in axes)) if rank else ()

    def new(self, size: int) -> Atom:
        """A dimension that no axis states by itself, such as the groups of a convolution."""
        return self.new_atom(size)

    def units(self, size: int) -> list[Atom]:
        """Dimensions of one index each: an axis of which every index is told apart."""
        return self.new_units(size)

    def centres(self) -> bool:
        """Whether the first output is added back to something larger, as the mean of a norm that centres is."""
        return self.comes_back(self.y.name)

    def cost(self, tensor: Tensor, *, but: tuple[int, ...] = ()) -> int:
        """The product of the sizes of all axes but `but`; a dynamic first axis, the batch, counts one."""
        size = 1
        for axis, dim in enumerate(tensor.dims):
            if axis not in but and not (axis == 0 and tensor.dynamic[0]):
                size *= dim.size
        return size

    def all_axes(self) -> Iterator[Atom]:
        """Every axis of every input and output."""
        for tensor in (*self.inputs, *self.outputs):
            if tensor is not None:
                yield from tensor.dims


def merged(*factors: Dimension) -> Dimension:
    """The row-major merge of `factors`; of none, a dimension of one index."""
    return factors[0] if len(factors) == 1 else Product(factors)


def joined(*parts: Dimension) -> Dimension:
    """The concatenation of `parts`."""
    return parts[0] if len(parts) == 1 else Sum(parts)
