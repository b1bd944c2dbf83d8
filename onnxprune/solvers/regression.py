"""Which indices a layer's output can do without, as a regression on what each of them contributes.

Index b of a dimension contributes Z_b = X_b W_b^T to the output of a layer that reads it. All that is ever asked of
contributions is their inner products, M_bc = <Z_b, Z_c> = tr(W_b H_bc W_c^T), a small matrix that the second moments of
the input give at once; those of several readers add up. So a sample of positions is not needed: all are counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.solvers.inverse import DAMPING, Float, damped
from onnxprune.solvers.structured import Indices, Reader

__all__ = ["coordinate_descent", "interactions", "lasso_path", "thinet"]

_STEPS = 40  # values of lambda between nothing goes and everything has gone
_SWEEPS, _STILL = 30, 1e-5  # until no gate moves by more
_ROUGHLY = (8, 2e-3)  # on the way along the path, where each step starts from the one before


def interactions(readers: Sequence[Reader], weights: Sequence[Float] | None = None) -> tuple[Float, Float]:
    """M = <Z'_b, Z'_c>, (B, B), and <Z'_b, sum of all Z>, (B,): Z' contributed by `weights`, Z by the readers' own."""
    products, target = [], []
    for k, reader in enumerate(readers):
        own = np.asarray(reader.weights, np.float64)
        now = own if weights is None else weights[k]
        inside = reader.columns.ravel()
        gram = np.asarray(reader.gram, np.float64)[np.ix_(inside, inside)]
        size, width = reader.columns.shape
        both = gram * (now[:, inside].T @ now[:, inside])
        products.append(both.reshape(size, width, size, width).sum(axis=(1, 3)))
        target.append((gram * (now[:, inside].T @ own[:, inside])).sum(axis=1).reshape(size, width).sum(axis=1))
    return np.asarray(np.sum(products, axis=0)), np.asarray(np.sum(target, axis=0))


def thinet(products: Float) -> tuple[Indices, Float]:
    """The order in which indices go, and what the error |sum of what went|^2 is after each.

    Luo, Wu, Lin, ThiNet, ICCV 2017 (arXiv 1707.06342), algorithm 1: add what makes the removed sum smallest.
    """
    size = len(products)
    gone = np.zeros(size, np.bool_)
    crossed, total = np.zeros(size), 0.0
    order, totals = [], []
    for _ in range(size):
        after = np.where(gone, np.inf, total + np.diagonal(products) + 2 * crossed)
        index = int(np.argmin(after))
        gone[index] = True
        total = max(0.0, float(after[index]))
        crossed += products[:, index]
        order.append(index)
        totals.append(total)
    return np.asarray(order, np.intp), np.asarray(totals)


def coordinate_descent(
    products: Float, target: Float, penalty: float, gates: Float, sweeps: int = _SWEEPS, still: float = _STILL
) -> Float:
    """The gates g that minimise 1/2 g' M g - v' g + penalty |g|_1, from a first guess."""
    gates, diagonal = gates.copy(), np.diagonal(products)
    rest = target - products @ gates
    for _ in range(sweeps):
        moved = 0.0
        for k in np.flatnonzero(diagonal > 0):
            raw = rest[k] + diagonal[k] * gates[k]
            new = np.sign(raw) * max(abs(raw) - penalty, 0.0) / diagonal[k]
            step = new - gates[k]
            if step:
                rest -= step * products[k]
                gates[k] = new
                moved = max(moved, abs(step))
        if moved < still:
            break
    gates[diagonal <= 0] = 0.0
    return gates


def lasso_path(readers: Sequence[Reader], *, damping: float = DAMPING) -> Float:
    """The penalty at which the gate of each index becomes zero, (B,); higher for what stays longer.

    He, Zhang, Sun, Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017 (arXiv 1707.06168): the
    penalty grows step by step, a gate that reached zero stays there, and the two problems of that paper alternate: each
    time that half of the gates have closed, the weights of what is left are solved for anew by least squares, and its
    gates start from one again.
    """
    size = len(readers[0].columns)
    left = np.arange(size)
    found = np.zeros(size)
    floor = 0.0
    weights: Sequence[Float] = [np.asarray(reader.weights, np.float64) for reader in readers]
    while len(left) > 1:
        products, target = interactions(readers, weights)
        products, target = products[np.ix_(left, left)], target[left]
        gates, goal = np.ones(len(left)), max(1, len(left) // 2)
        top = max(float(np.abs(target).max()), np.finfo(np.float64).tiny)
        alive = np.ones(len(left), np.bool_)
        for penalty in np.geomspace(top * 1e-4, top, _STEPS):
            inside = products[np.ix_(alive, alive)]
            gates[alive] = coordinate_descent(inside, target[alive], penalty, gates[alive], *_ROUGHLY)
            closed = alive & (gates == 0)
            # what closed at the same penalty is told apart by what it contributes alone
            alone = np.diagonal(products)[closed]
            share = alone / (alone.max() if alone.size and alone.max() > 0 else 1.0)
            found[left[closed]] = floor + penalty * (1 + 1e-3 * share)
            alive &= ~closed
            if np.count_nonzero(alive) <= goal:
                break
        floor = float(found.max())
        if alive.all() or not alive.any():
            break
        left = left[alive]
        weights = [_solved(reader, left, damping) for reader in readers]
    found[left] = np.where(found[left] > 0, found[left], floor * 1.01 + np.finfo(np.float64).tiny)
    return found


def _solved(reader: Reader, left: Indices, damping: float) -> Float:
    """The reader's weights if the columns of `left` alone are to make what all indices made."""
    gram, weights = damped(reader.gram, damping), np.asarray(reader.weights, np.float64)
    inside, stays = reader.columns.ravel(), reader.columns[left].ravel()
    made = np.zeros_like(weights)
    made[:, stays] = np.linalg.solve(gram[np.ix_(stays, stays)], gram[np.ix_(stays, inside)] @ weights[:, inside].T).T
    return made
