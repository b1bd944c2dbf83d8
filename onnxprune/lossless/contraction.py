"""A convolution or matrix product with a constant weight, seen as one matrix for each group of channels.

Conv, ConvTranspose, Gemm and MatMul differ in where the channels that are read lie in the weight, in how a bias is
added, and in whether the borders see zeros. This is the only place that knows; whatever reads, folds and merges
channels works on `matrix(w)`, of shape (groups, made, read, taps).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxprune.dimensions import Mask
from onnxprune.model import Array, Node

__all__ = ["Contraction", "contraction_of"]

Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Contraction:
    """Node `node` multiplies axis `x_axis` of its first input with axis `axis` of its second."""

    node: int
    x_axis: int
    axis: int
    shape: tuple[int, ...]  # of the weight
    groups: int
    made: int  # channels that one group makes
    read: int  # channels that one group reads
    padded: bool  # whether a constant channel would not make constant ones: borders see zeros
    out_axis: int  # of the first output; negative from the end
    alpha: float = 1.0
    beta: float = 1.0
    bias: int | None = None  # which input a bias is or would be

    @property
    def transposed(self) -> bool:
        """Whether the weight's read axis comes before its made one."""
        return self.axis == 0

    @property
    def reads_all_groups(self) -> bool:
        """Whether the weight's read axis spans all groups (ConvTranspose), or one group at a time (Conv)."""
        return self.transposed and self.groups > 1

    def matrix(self, weight: Array) -> Array:
        """The weight as (groups, made, read, taps)."""
        if self.transposed:
            return np.swapaxes(weight.reshape(self.groups, self.read, self.made, -1), 1, 2)
        return weight.reshape(self.groups, self.made, self.read, -1)

    def weight(self, matrix: Array) -> Array:
        """The inverse of `matrix`."""
        return (np.swapaxes(matrix, 1, 2) if self.transposed else matrix).reshape(self.shape)

    def read_mask(self, mask: Mask) -> Booleans:
        """Truth values of the read axis as (groups, read)."""
        whole = mask.reshape(self.groups, self.read) if self.reads_all_groups else mask[None]
        return np.broadcast_to(whole, (self.groups, self.read))

    def made_mask(self, mask: Mask) -> Booleans:
        """Truth values of the weight's other axis as (groups, made)."""
        whole = mask[None] if self.transposed else mask.reshape(self.groups, self.made)
        return np.broadcast_to(whole, (self.groups, self.made))

    def needs(self, needed: Booleans) -> Booleans:
        """From (groups, read) to the read axis: an index is needed when any group needs it."""
        return needed.ravel() if self.reads_all_groups else np.asarray(needed.any(axis=0))


def contraction_of(node: Node, weight: tuple[int, ...] | None, rank: int) -> Contraction | None:
    """The contraction that `node` is, for a constant second input of shape `weight` and a first one of `rank` axes."""
    if node.domain != "" or weight is None:
        return None
    attributes = node.attributes
    if node.op_type in ("Conv", "ConvTranspose"):
        groups = int(attributes.get("group") or 1)
        taps = int(np.prod(weight[2:], dtype=np.int64))
        if node.op_type == "Conv":
            return Contraction(node.index, 1, 1, weight, groups, weight[0] // groups, weight[1], _padded(node), 1,
                               bias=2)  # fmt: skip
        spreads = taps > 1 or _padded(node) or any(s != 1 for s in attributes.get("strides") or ())
        return Contraction(node.index, 1, 0, weight, groups, weight[1], weight[0] // groups, spreads, 1, bias=2)
    if len(weight) != 2:
        return None
    if node.op_type == "Gemm":
        axis = 1 if attributes.get("transB", 0) else 0
        x_axis = 0 if attributes.get("transA", 0) else 1
        alpha, beta = (float(1.0 if (v := attributes.get(k)) is None else v) for k in ("alpha", "beta"))
        return Contraction(node.index, x_axis, axis, weight, 1, weight[1 - axis], weight[axis], False, 1,
                           alpha, beta, 2)  # fmt: skip
    if node.op_type == "MatMul" and rank:
        return Contraction(node.index, rank - 1, 0, weight, 1, weight[1], weight[0], False, -1)
    return None


def _padded(node: Node) -> bool:
    automatic = node.attributes.get("auto_pad") or "NOTSET"
    return automatic.startswith("SAME") or any(node.attributes.get("pads") or ()) or _enlarged(node)


def _enlarged(node: Node) -> bool:
    return any(node.attributes.get("output_padding") or ()) or bool(node.attributes.get("output_shape"))
