"""Which order of a layer's inputs loses least to N:M: Pool & Yu, Channel Permutations for N:M Sparsity, NeurIPS 2021.

Inputs that stand in one group of M compete for N places. Another order of the group of channels that a layer reads,
taken at all its sites, is the same function, and makes others compete. The search is theirs in small: two groups of M
inputs are dealt anew in the best of all ways (of all swaps of one for one, where there are more than a few hundred
ways), many disjoint pairs at a time, until every pair was tried in vain; then once more from an order that is shaken a
little (their bounded regressions), as long as the work that is allowed is not done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from onnxprune.dependency import Analysis, Group
from onnxprune.layers import Layer
from onnxprune.lossless.finding import positions_of
from onnxprune.model import Array
from onnxprune.permutation import Order, movable, order_of
from onnxprune.sparsity.choosing import Target
from onnxprune.sparsity.granularity import Lanes, granularity_of
from onnxprune.watching import Watch
from onnxprune.weights import Weights

__all__ = ["Reordering", "reordering", "search"]

ROWS = 1024  # of a matrix that are looked at, by chance; whether it was a gain is measured on all
WORK = 500_000_000  # numbers that one search may look at
WAYS = 200
SHAKES = 8


@dataclass(frozen=True)
class Reordering:
    """Orders by atom id; the magnitude that the mask takes without them and with them, of `magnitude` in all.

    `unstructured` is what single weights, as many of each layer, would take: nothing can lose less.
    """

    orders: Mapping[int, Order]
    magnitude: float
    lost_before: float
    lost_after: float
    unstructured: float


def reordering(
    analysis: Analysis,
    targets: Sequence[Target],
    form: Lanes,
    sparsity: float,
    seed: int = 0,
    watch: Watch | None = None,
) -> Reordering:
    """For each movable group that layers read as inputs, the order that keeps most magnitude, if any is better."""
    weights = Weights(analysis.model)
    layers = {target.weight: target.layer for target in targets if not form.why_not(target.layer.shape)}
    sizes = {name: np.abs(weights.real(name)) for name in layers}

    def lost(stored: Mapping[str, Array]) -> float:
        parts = ((layers[name].matrix(size), name) for name, size in stored.items())
        return float(sum(np.sum(m, where=~form.select(m, sparsity), dtype=np.float64) for m, _ in parts))

    orders: dict[int, Order] = {}
    before, groups = lost(sizes), movable(analysis)
    for done, group in enumerate(groups):
        if watch is not None:
            watch(f"order {group.name}", done, len(groups))
        rows = [run for name, layer in layers.items() for run in _runs(analysis, layer, sizes[name], group, form.of)]
        if not rows:
            continue
        order = search(_some(np.concatenate(rows), seed), form.count(sparsity), form.of, seed)
        touched = {name: sizes[name] for name in dict.fromkeys(site.tensor for site in group.sites) if name in sizes}
        moved = {name: _moved(analysis, name, size, {group.atom.id: order}) for name, size in touched.items()}
        if lost(moved) < lost(touched):
            orders[group.atom.id] = order
            sizes.update(moved)
    whole, least = 0.0, 0.0
    for name, layer in layers.items():
        matrix = layer.matrix(sizes[name])
        keep = granularity_of("element").select(matrix, 1 - form.select(matrix, sparsity).mean())
        whole += float(matrix.sum(dtype=np.float64))
        least += float(np.sum(matrix, where=~keep, dtype=np.float64))
    return Reordering(orders, whole, before, lost(sizes), least)


def _runs(analysis: Analysis, layer: Layer, stored: Array, group: Group, of: int) -> Iterator[Array]:
    """(rows, group size): what of a layer's matrix stands side by side along the group, where groups of M begin."""
    for axis, dim in enumerate(analysis.dims(layer.weight)):
        positions = positions_of(dim, group.atom)
        if positions is None or not positions.size:
            continue
        labels = np.full(dim.size, -1)
        labels[positions] = np.arange(group.size)[:, None]
        along = labels.reshape([-1 if k == axis else 1 for k in range(stored.ndim)])
        found = layer.matrix(np.broadcast_to(along, stored.shape))
        inputs = found[0, 0, :, 0]
        if (found != inputs[None, None, :, None]).any():
            continue  # not the axis of the inputs
        matrix = np.moveaxis(layer.matrix(stored), 2, -1)
        for start in np.flatnonzero(inputs == 0):
            end = start + group.size
            if start % of == 0 and np.array_equal(inputs[start:end], np.arange(group.size)):
                yield matrix[..., start:end].reshape(-1, group.size)


def _moved(analysis: Analysis, name: str, stored: Array, orders: Mapping[int, Order]) -> Array:
    for axis, dim in enumerate(analysis.dims(name)):
        stored = np.take(stored, order_of(dim, orders), axis=axis)
    return stored


def _some(matrix: Array, seed: int) -> Array:
    if len(matrix) <= ROWS:
        return matrix
    return np.asarray(matrix[np.random.default_rng(seed).choice(len(matrix), ROWS, replace=False)])


