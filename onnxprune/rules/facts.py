"""What a rule may say of one node.

Two facts constrain the types: `Same` and `Fixed`. Seven notes constrain nothing and tell others what they need:
where a contraction reads a dimension (so that the mask knows what to silence), which numbers of the model count or
index a dimension, are derived from its size or average over it (so that the cut can correct or keep them), how much
work the node does (so that costs are exact), and what part a dimension plays (so that heads are called heads).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from onnxprune.dimensions import Dimension
from onnxprune.errors import UsageError

__all__ = [
    "INEXACT",
    "Attribute",
    "Counts",
    "Default",
    "Fact",
    "Fixed",
    "Indexes",
    "Operand",
    "Output",
    "Place",
    "Reads",
    "Rescale",
    "Role",
    "Same",
    "Work",
    "inexact_kinds",
]


INEXACT = ("norm", "reduce", "softmax")
"""The kinds of `Fixed` that may be opened on request."""


def inexact_kinds(texts: Sequence[str]) -> frozenset[str]:
    """The kinds that texts such as `norm,reduce` name; `UsageError` for one that there is not."""
    kinds = frozenset(kind.strip() for text in texts for kind in text.split(","))
    for kind in sorted(kinds - set(INEXACT)):
        raise UsageError(f"--allow-inexact {kind!r}: expected one or several of {', '.join(INEXACT)}")
    return kinds


@dataclass(frozen=True, slots=True)
class Same:
    """`left` and `right` are one dimension."""

    left: Dimension
    right: Dimension


@dataclass(frozen=True, slots=True)
class Fixed:
    """No index of `dim` may be removed, because of `reason`.

    A `kind` says that a user may ask for it all the same: the cut makes a model that runs and is not the masked one.
    """

    dim: Dimension
    reason: str
    kind: Literal["", "norm", "reduce", "softmax"] = ""


@dataclass(frozen=True, slots=True)
class Reads:
    """The node contracts axis `axis` of its input `operand`: multiplied by zero there, an index is silent."""

    operand: int
    axis: int


@dataclass(frozen=True, slots=True)
class Operand:
    """A number tensor of the model: input `index` of the node."""

    index: int


@dataclass(frozen=True, slots=True)
class Attribute:
    """A number, or a list of numbers, in attribute `name` of the node."""

    name: str


@dataclass(frozen=True, slots=True)
class Output:
    """What the node makes as output `index`."""

    index: int


Place: TypeAlias = Operand | Attribute


@dataclass(frozen=True, slots=True)
class Counts:
    """The numbers at `place` are the sizes of `dims`, one by one; None where a number counts nothing that can change.

    A negative number is the size negated: it counts from the end.
    A place that is absent (Split without sizes) is filled in only when its default would be wrong; `instead_of`
    names the attribute that must go then.
    """

    place: Place
    dims: tuple[Dimension | None, ...]
    instead_of: str = ""


@dataclass(frozen=True, slots=True)
class Default:
    """Attribute `name` is `value` where the node leaves it out, because `dims` have the size that they have.

    Such as the scale of attention, 1/sqrt of a head's width: a cut of `dims` must not change it, so it is written down.
    """

    name: str
    value: float
    dims: tuple[Dimension, ...]


@dataclass(frozen=True, slots=True)
class Indexes:
    """The values of input `operand` are indices into `dim`; of tuples along its last axis, number `component`."""

    operand: int
    dim: Dimension
    component: int | None = None


@dataclass(frozen=True, slots=True)
class Rescale:
    """What is at `place` averages over `dims`: it goes by (their size after a cut / before) to the `power`.

    `default` is the value of an attribute that is absent.
    """

    place: Operand | Attribute | Output
    dims: tuple[Dimension, ...]
    power: float
    default: float = 0.0


@dataclass(frozen=True, slots=True)
class Work:
    """The node does `coefficient` x the product of the sizes of `dims` multiply-accumulates, for a batch of one."""

    coefficient: int
    dims: tuple[Dimension, ...]


@dataclass(frozen=True, slots=True)
class Role:
    """The part that `dim` plays in the node.

    * `contracted`, `batched`, `carried`: in a product of two activations, that is in attention. It is added up over;
      or it is an outer axis of both operands and the result; or it is a row of one or a column of the other.
    * `grouped`: the groups of a grouped convolution.
    """

    part: Literal["contracted", "batched", "carried", "grouped"]
    dim: Dimension


Fact: TypeAlias = Same | Fixed | Reads | Counts | Default | Indexes | Rescale | Work | Role
