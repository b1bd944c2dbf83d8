"""Which axes an unknown operator carries through unchanged, found by running its node alone.

A dimension is carried where selecting some of its indices before the node gives what selecting them after it gives, at
whatever operands and outputs it lies: f(x[S]) = f(x)[S]. Two steps find it:

1. *Locality*: the values at one index of an operand's axis are changed. Where the outputs change at that index and
   nowhere else along an axis, the two axes may be one dimension.
2. *Decision*: for every such dimension, several sets of indices are selected: one index, an odd number, a half, all
   but one, first alone and then of all dimensions at once. Only what comes out equal each time is carried.

Random inputs prove nothing; they refute. What is stated is inferred, and verification judges the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, TypeAlias

import networkx as nx
import numpy as np
import numpy.typing as npt

from onnxprune.dependency import ProbedNode
from onnxprune.model.alone import Alone, Link, Operand, Probed, Prober
from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.isolated import Isolated

__all__ = ["IsolatedProber", "said"]

Array: TypeAlias = npt.NDArray[Any]
Place: TypeAlias = tuple[str, int, int]
"""`x` (operand) or `y` (output), which one, and its axis."""

LIMIT = 1 << 24  # elements of all operands together
TIMEOUT = 20.0  # seconds for one run
TOLERANCE = 1e-4  # of the largest value: a kernel may add up in another order when an axis is shorter


class IsolatedProber(Prober):
    """Runs nodes in a child process; what it learnt of a node it knows of every equal one. Close it after use."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._worker = Isolated(timeout=TIMEOUT)
        self._known: dict[bytes, Probed] = {}
        self._outputs: dict[bytes, Mapping[int, tuple[np.dtype[Any], tuple[int, ...]]]] = {}

    def __enter__(self) -> IsolatedProber:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()

    def outputs(self, node: Alone) -> Mapping[int, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Element type and shape of every output that is a tensor, by position; empty where it does not run."""
        key = node.key
        if key not in self._outputs:
            try:
                (found,) = self._run(node, _values(node, self._seed))
            except RunFailed:
                found = {}
            self._outputs[key] = {k: (value.dtype, value.shape) for k, value in found.items()}
        return self._outputs[key]

    def carried(self, node: Alone) -> Probed:
        """Which axes the node carries through unchanged; a reason where it could not be run."""
        key = node.key
        if key not in self._known:
            try:
                self._known[key] = self._probe(node)
            except RunFailed as failure:
                self._known[key] = Probed(reason=f"it does not run alone: {failure.reason}")
        return self._known[key]

    def _probe(self, node: Alone) -> Probed:
        if sum(prod(o.shape) for o in node.operands if o is not None) > LIMIT:
            return Probed(reason="its operands are too large to be probed")
        values = _values(node, self._seed)
        outputs, again = self._run(node, values, values)
        if not _equal(outputs, again):
            return Probed(reason="two runs on the same values differ")
        dimensions = self._local(node, values, outputs)
        generator = np.random.default_rng(self._seed)
        kept = [d for d in dimensions if self._commutes(node, values, outputs, [d], generator)]
        while len(kept) > 1 and not self._commutes(node, values, outputs, kept, generator):
            kept.pop()
        return Probed(tuple(_links(kept)))

    def _run(self, node: Alone, *feeds: Mapping[int, Array]) -> list[dict[int, Array]]:
        """The outputs that are tensors, by position, for each of `feeds`, which are of the same shapes."""
        shapes = [feeds[0][k].shape if k in feeds[0] else () for k in range(len(node.operands))]
        found = self._worker.run(node.model(shapes), [{f"x{k}": v for k, v in feed.items()} for feed in feeds])
        return [{int(name[1:]): v for name, v in one.items() if isinstance(v, np.ndarray)} for one in found]

    def _local(self, node: Alone, values: Mapping[int, Array], outputs: Mapping[int, Array]) -> list[list[Place]]:
        """Axes of operands and outputs between which a change stays at its index."""
        together: nx.Graph[Place] = nx.Graph()
        for k, value in values.items():
            for axis, size in enumerate(value.shape):
                if size > 1:
                    at = sorted({0, size // 2, size - 1})
                    changed = self._run(node, *({**values, k: _changed(value, axis, index)} for index in at))
                    seen = [_changed_only_at(outputs, new, index, size) for index, new in zip(at, changed, strict=True)]
                    told = [where for where in seen if where]
                    if None not in seen and told:
                        together.add_edges_from((("x", k, axis), ("y", j, b)) for j, b in set.intersection(*told))
        return [sorted(part) for part in nx.connected_components(together)]

    def _commutes(
        self,
        node: Alone,
        values: Mapping[int, Array],
        outputs: Mapping[int, Array],
        dimensions: Sequence[Sequence[Place]],
        generator: np.random.Generator,
    ) -> bool:
        """Whether selecting before the node is selecting after it, for several sets of indices."""
        for share in (0.0, 0.3, 0.5, 1.0):
            chosen = {}
            for dimension in dimensions:
                size = _size(dimension[0], values, outputs)
                count = min(max(1, round(size * share)), size - 1)
                count -= count > 1 and count % 2 == 0 and share == 0.3  # an odd number
                picked = np.sort(generator.choice(size, count, replace=False))
                chosen.update(dict.fromkeys(dimension, picked))
            selected = {k: _selected(value, "x", k, chosen) for k, value in values.items()}
            expected = {j: _selected(value, "y", j, chosen) for j, value in outputs.items()}
            try:
                (found,) = self._run(node, selected)
            except RunFailed:
                return False
            if not _equal(expected, found):
                return False
        return True


def _values(node: Alone, seed: int) -> dict[int, Array]:
    """Random values for every operand that is no number; of a weight, its own."""
    generator = np.random.default_rng(seed)
    return {k: _value(o, generator) for k, o in enumerate(node.operands) if o is not None and o.number is None}


def _value(operand: Operand, generator: np.random.Generator) -> Array:
    if operand.weight is not None:
        return operand.weight()
    if operand.dtype.kind in "ub" and operand.dtype.itemsize == 1 and operand.dtype != np.bool_:
        return generator.integers(0, 256, operand.shape).astype(operand.dtype)
    if operand.dtype == np.int8:
        return generator.integers(-128, 128, operand.shape).astype(operand.dtype)
    if operand.dtype.kind in "iub":
        return generator.integers(0, 2, operand.shape).astype(operand.dtype)  # 0 and 1 are indices of most things
    return np.asarray(generator.standard_normal(operand.shape)).astype(operand.dtype)


def _changed(value: Array, axis: int, index: int) -> Array:
    """`value` with everything at one index of an axis changed, and no sign or zero made that was not there before."""
    copy: Array = value.copy()
    slab = np.moveaxis(copy, axis, 0)[index : index + 1]  # a view: what is written there is written into the copy
    if value.dtype.kind in "biu":
        slab[...] = slab ^ np.ones((), value.dtype)
    else:
        slab[...] = (slab.astype(np.float64) * 1.25 + 0.125).astype(value.dtype)
    return copy


def _changed_only_at(
    before: Mapping[int, Array], after: Mapping[int, Array], index: int, size: int
) -> set[tuple[int, int]] | None:
    """The (output, axis) of length `size` along which all outputs changed at `index` alone.

    Empty where nothing changed, which says nothing; None where some output changed and has no such axis.
    """
    found: set[tuple[int, int]] = set()
    for j, old in before.items():
        new = after.get(j)
        if new is None or new.shape != old.shape:
            return None
        differs = np.logical_not(_alike(old, new))
        if not differs.any():
            continue
        axes = set()
        for axis, length in enumerate(old.shape):
            along = np.atleast_1d(differs.any(axis=tuple(a for a in range(old.ndim) if a != axis)))
            if length == size and along[index] and along.sum() == 1:
                axes.add((j, axis))
        if not axes:
            return None
        found |= axes
    return found


def _alike(old: Array, new: Array) -> npt.NDArray[np.bool_]:
    """Element by element: equal, or both not a number."""
    both_nan = np.logical_and(old != old, new != new)
    return np.asarray(np.logical_or(old == new, both_nan), np.bool_)


def _equal(expected: Mapping[int, Array], found: Mapping[int, Array]) -> bool:
    if expected.keys() != found.keys():
        return False
    for j, value in expected.items():
        if found[j].shape != value.shape or found[j].dtype != value.dtype:
            return False
        if value.dtype.kind in "iubOSU":
            if not (value == found[j]).all():
                return False
            continue
        old, new = value.astype(np.float64), found[j].astype(np.float64)
        near = TOLERANCE * max(1e-6, float(np.max(np.abs(old), initial=0.0, where=np.isfinite(old))))
        if not np.allclose(old, new, rtol=TOLERANCE, atol=near, equal_nan=True):
            return False
    return True


def _size(place: Place, values: Mapping[int, Array], outputs: Mapping[int, Array]) -> int:
    side, index, axis = place
    return int((values if side == "x" else outputs)[index].shape[axis])


def _selected(value: Array, side: str, index: int, chosen: Mapping[Place, npt.NDArray[np.intp]]) -> Array:
    for axis in range(value.ndim):
        if (side, index, axis) in chosen:
            value = np.take(value, chosen[side, index, axis], axis=axis)
    return value


def _links(dimensions: Sequence[Sequence[Place]]) -> list[Link]:
    """Each dimension as links from one operand to every output and, by way of an output, to every other operand."""
    links: list[Link] = []
    for dimension in dimensions:
        inputs = [(k, axis) for side, k, axis in dimension if side == "x"]
        outputs = [(j, axis) for side, j, axis in dimension if side == "y"]
        links.extend((inputs[0], output) for output in outputs)
        links.extend((operand, outputs[0]) for operand in inputs[1:])
    return links


def said(probed: Sequence[ProbedNode]) -> tuple[str, ...]:
    """In a sentence for each operator, what was inferred by running nodes, for a user to know."""
    by_operator: dict[str, list[ProbedNode]] = {}
    for node in probed:
        by_operator.setdefault(node.op_type, []).append(node)
    return tuple(_sentence(op_type, nodes) for op_type, nodes in by_operator.items())


def _sentence(op_type: str, nodes: Sequence[ProbedNode]) -> str:
    count = f"{len(nodes)} node{'s' if len(nodes) > 1 else ''} {op_type}"
    carrying = [node for node in nodes if node.carries]
    if carrying:
        return (
            f"no rule for {count}: by running them alone it was inferred that {len(carrying)} carry dimensions "
            f"through unchanged, such as {', '.join(carrying[0].carries)}"
        )
    why = next((f": {node.reason}" for node in nodes if node.reason), "")
    return f"no rule for {count}, and running them alone found no dimension that they carry through unchanged{why}"
