"""Optimal Brain Surgeon for inputs: which go first, what that costs, and what the others become.

An *index* of a dimension that several layers read takes, in each of them, as many columns of its weight with it as it
has positions there. When it goes, the columns that stay make up for it as well as they can (Hassibi, Stork, NIPS 1992,
with blocks in the place of single weights, as in Frantar et al., OBC, NeurIPS 2022 (arXiv 2208.11580), and ZipLM,
Kurtic et al., NeurIPS 2023 (arXiv 2302.04089)). The error of an index's going is, summed over its readers,
    tr(W_b ([H^-1]_bb)^-1 W_b^T)
and the greedy order takes the cheapest, again and again, with everything brought up to date in between.

Bringing H^-1 up to date is subtracting F F^T for the columns that went. That is put off: only the blocks on its
diagonal, and the weights, are kept current, and the columns of an index are computed when it goes. Every now and then
it is caught up on in one product, and what went is left out from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.solvers.inverse import DAMPING, Float, damped_inverse

__all__ = ["Reader", "Removal", "leave_one_out", "structured_obs"]

Indices: TypeAlias = npt.NDArray[np.intp]
Mask: TypeAlias = npt.NDArray[np.bool_]
_BEHIND = 512  # columns


@dataclass(frozen=True)
class Reader:
    """A layer that reads the dimension: `weights` (O, D), `gram` (D, D), and the columns (indices, s) of each index.

    `inverse` gives the damped inverse of `gram` where somebody has it at hand.
    """

    weights: npt.NDArray[Any]
    gram: npt.NDArray[Any]
    columns: Indices
    inverse: Callable[[float], Float] | None = None

    @property
    def energy(self) -> float:
        """tr(W H W^T): the squared output of the layer, without bias."""
        weights = np.asarray(self.weights, np.float64)
        return float(np.sum((weights @ self.gram) * weights))


@dataclass(frozen=True)
class Removal:
    """`order` are the indices that went, first to last, and `losses` the error that each of them added.

    `weights` are those of each reader afterwards, (O, D), zero in the columns that went. `left` is what the going of
    each index would add next; infinite for those that went.
    """

    order: Indices
    losses: Float
    weights: tuple[Float, ...]
    left: Float


def structured_obs(readers: Sequence[Reader], count: int | None = None, *, damping: float = DAMPING) -> Removal:
    """Remove `count` indices (all but one, by default) greedily from all readers at once."""
    states = [_State(reader, damping) for reader in readers]
    size = len(readers[0].columns)
    count = size - 1 if count is None else count
    left, gone = np.arange(size), np.zeros(size, np.bool_)  # `gone` speaks of those in `left`
    order, losses = [], []
    for _ in range(count):
        cost = np.where(gone, np.inf, _total(states))
        place = int(np.argmin(cost))
        order.append(left[place])
        losses.append(max(0.0, float(cost[place])))
        gone[place] = True
        for state in states:
            state.remove(place)
        if sum(state.behind for state in states) >= _BEHIND:
            for state in states:
                state.catch_up(gone)
            left, gone = left[~gone], gone[~gone]
    cost = np.full(size, np.inf)
    cost[left[~gone]] = _total(states)[~gone]
    return Removal(np.asarray(order, np.intp), np.asarray(losses), tuple(s.result(gone) for s in states), cost)


def leave_one_out(readers: Sequence[Reader], *, damping: float = DAMPING) -> Float:
    """What the going of each index alone costs once the others have made up for it; shape (indices,)."""
    return _total([_State(reader, damping) for reader in readers])


def _total(states: Sequence[_State]) -> Float:
    return np.asarray(np.sum([state.costs() for state in states], axis=0))


class _State:
    """One reader after some removals: its columns are those of the indices, index by index, and then all others.

    `weights` (D, O) are current, and so are, for each index, its block of the inverse and its W_b^T W_b.
    """

    def __init__(self, reader: Reader, damping: float) -> None:
        own = np.asarray(reader.columns, np.intp)
        self.shape = np.shape(reader.weights)
        self.size, self.width = own.shape
        self.columns = np.concatenate([own.ravel(), np.setdiff1d(np.arange(self.shape[1]), own)])
        self.weights = np.asarray(reader.weights, np.float64).T[self.columns]
        inverse = damped_inverse(reader.gram, damping) if reader.inverse is None else reader.inverse(damping)
        self.inverse = inverse[np.ix_(self.columns, self.columns)]
        inside = np.arange(own.size).reshape(own.shape)
        self.blocks = self.inverse[inside[:, :, None], inside[:, None, :]]
        held = self._by_index(self.weights)
        self.products = held @ held.swapaxes(1, 2)
        self._room()

    def _room(self) -> None:
        """Room for the columns that the inverse falls behind by."""
        self.factors, self.done = np.empty((len(self.columns), _BEHIND + self.width)), 0

    @property
    def behind(self) -> int:
        """By how many columns the inverse is not current."""
        return self.done

    def costs(self) -> Float:
        """tr(W_b ([H^-1]_bb)^-1 W_b^T) of every index; of one that went it means nothing."""
        return np.asarray(np.sum(np.linalg.inv(self.blocks) * self.products, axis=(1, 2)))

    def remove(self, place: int) -> None:
        """Let an index go, and the columns that stay make up for it."""
        rows = slice(place * self.width, (place + 1) * self.width)
        column = self.inverse[:, rows].copy()
        column -= self.factors[:, : self.done] @ self.factors[rows, : self.done].T
        root = np.linalg.inv(np.linalg.cholesky(self.blocks[place]))
        factor, moved = column @ root.T, root @ self.weights[rows]
        crossed = self._by_index(self.weights @ moved.T)
        self.weights -= factor @ moved
        inside = self._by_index(factor)
        across = inside.swapaxes(1, 2)
        both = crossed @ across
        self.products += inside @ (moved @ moved.T) @ across - both - both.swapaxes(1, 2)
        self.blocks -= inside @ across
        self.blocks[place] = np.eye(self.width)
        self.factors[:, self.done : self.done + self.width] = factor
        self.done += self.width

    def catch_up(self, gone: Mask) -> None:
        """Bring the whole inverse up to date, and leave out what went."""
        others = np.ones(len(self.columns) - self.size * self.width, np.bool_)
        stays = np.concatenate([np.repeat(~gone, self.width), others])
        factors = self.factors[stays, : self.done]
        self.inverse = self.inverse[np.ix_(stays, stays)]
        self.inverse -= factors @ factors.T
        self.columns, self.weights = self.columns[stays], self.weights[stays]
        self.blocks, self.products, self.size = self.blocks[~gone], self.products[~gone], int((~gone).sum())
        self._room()

    def result(self, gone: Mask) -> Float:
        """The weights as they are now, (O, D)."""
        made = np.zeros(self.shape[::-1])
        made[self.columns] = self.weights
        made[self.columns[: gone.size * self.width][np.repeat(gone, self.width)]] = 0.0
        return np.ascontiguousarray(made.T)

    def _by_index(self, rows: Float) -> Float:
        """The rows of the indices, as (indices, s, ...)."""
        return rows[: self.size * self.width].reshape(self.size, self.width, rows.shape[1])
