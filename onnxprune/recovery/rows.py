"""What a layer multiplies its weights with, as rows: (G, R, I x K), from the tensor that it reads.

Row r of group g times the layer's matrix (G, O, I x K), transposed, is what the layer makes at output position r,
before its bias. Positions may be a part of all: a convolution has thousands for each sample, and neighbours tell much
the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.layers import Layer
from onnxprune.model import Node
from onnxprune.recovery.reading import RECURRENT

__all__ = ["Unfolding", "unfolding"]

Array: TypeAlias = npt.NDArray[Any]
_WINDOWED = frozenset({"Conv", "FusedConv", "ConvTranspose", "QLinearConv", "ConvInteger"})
_PRODUCTS = frozenset({"MatMul", "FusedMatMul", "TransposeMatMul", "MatMulInteger", "MatMulIntegerToFloat",
                       "DynamicQuantizeMatMul", "QLinearMatMul"})  # fmt: skip
_FLAT = _PRODUCTS | RECURRENT | {"Gemm", "FusedGemm", "QGemm", "Einsum", "Attention", "QAttention"}


class Unfolding:
    """The rows of one layer, at most `limit` for each sample, at positions that `seed` chooses for each shape."""

    def __init__(self, layer: Layer, node: Node, limit: int, seed: int) -> None:
        self.layer, self._node, self.limit, self._seed = layer, node, limit, seed
        self._chosen: dict[tuple[int, ...], npt.NDArray[np.intp]] = {}

    def rows(self, x: Array, ones: int = 0) -> Array:
        """(G, R, I x K + ones) of the tensor that the layer reads, and so many columns of ones behind it."""
        if self.layer.op_type in _WINDOWED:
            return self._windows(x, ones)
        flat = self._flat(np.moveaxis(x, self.layer.data_axis, -1), self.samples(x))
        return np.concatenate([flat, np.ones((*flat.shape[:2], ones), flat.dtype)], axis=2) if ones else flat

    def made(self, y: Array) -> Array:
        """(G, R, O) of a tensor of the shape that the layer makes, at the same positions."""
        groups, outputs, _, _ = self.layer.shape
        if self.layer.op_type not in _WINDOWED:
            return self._flat(np.moveaxis(y, self.layer.output_axis, -1), self.samples(y))
        part = np.take(y.reshape(len(y), groups, outputs, -1), self._part(y.shape[2:]), axis=3)
        return np.moveaxis(part, (1, 0, 3), (0, 1, 2)).reshape(groups, -1, outputs)

    def samples(self, x: Array) -> int:
        """How many samples a tensor holds: a recurrence has them behind the time, all others in front."""
        behind = self.layer.op_type in RECURRENT and not self._node.attributes.get("layout", 0)
        return int(x.shape[1 if behind else 0])

    def _flat(self, x: Array, samples: int) -> Array:
        """(G, R, n) of a tensor (..., n); what a group does not have for itself, it reads as all do."""
        groups, width = self.layer.shape[0], x.shape[-1]
        if groups > 1 and self.layer.op_type in _PRODUCTS:  # one for each of the leading indices of the weight
            own = self.layer.operand_shape[:-2]
            lead = np.broadcast_shapes(x.shape[:-2], own)
            axes = [len(lead) - len(own) + k for k, size in enumerate(own) if size > 1]
            whole = np.broadcast_to(x, (*lead, *x.shape[-2:]))
            flat = np.moveaxis(whole, axes, range(len(axes))).reshape(groups, -1, width)
        else:
            flat = np.broadcast_to(x.reshape(1, -1, width), (groups, x.size // max(width, 1), width))
        return flat[:, self._part((flat.shape[1],), samples)]

    def _part(self, shape: tuple[int, ...], samples: int = 1) -> npt.NDArray[np.intp]:
        """The positions to take of all there are, the same ones for every tensor of this shape."""
        if shape not in self._chosen:
            everything = prod(shape)
            limit = self.limit * samples
            self._chosen[shape] = (
                np.arange(everything)
                if everything <= limit
                else np.sort(np.random.default_rng([self._seed, *shape]).choice(everything, limit, replace=False))
            )
        return self._chosen[shape]

    def _windows(self, x: Array, ones: int) -> Array:
        groups, _, inputs, positions = self.layer.shape
        spatial, kernel = x.shape[2:], self.layer.operand_shape[2:]
        attributes, rank = self._node.attributes, len(kernel)
        strides = list(attributes.get("strides") or [1] * rank)
        dilations = list(attributes.get("dilations") or [1] * rank)
        begins, ends = _pads(self._node, spatial, kernel, strides, dilations)
        offsets, gaps = np.indices(kernel).reshape(rank, -1), [1] * rank
        if self.layer.op_type == "ConvTranspose":  # a convolution of the input spread out, with the kernel turned round
            more = list(attributes.get("output_padding") or [0] * rank)
            reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
            begins = [r - b for r, b in zip(reach, begins, strict=True)]
            ends = [r - e + m for r, e, m in zip(reach, ends, more, strict=True)]
            gaps, strides = strides, gaps
            offsets = np.asarray(kernel)[:, None] - 1 - offsets
        spans = [(n - 1) * gap + 1 for n, gap in zip(spatial, gaps, strict=True)]
        sizes = tuple(
            (n + b + e - d * (k - 1) - 1) // s + 1
            for n, b, e, k, s, d in zip(spans, begins, ends, kernel, strides, dilations, strict=True)
        )
        chosen = np.unravel_index(self._part(sizes), sizes)
        at, there = np.zeros((len(chosen[0]), positions), np.intp), np.ones((len(chosen[0]), positions), np.bool_)
        for axis, start in enumerate(chosen):
            place = start[:, None] * strides[axis] + offsets[axis] * dilations[axis] - begins[axis]
            there &= (place >= 0) & (place < spans[axis]) & (place % gaps[axis] == 0)
            at = at * spatial[axis] + place // gaps[axis]
        at[~there] = 0
        read = np.take(x.reshape(*x.shape[:2], -1), at.reshape(-1), axis=2)
        if not there.all():
            read[:, :, ~there.reshape(-1)] = 0
        read = read.reshape(len(x), groups, inputs, len(at), positions)
        rows: Array = np.ones((groups, len(x), len(at), inputs * positions + ones), x.dtype)
        rows[..., : inputs * positions].reshape(groups, len(x), len(at), inputs, positions)[...] = np.moveaxis(
            read, (1, 0, 3), (0, 1, 2)
        )
        return rows.reshape(groups, -1, rows.shape[-1])


def unfolding(layer: Layer, node: Node, limit: int = 256, seed: int = 0) -> Unfolding | None:
    """How to read the rows of a layer; None for an operator whose rows are not known, or that reads no activation."""
    if not layer.data or layer.op_type not in _WINDOWED | _FLAT:
        return None
    return Unfolding(layer, node, limit, seed)


def _pads(
    node: Node, spatial: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[int], list[int]]:
    rank = len(kernel)
    auto = node.attributes.get("auto_pad") or "NOTSET"
    auto = auto.decode() if isinstance(auto, bytes) else str(auto)
    transposed, wanted = node.op_type == "ConvTranspose", node.attributes.get("output_shape")
    if auto.startswith("SAME") or (transposed and wanted):
        spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
        if transposed:
            more = list(node.attributes.get("output_padding") or [0] * rank)
            full = [(n - 1) * s + o + a for n, s, o, a in zip(spatial, strides, more, spans, strict=True)]
            made = list(wanted)[-rank:] if wanted else [n * s for n, s in zip(spatial, strides, strict=True)]
            totals = [f - m for f, m in zip(full, made, strict=True)]
        else:
            totals = [(-(-n // s) - 1) * s + a - n for n, s, a in zip(spatial, strides, spans, strict=True)]
        halves = [max(0, total) // 2 for total in totals]
        begins = halves if auto == "SAME_UPPER" else [max(0, t) - h for t, h in zip(totals, halves, strict=True)]
        return begins, [(t if transposed else max(0, t)) - b for t, b in zip(totals, begins, strict=True)]
    pads = list(node.attributes.get("pads") or [0] * 2 * rank) if auto == "NOTSET" else [0] * 2 * rank
    return pads[:rank], pads[rank:]
