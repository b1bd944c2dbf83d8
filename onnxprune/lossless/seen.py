"""One output of one node as the functions that say what is known of it see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from onnxprune.lossless.contraction import Contraction
from onnxprune.lossless.values import Unknowable, Values, hashed
from onnxprune.model import Array, Node

__all__ = ["Seen", "Transfer"]


@dataclass(frozen=True)
class Seen:
    """One output of one node, with what is known of the inputs (None: left out, or of unknown shape)."""

    node: Node
    opset: int
    position: int
    inputs: tuple[Values | None, ...]
    out: Values  # of which nothing is known
    contraction: Contraction | None
    array: Callable[[str], Array | None]
    evaluate: Callable[[Sequence[Array | None]], list[Array] | None]

    @property
    def x(self) -> Values:
        """The first input; `Unknowable` without one."""
        return self.input(0)

    @cached_property
    def key(self) -> np.uint64:
        """A number for what the node does: operator, attributes, which output."""
        said = sorted((k, str(v)) for k, v in self.node.attributes.items())
        return hashed(self.node.domain, self.node.op_type, said, self.position)

    def input(self, position: int) -> Values:
        """Input `position`; `Unknowable` without it."""
        found = self.inputs[position] if position < len(self.inputs) else None
        if found is None:
            raise Unknowable
        return found

    def constant(self, position: int) -> Array | None:
        """The values of a constant input, or None."""
        names = self.node.inputs
        return self.array(names[position]) if position < len(names) else None

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute, or `default`."""
        value = self.node.attributes.get(name)
        return default if value is None else value


Transfer: TypeAlias = Callable[[Seen], "Values | None"]
