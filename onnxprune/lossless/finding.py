"""Which indices of which groups change no output, or would not if a constant were folded or a duplicate merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnxprune.dependency import Group
from onnxprune.dimensions import Atom, Dimension, Mask, Pick, Sum, Vector, atoms, keep_mask, project
from onnxprune.lossless.reading import Booleans, Reader
from onnxprune.lossless.values import hash_rows

__all__ = ["Fold", "constants_left", "dead", "rewritable"]

Indices = npt.NDArray[np.intp]


def dead(groups: Sequence[Group], readers: Sequence[Reader]) -> tuple[dict[int, Mask], dict[str, int]]:
    """Keep masks that remove every index that is silent wherever it is read, and how many go by kind.

    `unread`: all weights that read it are zero; `zero`: it is always zero itself. What a removed index alone reads is
    removed with it. One index of each group stays.
    """
    keep: dict[int, Mask] = {}
    unread: dict[int, Mask] = {}
    while True:
        by_weights, by_values = _totals(readers, keep)
        found = {g.atom.id: _stays(by_values.get(g.atom.id), g.size) for g in groups}
        found = {atom: mask for atom, mask in found.items() if not mask.all()}
        unread = {g.atom.id: _none(by_weights.get(g.atom.id), g.size) for g in groups if g.atom.id in found}
        if all(np.array_equal(keep.get(atom, ()), mask) for atom, mask in found.items()):
            break
        keep = found
    counts = {"unread": 0, "zero": 0}
    for atom, mask in keep.items():
        counts["unread"] += int((~mask & unread[atom]).sum())
        counts["zero"] += int((~mask & ~unread[atom]).sum())
    return keep, counts


def _none(total: Vector | None, size: int) -> Mask:
    return np.ones(size, np.bool_) if total is None else total == 0


def _stays(total: Vector | None, size: int) -> Mask:
    """What is needed; the first index where nothing is, because no axis is ever emptied."""
    mask = ~_none(total, size)
    if not mask.any():
        mask[0] = True
    return mask


def _totals(readers: Sequence[Reader], keep: Mapping[int, Mask]) -> tuple[dict[int, Vector], dict[int, Vector]]:
    """For every index of every atom whether something reads it, by the weights alone and with the values known."""
    by_weights: dict[int, Vector] = {}
    by_values: dict[int, Vector] = {}
    for reader in readers:
        read = reader.unsilenced(keep)
        _spread(reader, read, by_weights)
        _spread(reader, read & ~reader.zero, by_values)
    return by_weights, by_values


def _spread(reader: Reader, channels: Booleans, totals: dict[int, Vector]) -> None:
    project(reader.dim, reader.positions(channels).astype(np.float64), totals, np.maximum)


@dataclass(frozen=True)
class Fold:
    """What to do to one contraction: (groups, read) channels to fold into its bias, and which to add to which."""

    reader: Reader
    constants: Booleans
    merges: tuple[tuple[int, int, int], ...]  # (group, from, to)


def rewritable(groups: Sequence[Group], readers: Sequence[Reader]) -> tuple[list[Fold], dict[str, int]]:
    """What to fold and merge so that more indices become silent, and how many of them go by kind: `constant` and
    `duplicate`; of a group that goes whole the first one stays."""
    read = [reader.unsilenced({}) for reader in readers]
    hard: dict[int, Vector] = {}
    soft: dict[int, Vector] = {}
    for reader, channels in zip(readers, read, strict=True):
        needed = channels & ~reader.zero
        _spread(reader, needed & ~_foldable(reader), hard)
        _spread(reader, needed, soft)
    constants = {g.atom.id: (hard[g.atom.id] == 0) & (soft[g.atom.id] > 0) for g in groups if g.atom.id in hard}
    silent = {g.atom.id: soft[g.atom.id] == 0 for g in groups if g.atom.id in soft}
    twins = _twins(groups, readers, read, {atom: constants[atom] | silent[atom] for atom in constants})
    counts = {
        "constant": sum(
            int(mask.sum()) - int((mask | silent[atom]).all() & mask[0]) for atom, mask in constants.items()
        ),
        "duplicate": sum(int((twin != np.arange(len(twin))).sum()) for twin in twins.values()),
    }
    folds = [
        fold
        for reader, channels in zip(readers, read, strict=True)
        if (fold := _fold(reader, channels & ~reader.zero, constants, twins)) is not None
    ]
    return folds, counts


def _foldable(reader: Reader) -> Booleans:
    return reader.known & np.bool_(not reader.why_not)


def _twins(
    groups: Sequence[Group], readers: Sequence[Reader], read: Sequence[Booleans], gone: Mapping[int, Mask]
) -> dict[int, Indices]:
    """For each group that has duplicates, the first index that equals each; indices that go anyway are their own."""
    signs: dict[int, list[npt.NDArray[np.uint64]]] = {}
    for reader, channels in zip(readers, read, strict=True):
        numbers = reader.numbers(channels)
        for atom in set(atoms(reader.dim)):
            places = positions_of(reader.dim, atom)
            own = np.arange(atom.size, dtype=np.uint64)[:, None]
            signs.setdefault(atom.id, []).append(own if places is None else numbers[places])
    found: dict[int, Indices] = {}
    for group in groups:
        if group.atom.id not in signs:
            continue
        rows = hash_rows(np.concatenate(signs[group.atom.id], axis=1))
        own = np.arange(group.size, dtype=np.uint64)
        rows = np.where(gone.get(group.atom.id, np.zeros(group.size, np.bool_)), own, rows)
        _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
        twin = first[inverse.ravel()]
        if (twin != np.arange(group.size)).any():
            found[group.atom.id] = twin
    return found


def positions_of(dim: Dimension, atom: Atom) -> Indices | None:
    """The positions on an axis of each index of an atom, (atom size, m); None where they are not as many for each."""
    labels = _labels(dim, atom)
    if labels is None or np.ptp(np.bincount(labels[labels >= 0], minlength=atom.size)) != 0:
        return None
    order = np.argsort(labels, kind="stable")
    return order[int((labels < 0).sum()) :].reshape(atom.size, -1)


def _labels(dim: Dimension, atom: Atom) -> Indices | None:
    """For each position the index of `atom` that it belongs to, or -1; None where that may be two of them."""
    if isinstance(dim, Pick):
        return np.asarray(dim.indices) if dim.atom == atom else np.full(dim.size, -1)
    if isinstance(dim, Atom):
        return np.arange(dim.size) if dim == atom else np.full(dim.size, -1)
    if isinstance(dim, Sum):
        parts = [_labels(part, atom) for part in dim.parts]
        return None if any(p is None for p in parts) else np.concatenate([p for p in parts if p is not None])
    grid = np.full([factor.size for factor in dim.factors], -1)
    holding = [k for k, factor in enumerate(dim.factors) if atom in set(atoms(factor))]
    if len(holding) > 1:
        return None
    for k in holding:
        labels = _labels(dim.factors[k], atom)
        if labels is None:
            return None
        grid = np.maximum(grid, labels.reshape([-1 if a == k else 1 for a in range(grid.ndim)]))
    return grid.ravel()


def _fold(reader: Reader, needed: Booleans, constants: Mapping[int, Mask], twins: Mapping[int, Indices]) -> Fold | None:
    """What one contraction has to do so that the constants and the duplicates are silent there."""
    k = reader.contraction
    if k is None:
        return None
    folded = needed & ~k.read_mask(keep_mask(reader.dim, {atom: ~mask for atom, mask in constants.items()}))
    apart = {atom: twin == np.arange(len(twin)) for atom, twin in twins.items()}
    moved = needed & ~folded & ~k.read_mask(keep_mask(reader.dim, apart))
    if not folded.any() and not moved.any():
        return None
    merges = []
    stays = k.read_mask(keep_mask(reader.dim, {**apart, **{a: apart.get(a, True) & ~m for a, m in constants.items()}}))
    for group in range(k.groups):
        home = {int(n): int(i) for i, n in reversed([*enumerate(reader.number[group])]) if stays[group, i]}
        merges += [(group, int(i), home[int(reader.number[group, i])]) for i in np.flatnonzero(moved[group])]
    return Fold(reader, folded, tuple(merges))


def constants_left(groups: Sequence[Group], readers: Sequence[Reader]) -> dict[str, int]:
    """How many indices are constants that could not be folded, by reason."""
    hard: dict[int, Vector] = {}
    soft: dict[str, dict[int, Vector]] = {}
    for reader in readers:
        needed = reader.unsilenced({}) & ~reader.zero
        _spread(reader, needed & ~reader.known, hard)
        _spread(reader, needed & reader.known, soft.setdefault(reader.why_not, {}))
    left: dict[str, int] = {}
    for group in groups:
        rest = _none(hard.get(group.atom.id), group.size)
        for reason, totals in soft.items():
            blocked = rest & ~_none(totals.get(group.atom.id), group.size)
            if reason and blocked.any():
                left[reason] = left.get(reason, 0) + int(blocked.sum())
                rest &= ~blocked
    return left
