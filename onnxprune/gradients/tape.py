"""What a rule for the slopes of an operator works with: the graph so far, shapes, and which slopes anyone wants."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from onnxprune.model import Array, Assembly, Model

__all__ = ["NoSlope", "Tape"]


class NoSlope(Exception):
    """A rule cannot take a slope back, because something is not known or has no rule: it ends here."""


class Tape:
    """Adds nodes behind a model's. `shapes` are those of its tensors at the sizes that it will run at, but the batch's.

    `wanted` are the tensors whose slopes lead to a weight.
    """

    def __init__(self, model: Model, shapes: Mapping[str, tuple[int, ...] | None], wanted: Collection[str]) -> None:
        self.model = model
        self.assembly = Assembly(model)
        self._shapes, self._wanted = shapes, wanted

    def wants(self, name: str) -> bool:
        """Whether the slope of a tensor is of use."""
        return name in self._wanted

    def shape(self, name: str) -> tuple[int, ...]:
        """The sizes of a tensor. Raises `NoSlope` where they are not known."""
        found = self._shapes.get(name)
        if found is None and name in self.model.weights:
            found = self.model.weights[name].shape
        if found is None:
            raise NoSlope(name)
        return found

    def value(self, name: str) -> Array:
        """The values of a constant. Raises `NoSlope` where it is none."""
        if name not in self.model.weights:
            raise NoSlope(name)
        return self.model.array(name)

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node."""
        return self.assembly.add(op_type, *inputs, **attributes)

    def number(self, value: float) -> str:
        """A constant of one number."""
        return self.assembly.constant(np.float32(value).reshape(()))

    def ints(self, values: Sequence[int]) -> str:
        """A constant of whole numbers."""
        return self.assembly.constant(np.asarray(values, np.int64))

    def like(self, slope: str, name: str) -> str:
        """A slope in the shape of a tensor that has as many numbers."""
        return self.add("Reshape", slope, self.add("Shape", name))

    def summed_to(self, slope: str, of: str, name: str) -> str:
        """The slope of an operand that was broadcast: that of `of`, summed to the shape of `name`."""
        whole, own = self.shape(of), self.shape(name)
        missing = len(whole) - len(own)
        axes = [*range(missing), *(missing + k for k, n in enumerate(own) if n == 1 and whole[missing + k] != 1)]
        return self.like(self.assembly.sum(slope, axes), name) if axes else slope

    def where(self, test: str, slope: str) -> str:
        """A slope where a test holds, 0 elsewhere."""
        return self.add("Mul", slope, self.add("Cast", test, to=1))
