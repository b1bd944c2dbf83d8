"""How much of each layer goes when so much of all of them is to go.

* `uniform`: every layer gives up the same share.
* `global`: the least important pieces go, wherever they are. Importances of different layers are made comparable first,
  by default as LAMP does: each is divided by the sum of those that matter as much or more in its layer, squares all.
* `erk`: a layer keeps in proportion to (O + I + height + width) / (O x I x height x width), so that small layers stay
  denser: Evci et al., Rigging the Lottery, ICML 2020 (arXiv 1911.11134).
* `loss`: the pieces go that, for each weight, cost the smallest share of the importance of their layer, so that the
  shares that all layers lose add up to the least. Steps of N:M cost more and more, so this gives every layer the N of
  least loss: the mixed N:M of Sun et al., DominoSearch, NeurIPS 2021, who search while they train.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType

import numpy as np

from onnxprune.dimensions import Vector
from onnxprune.errors import UsageError

__all__ = ["ALLOCATIONS", "RANKING", "Share", "allocated"]

_NONE = np.zeros(0)


@dataclass(frozen=True, slots=True)
class Share:
    """One layer to allocate for: its sizes (outputs, inputs and each spatial axis), and its pieces.

    `values` are the importances of the pieces per weight, made comparable, and `sizes` their numbers of weights; they
    are only there for an allocation that asks for them.
    """

    dims: tuple[int, ...]
    values: Vector = field(default_factory=lambda: _NONE)
    sizes: Vector = field(default_factory=lambda: _NONE)

    @property
    def numbers(self) -> int:
        """How many weights the layer has."""
        return prod(self.dims)


def _uniform(shares: Sequence[Share], sparsity: float) -> list[float]:
    return [sparsity] * len(shares)


def _erk(shares: Sequence[Share], sparsity: float) -> list[float]:
    """Layers that would have to be more than dense are dense; the others share what is left."""
    raw = [sum(share.dims) / share.numbers for share in shares]
    dense: set[int] = set()
    while True:
        rest = [k for k in range(len(shares)) if k not in dense]
        budget = (1 - sparsity) * sum(s.numbers for s in shares) - sum(shares[k].numbers for k in dense)
        scale = budget / sum(raw[k] * shares[k].numbers for k in rest) if rest else 0.0
        over = {k for k in rest if raw[k] * scale > 1}
        if not over:
            return [0.0 if k in dense else min(1.0, max(0.0, 1 - raw[k] * scale)) for k in range(len(shares))]
        dense |= over


def _global(shares: Sequence[Share], sparsity: float) -> list[float]:
    """The pieces of all layers in one row; the most important one of each layer stays."""
    return _least([share.values for share in shares], shares, sparsity)


def _loss(shares: Sequence[Share], sparsity: float) -> list[float]:
    """Costs are shares of the importance of the layer; a layer of no importance costs nothing."""
    costs = []
    for share in shares:
        whole = float(share.values @ share.sizes)
        costs.append(share.values / whole if whole > 0 else share.values)
    return _least(costs, shares, sparsity)


def _least(costs: Sequence[Vector], shares: Sequence[Share], sparsity: float) -> list[float]:
    """The pieces of least cost go, until the sparsity is as near as the smallest piece that may still go allows.

    Where the next piece is too large, its layer gives up no more, and smaller pieces of other layers fill what is left.
    """
    values = np.concatenate(costs)
    sizes = np.concatenate([share.sizes for share in shares])
    owner = np.repeat(np.arange(len(shares)), [len(share.values) for share in shares])
    starts = np.cumsum([0, *(len(share.values) for share in shares)])
    best = [int(starts[k] + np.argmax(cost)) for k, cost in enumerate(costs)]
    values[best] = np.inf
    order = np.argsort(values, kind="stable")
    ranked = sizes[order]
    goes = (np.cumsum(ranked) - ranked / 2 <= sparsity * sizes.sum()) & np.isfinite(values[order])
    gone = np.bincount(owner[order[goes]], weights=ranked[goes], minlength=len(shares))
    full: set[int] = set()
    short = sparsity * sizes.sum() - gone.sum()
    for piece in order[~goes] if short > sizes.min() / 2 else ():
        layer, size = int(owner[piece]), float(sizes[piece])
        if layer in full or not np.isfinite(values[piece]):
            continue
        if size / 2 > short:
            full.add(layer)
            if len(full) == len(shares):
                break
            continue
        gone[layer] += size
        short -= size
    return [float(gone[k] / share.sizes.sum()) for k, share in enumerate(shares)]


ALLOCATIONS: Mapping[str, Callable[[Sequence[Share], float], list[float]]] = MappingProxyType(
    {"uniform": _uniform, "global": _global, "erk": _erk, "loss": _loss}
)
RANKING = frozenset({"global", "loss"})  # those that compare pieces of different layers


def allocated(how: str, shares: Sequence[Share], sparsity: float) -> list[float]:
    """The sparsity of each layer, so that together they have `sparsity`; `UsageError` for another `how`."""
    if how not in ALLOCATIONS:
        raise UsageError(f"--allocation {how!r}: expected one of {', '.join(ALLOCATIONS)} for masks")
    return ALLOCATIONS[how](shares, sparsity) if shares else []
