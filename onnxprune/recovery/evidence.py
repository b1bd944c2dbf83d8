"""What samples say of one layer: what it reads in the pruned model, and what it should make of that.

Those that are fitted and those that judge are kept apart. Of most layers the normal equations are all that is kept; of
one of many inputs, and where an activation follows, some rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.layers import Layer
from onnxprune.recovery.behind import Behind
from onnxprune.recovery.clipping import Bounds, Rows, error
from onnxprune.recovery.leastsquares import Normal
from onnxprune.recovery.reading import Reading
from onnxprune.recovery.rows import Unfolding
from onnxprune.recovery.threads import Threads
from onnxprune.recovery.wide import Wide

__all__ = ["Equations", "Evidence", "Fit", "alike", "gathered", "is_held_out", "parted"]

Array: TypeAlias = npt.NDArray[Any]
Float: TypeAlias = npt.NDArray[np.float64]
Equations: TypeAlias = Normal | Wide
ROWS_HELD = 256 << 20  # bytes of rows of one layer that are held at once, where any are
MOMENTS_HELD = 256 << 20  # bytes of X^T X of one layer; with more, it is solved from rows (`wide`)
ENOUGH, FEWEST = 96, 64  # rows for each input of a layer, and of each sample: what neighbours in one image say is alike
HELD_OUT = 5  # one batch in so many judges repairs and takes no part in them


@dataclass(frozen=True, slots=True)
class Fit:
    """One layer of one model: what it reads, what lies behind it, and why it cannot be refitted ("" where it can)."""

    layer: Layer
    reading: Reading
    behind: Behind
    why_not: str = ""

    @property
    def reads(self) -> frozenset[str]:
        """The tensors that a fit looks at."""
        return frozenset({self.reading.tensor, self.behind.shortcut} - {""})


@dataclass(frozen=True, slots=True)
class Evidence:
    """Samples of a layer: their equations, and some of their rows where an activation follows."""

    equations: Equations
    rows: list[Rows]

    def together(self, other: Evidence) -> Evidence:
        """What both say."""
        mine, others = self.equations, other.equations
        if isinstance(mine, Wide):
            assert isinstance(others, Wide)
            return Evidence(mine.together(others), self.rows + other.rows)
        assert isinstance(others, Normal)
        return Evidence(mine.together(others), self.rows + other.rows)

    def error(self, weights: Float, bounds: Bounds | None) -> float:
        """As a share of the energy: of what comes through the activation, where one follows."""
        if bounds is None:
            return self.equations.error(weights) / max(self.equations.energy(), 1e-30)
        lost, energy = error(self.rows, weights, bounds)
        return lost / max(energy, 1e-30)


def alike(twin: Fit, fit: Fit) -> tuple[Fit, Fit]:
    """Both without what only one of them has behind it, and with the reason of either."""
    found = []
    for one, other in ((twin, fit), (fit, twin)):
        behind = one.behind
        if bool(behind.bias) != bool(other.behind.bias):
            behind = replace(behind, bias="", factor=1.0, bounds=None)
        if bool(behind.shortcut) != bool(other.behind.shortcut):
            behind = replace(behind, shortcut="", scale=None, bounds=None)
        found.append(replace(one, behind=behind, why_not=fit.why_not or twin.why_not))
    return found[0], found[1]


def gathered(
    twin: Fit,
    fit: Fit,
    unfolding: Unfolding,
    first: Float,
    wanted: Sequence[Mapping[str, Array]],
    there: Sequence[Mapping[str, Array]],
    threads: Threads,
) -> tuple[Evidence, Evidence]:
    """What there is of the samples that are fitted, and of those that judge: `twin` is the layer in the original.

    `first` are the original's weights (G, O, d), their last column the bias where it is fitted, too. What the original
    makes is computed from what it reads, and so holds for layers that make more of it (a recurrence) as well.
    """
    behind = fit.behind
    groups, outputs, inputs = first.shape
    free = int(bool(behind.bias))
    samples = sum(unfolding.samples(values[fit.reading.tensor]) for values in there)
    unfolding.limit = min(unfolding.limit, max(FEWEST, -(-ENOUGH * inputs // max(samples, 1))))
    wide = 8 * groups * inputs**2 > MOMENTS_HELD
    if wide:
        unfolding.limit = max(1, min(unfolding.limit, ROWS_HELD // (4 * groups * (inputs + outputs) * max(samples, 1))))
    kept: tuple[list[Rows], list[Rows]] = ([], [])
    found = tuple(Evidence(Wide(rows) if wide else Normal.empty(groups, inputs, outputs), rows) for rows in kept)

    def of(pair: tuple[Mapping[str, Array], Mapping[str, Array]]) -> tuple[Normal | None, Rows | None]:
        """What one batch says."""
        x, seen = (
            unfolding.rows(one.reading.real(values[one.reading.tensor]), free)
            for one, values in zip((twin, fit), pair, strict=True)
        )
        y = x @ np.swapaxes(first, 1, 2).astype(x.dtype)
        beside = np.zeros((1, 1, 1), y.dtype)
        if behind.shortcut:
            whole, beside = (
                behind.share(unfolding.made(values[one.behind.shortcut]).astype(y.dtype, copy=False), groups)
                for one, values in zip((twin, fit), pair, strict=True)
            )
            y = y + whole - beside
        share = ROWS_HELD / (seen.nbytes + 2 * y.nbytes) / len(wanted)
        rows = Rows(seen, y, np.broadcast_to(beside, y.shape)) if wide or behind.bounds is not None else None
        return None if wide else Normal.of(seen, y), None if rows is None else rows.thinned(share)

    for number, (normal, rows) in enumerate(threads.map(of, zip(wanted, there, strict=True))):
        evidence = found[is_held_out(number, len(wanted))]
        if normal is not None and isinstance(evidence.equations, Normal):
            evidence.equations.add(normal)
        if rows is not None:
            evidence.rows.append(rows)
    fitted, held = found
    return fitted, held if held.equations.rows else fitted


def is_held_out(number: int, batches: int) -> bool:
    """Whether batch `number` judges repairs and takes no part in them: one in five, the last of fewer, none of one."""
    return number % HELD_OUT == HELD_OUT - 1 or (1 < batches < HELD_OUT and number == batches - 1)


def parted(batches: int) -> tuple[list[int], list[int]]:
    """The positions of the batches that are fitted and of those that judge; all judge where none can be spared."""
    fitted = [k for k in range(batches) if not is_held_out(k, batches)]
    return fitted, [k for k in range(batches) if is_held_out(k, batches)] or fitted