def search(matrix: Array, kept: int, of: int, seed: int = 0) -> Order:
    """An order of the columns of `matrix`, magnitudes, in which the `kept` largest of every `of` add up to much."""
    whole = matrix.shape[1] // of * of
    order = np.arange(matrix.shape[1])
    if whole <= of:
        return order
    table = _Search(matrix[:, :whole], kept, of, np.random.default_rng(seed))
    by_size = np.argsort(-matrix[:, :whole].sum(axis=0), kind="stable")
    dealt = by_size.reshape(of, -1).T.ravel()  # every group gets as many large columns
    order[:whole] = table.best([order[:whole], dealt])
    return order


class _Search:
    """One search: `left` is the work that may still be done."""

    def __init__(self, matrix: Array, kept: int, of: int, random: np.random.Generator) -> None:
        self.columns = np.ascontiguousarray(matrix.T, np.float32)
        self.kept, self.of, self.random = kept, of, random
        self.groups, self.left = len(self.columns) // of, WORK
        self.ways = _ways(of)
        self.parts = sorted({part for way in self.ways for part in way})
        self.terms = comb(of, kept)

    def best(self, starts: Sequence[Order]) -> Order:
        """The best order that is found from any of `starts`."""
        found = max((self.settled(start) for start in starts), key=self.total)
        for _ in range(SHAKES):
            if self.left <= 0:
                break
            shaken = found.copy()
            swapped = self.random.choice(len(shaken), 2 * max(1, len(shaken) // 16), replace=False)
            shaken[swapped] = shaken[np.roll(swapped, 1)]
            other = self.settled(shaken)
            found = other if self.total(other) > self.total(found) else found
        return found

    def total(self, order: Order) -> float:
        """The magnitude that an order keeps."""
        grouped = self.columns[order].reshape(self.groups, self.of, -1)
        return float(np.partition(grouped, self.of - self.kept, axis=1)[:, self.of - self.kept :].sum(dtype=np.float64))

    def settled(self, order: Order) -> Order:
        """An order in which no two groups can be dealt better, or the best when the work is done."""
        order, quiet = order.reshape(self.groups, self.of).copy(), 0
        while quiet < self.groups - 1 + self.groups % 2 and self.left > 0:
            for pairs in _tournament(self.groups, self.random):
                quiet = 0 if self._deal(order, pairs) else quiet + 1
                if self.left <= 0 or quiet >= self.groups:
                    break
        return order.ravel()

    def _deal(self, order: Order, pairs: Order) -> bool:
        """Deal each pair of groups anew in the best way; whether anything changed."""
        both = order[pairs].reshape(len(pairs), 2 * self.of)
        data = self.columns[both]
        self.left -= len(self.parts) * self.terms * len(pairs) * data.shape[2]
        scores = self._scores(data)
        totals = np.stack([scores[a] + scores[b] for a, b in self.ways])  # the first way leaves all as it is
        best = totals.argmax(axis=0)
        better = totals.max(axis=0) > totals[0] * (1 + 1e-6)
        for k in np.flatnonzero(better):
            first, second = self.ways[best[k]]
            order[pairs[k, 0]], order[pairs[k, 1]] = both[k, list(first)], both[k, list(second)]
        return bool(better.any())

    def _scores(self, data: Array) -> dict[tuple[int, ...], Array]:
        """What every choice of columns keeps, for each pair."""
        if self.terms > 16:
            cut = self.of - self.kept
            return {p: np.partition(data[:, p], cut, axis=1)[:, cut:].sum(axis=(1, 2)) for p in self.parts}
        sums = {c: data[:, c].sum(axis=1) for c in combinations(range(2 * self.of), self.kept)}
        found = {}
        for part in self.parts:
            terms = [sums[c] for c in combinations(part, self.kept)]
            largest = terms[0].copy()
            for term in terms[1:]:
                np.maximum(largest, term, out=largest)
            found[part] = largest.sum(axis=1)
        return found


def _ways(of: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """How 2 x M columns can be dealt to two groups: as they are, then all other ways, or all swaps of two."""
    everything = range(2 * of)
    if comb(2 * of, of) // 2 <= WAYS:
        firsts = [first for first in combinations(everything, of) if 0 in first]
    else:
        own = tuple(range(of))
        firsts = [own, *((*own[:a], *own[a + 1 :], b) for a in own for b in range(of, 2 * of))]
    return [(first, tuple(k for k in everything if k not in first)) for first in firsts]


def _tournament(groups: int, random: np.random.Generator) -> Iterator[Order]:
    """Rounds of disjoint pairs in which every two groups meet once."""
    players = random.permutation(groups + groups % 2)
    for _ in range(len(players) - 1):
        pairs = np.stack([players[: len(players) // 2], players[: len(players) // 2 - 1 : -1]], axis=1)
        yield pairs[(pairs < groups).all(axis=1)]
        players[1:] = np.roll(players[1:], 1)
