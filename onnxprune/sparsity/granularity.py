"""A granularity says which weights of a layer live and die together: it makes keep masks from importances.

Every layer is seen as (G, O, I, K): groups, outputs, inputs, positions (see `layers`). Its importances are never
negative, and the mask keeps what matters most. There are three forms:

* `Boxes`: the (O, I x K) matrix of every group is tiled by boxes of R rows and C columns. `element` is 1 x 1,
  `block:RxC` is what it says, `kernel` is 1 x K (one 2-D kernel), `vector:N` is N x K (one input channel with all its
  positions, shared by N consecutive outputs), `stripe` is O x 1 (one input at one position, for all outputs). A box at
  the edge is smaller. Boxes are compared by their mean importance; at least one stays.
* `Lanes`, `N:M`: of M consecutive inputs, for each output and position, at most N are not zero. Inputs run along the
  contracted axis: TensorRT's and cuSPARSELt's rule. A last group of fewer than M inputs is taken as if it were filled
  up with zeros, so it keeps up to N.
* `Patterns`, `pattern:E`: every 2-D kernel keeps E entries, and the layer has at most eight different patterns: those
  that most kernels would choose for themselves (Niu et al., PatDNN, ASPLOS 2020, arXiv 2001.00138).

`N:4` with the letter N, and `pattern` without a number, leave it to the sparsity how many stay, layer by layer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import lcm
from typing import Protocol

import numpy as np

from onnxprune.dimensions import Mask, Vector
from onnxprune.errors import UsageError
from onnxprune.model import Array

__all__ = ["FORMS", "Granularity", "Lanes", "granularity_of"]

FORMS = "element, N:M (such as 2:4, or N:4 for a sparsity), vector:N, block:RxC, kernel, stripe, pattern, pattern:E"
SPAN = 128  # columns
DICTIONARY = 8  # patterns of one layer: PatDNN finds no more accuracy beyond eight
Shape = tuple[int, int, int, int]


class Granularity(Protocol):
    """How the weights of a layer are masked; `aligned` where removing a channel would shift the groups of the next."""

    @property
    def text(self) -> str:
        """What the user calls it."""
        ...

    @property
    def aligned(self) -> bool:
        """Whether the mask is made of runs of consecutive indices, which removing one of them would break."""
        ...

    def stated(self, shape: Shape) -> float | None:
        """The sparsity that the granularity states by itself; None where the user says how much goes."""
        ...

    def why_not(self, shape: Shape) -> str:
        """Why a layer of this shape cannot be masked; empty where it can."""
        ...

    def span(self, shape: Shape) -> int:
        """How many consecutive inputs can be masked by themselves, for who decides piece by piece."""
        ...

    def runs(self, shape: Shape) -> tuple[int, int] | None:
        """The axis and length of the blocks that are masked one by one; None where any part is a mask of that form."""
        ...

    def units(self, importance: Array) -> tuple[Vector, Vector]:
        """What can go next, piece by piece: the importance in sum and the number of weights of each piece."""
        ...

    def select(self, importance: Array, sparsity: float, per_output: bool = False) -> Mask:
        """The weights to keep, shape (G, O, I, K); with `per_output` every output gives up its own share."""
        ...

    def holds(self, nonzero: Mask) -> bool:
        """Whether a layer with these nonzero weights has the form that the hardware or the format relies on."""
        ...


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes of `rows` outputs and `columns` columns; None: all outputs, or the positions of one input."""

    text: str
    rows: int | None
    columns: int | None

    @property
    def aligned(self) -> bool:
        """Runs of several outputs or columns."""
        return (self.rows or 1) > 1 or (self.columns or 1) > 1

    def stated(self, shape: Shape) -> float | None:
        """The user says how much."""
        return None

    def why_not(self, shape: Shape) -> str:
        """Where a single box is the whole layer, nothing could be kept."""
        rows, columns = self._box(shape)
        return (
            "one unit is the whole layer"
            if rows >= shape[1] and columns >= shape[2] * shape[3] and shape[0] == 1
            else ""
        )

    def span(self, shape: Shape) -> int:
        """As many as hold whole boxes, in about 128 columns: SparseGPT's choice."""
        least = lcm(self._box(shape)[1], shape[3]) // shape[3]
        return max(1, round(SPAN / (least * shape[3]))) * least

    def runs(self, shape: Shape) -> None:
        """Fewer boxes may go."""

    def units(self, importance: Array) -> tuple[Vector, Vector]:
        """Every box."""
        sums, sizes = self._boxes(importance)
        return sums.ravel(), np.broadcast_to(sizes, sums.shape).ravel()

    def select(self, importance: Array, sparsity: float, per_output: bool = False) -> Mask:
        """Boxes go by their mean importance, as many as make up the sparsity, rounded to the nearest box."""
        sums, sizes = self._boxes(importance)
        rows = sums.shape[0] * sums.shape[1] if per_output else 1
        means, weights = (sums / sizes).reshape(rows, -1), np.broadcast_to(sizes, sums.shape).reshape(rows, -1)
        order = np.argsort(means, axis=1, kind="stable")
        weights = np.take_along_axis(weights, order, axis=1)
        behind = np.cumsum(weights, axis=1) - weights / 2  # of the box that is to go next
        kept = np.empty(means.shape, np.bool_)
        stays = behind > sparsity * weights.sum(axis=1, keepdims=True)
        stays[:, -1] = True
        np.put_along_axis(kept, order, stays, axis=1)
        return self._spread(kept.reshape(sums.shape), importance.shape)

    def holds(self, nonzero: Mask) -> bool:
        """Any zeros are zeros of boxes: a weight within a box that stays may be zero, too."""
        return True

    def _box(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return shape[1] if self.rows is None else self.rows, shape[3] if self.columns is None else self.columns

    def _boxes(self, importance: Array) -> tuple[Vector, Vector]:
        """The sum of every box, (G, rows, columns), and its size, which broadcasts to that."""
        groups, outputs, inputs, positions = importance.shape
        rows, columns = self._box(importance.shape)
        matrix = importance.reshape(groups, outputs, inputs * positions).astype(np.float64, copy=False)
        down, across = np.arange(0, outputs, rows), np.arange(0, matrix.shape[2], columns)
        sums = matrix if rows == 1 else np.add.reduceat(matrix, down, axis=1)
        sums = sums if columns == 1 else np.add.reduceat(sums, across, axis=2)
        high, wide = np.diff([*down, outputs]), np.diff([*across, matrix.shape[2]])
        return sums, (high[:, None] * wide[None, :])[None].astype(np.float64)

    def _spread(self, kept: Mask, shape: tuple[int, ...]) -> Mask:
        rows, columns = self._box(shape)
        whole = kept.repeat(rows, axis=1)[:, : shape[1]].repeat(columns, axis=2)[:, :, : shape[2] * shape[3]]
        return np.asarray(whole.reshape(shape))


@dataclass(frozen=True, slots=True)
class Lanes:
    """At most `kept` of `of` consecutive inputs; None: as many as the sparsity says."""

    text: str
    kept: int | None
    of: int
    aligned: bool = True

    def stated(self, shape: Shape) -> float | None:
        """What N of M leaves out, of the inputs that there are."""
        if self.kept is None:
            return None
        full, rest = divmod(shape[2], self.of)
        return 1 - (full * self.kept + min(rest, self.kept)) / shape[2]

    def why_not(self, shape: Shape) -> str:
        """A layer needs more inputs than are kept."""
        few = self.kept or 1
        return f"{shape[2]} input{'s' * (shape[2] > 1)} cannot lose any at {self.text}" if shape[2] <= few else ""

    def span(self, shape: Shape) -> int:
        """One group."""
        return self.of

    def runs(self, shape: Shape) -> tuple[int, int]:
        """M inputs."""
        return 2, self.of

    def units(self, importance: Array) -> tuple[Vector, Vector]:
        """First the least of each group, then the second least, and so on: M pieces."""
        return _ranked(self._grouped(importance).swapaxes(3, 4).reshape(-1, self.of))

    def select(self, importance: Array, sparsity: float, per_output: bool = False) -> Mask:
        """The N largest of each group; where they are equal, the first."""
        kept = self.count(sparsity)
        grouped = self._grouped(importance)
        ranks = np.argsort(np.argsort(-grouped, axis=3, kind="stable"), axis=3, kind="stable")
        groups, outputs, inputs, positions = importance.shape
        return np.asarray((ranks < kept).reshape(groups, outputs, -1, positions)[:, :, :inputs])

    def holds(self, nonzero: Mask) -> bool:
        """No group has more than N."""
        kept = self.of if self.kept is None else self.kept
        return bool((self._grouped(nonzero.astype(np.float32)) > 0).sum(axis=3).max(initial=0) <= kept)

    def count(self, sparsity: float) -> int:
        """How many of M stay."""
        return max(1, round((1 - sparsity) * self.of)) if self.kept is None else self.kept

    def _grouped(self, importance: Array) -> Array:
        """(G, O, groups of inputs, M, K), the last group filled up with what never stays."""
        groups, outputs, inputs, positions = importance.shape
        missing = -inputs % self.of
        if missing:
            importance = np.pad(importance, ((0, 0), (0, 0), (0, missing), (0, 0)), constant_values=-1)
        return np.asarray(importance.reshape(groups, outputs, -1, self.of, positions))


@dataclass(frozen=True, slots=True)
class Patterns:
    """Every kernel keeps `entries` of its positions, in one of a few patterns; None: as many as the sparsity says."""

    text: str
    entries: int | None
    aligned: bool = False

    def stated(self, shape: Shape) -> float | None:
        """What E of K leaves out."""
        return None if self.entries is None else 1 - min(self.entries, shape[3]) / shape[3]

    def why_not(self, shape: Shape) -> str:
        """A pattern is one of a kernel."""
        few = self.entries or 1
        return f"a kernel of {shape[3]} has no pattern of {few}" if shape[3] <= few else ""

    def span(self, shape: Shape) -> int:
        """All of them: the patterns are those of the layer."""
        return shape[2]

    def runs(self, shape: Shape) -> tuple[int, int]:
        """A kernel."""
        return 3, shape[3]

    def units(self, importance: Array) -> tuple[Vector, Vector]:
        """First the least entry of each kernel, then the second least, and so on: K pieces."""
        return _ranked(importance.reshape(-1, importance.shape[3]))

    def select(self, importance: Array, sparsity: float, per_output: bool = False) -> Mask:
        """Every kernel takes the pattern that keeps most of it, from those that most kernels would choose."""
        positions = importance.shape[3]
        count = max(1, round((1 - sparsity) * positions)) if self.entries is None else self.entries
        kernels = importance.reshape(-1, positions)
        best = np.argsort(np.argsort(-kernels, axis=1, kind="stable"), axis=1, kind="stable") < count
        patterns, often = np.unique(best, axis=0, return_counts=True)
        patterns = patterns[np.argsort(-often, kind="stable")[:DICTIONARY]]
        chosen = np.argmax(kernels @ patterns.T.astype(kernels.dtype), axis=1)
        return np.asarray(patterns[chosen].reshape(importance.shape))

    def holds(self, nonzero: Mask) -> bool:
        """No kernel has more entries."""
        kept = nonzero.shape[3] if self.entries is None else self.entries
        return bool(nonzero.sum(axis=3).max(initial=0) <= kept)


def _ranked(rows: Array) -> tuple[Vector, Vector]:
    """The least numbers of all rows added up, then the second least, ...; fillers (-1) do not count."""
    ranked = np.sort(np.where(rows < 0, np.inf, rows), axis=1)
    there = np.isfinite(ranked)
    sums, sizes = np.where(there, ranked, 0).sum(axis=0, dtype=np.float64), there.sum(axis=0).astype(np.float64)
    return sums[sizes > 0], sizes[sizes > 0]


def granularity_of(text: str) -> Granularity:
    """The granularity that `text` names; `UsageError`, with the forms that there are, for anything else."""
    fixed = {"element": (1, 1), "kernel": (1, None), "stripe": (None, 1)}
    if text in fixed:
        return Boxes(text, *fixed[text])
    if text == "pattern":
        return Patterns(text, None)
    found = re.fullmatch(r"(N|\d+):(\d+)|vector:(\d+)|block:(\d+)x(\d+)|pattern:(\d+)", text)
    numbers = [int(part) for part in found.groups() if part not in (None, "N")] if found else []
    if found is None or 0 in numbers:
        raise UsageError(f"--granularity {text!r}: expected channel, head, branch, or a mask: {FORMS}")
    if text.startswith("vector"):
        return Boxes(text, numbers[0], None)
    if text.startswith("block"):
        return Boxes(text, numbers[0], numbers[1])
    if text.startswith("pattern"):
        return Patterns(text, numbers[0])
    kept = None if found[1] == "N" else numbers[0]
    if kept is not None and kept >= numbers[-1]:
        raise UsageError(f"--granularity {text!r}: expected fewer that stay than there are, such as 2:4")
    return Lanes(text, kept, numbers[-1])
