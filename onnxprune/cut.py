"""The one cut: every tensor's keep mask is read off the types of its axes, for silencing and for removing alike.

`mask` multiplies by zero wherever a contraction reads an index that goes; shapes stay. `shrink` removes the same
indices from every weight and corrects the numbers that count or index them. For every input, both give the same
outputs: that is the theorem which each run proves before it writes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxprune.dependency import Analysis
from onnxprune.dimensions import Dimension, Mask, Product, count, keep_mask
from onnxprune.model import Array, Edit, Model, recompute
from onnxprune.plan import Plan
from onnxprune.rescaling import rescale
from onnxprune.rules.facts import Attribute, Counts, Default, Indexes, Operand, Reads
from onnxprune.silencing import Silencer

__all__ = ["mask", "shrink"]


class Cut:
    """What stays of each axis under one plan."""

    def __init__(self, analysis: Analysis, plan: Plan) -> None:
        self.analysis, self.plan, self.model = analysis, plan, analysis.model
        self.counts = plan.counts
        self._masks: dict[Dimension, Mask | None] = {}

    def mask_of(self, dim: Dimension) -> Mask | None:
        """The keep mask of a resolved type, or None where all of it stays."""
        if dim not in self._masks:
            kept = keep_mask(dim, self.plan.keep)
            self._masks[dim] = None if kept.all() else kept
        return self._masks[dim]

    def masks(self, tensor: str) -> list[Mask | None]:
        """The keep mask of every axis of a tensor."""
        return [self.mask_of(dim) for dim in self.analysis.dims(tensor)]

    def size(self, dim: Dimension) -> int:
        """How many indices of a dimension, as a rule stated it, stay."""
        return count(self.analysis.type_of(dim), self.counts)


def mask(analysis: Analysis, plan: Plan) -> Model:
    """The model with every index that goes silenced where it is read; same shapes, same names."""
    cut, model = Cut(analysis, plan), analysis.model
    edit = Edit(model)
    silent: dict[tuple[int, int], list[tuple[int, Mask]]] = defaultdict(list)
    for statement in analysis.notes(Reads):
        assert isinstance(statement.fact, Reads)
        operand = statement.fact.operand
        name = model.nodes[statement.node].inputs[operand]
        kept = cut.masks(name)[statement.fact.axis]
        if kept is not None:
            silent[statement.node, operand].append((statement.fact.axis, kept))
    silencer = Silencer(analysis, edit)
    for (node, operand), axes in silent.items():
        rank = len(analysis.axes[model.nodes[node].inputs[operand]])
        keep: Mask = np.ones((1,) * rank, dtype=np.bool_)
        for axis, kept in axes:
            keep = keep & kept.reshape([-1 if k == axis else 1 for k in range(rank)])
        silencer.silence(model.nodes[node], operand, keep)
    return edit.done()


def shrink(analysis: Analysis, plan: Plan) -> Model:
    """The model with every index that goes removed: smaller weights, corrected numbers, everything else untouched."""
    cut, model = Cut(analysis, plan), analysis.model
    edit = Edit(model)
    for name in model.weights:
        masks = cut.masks(name)
        if name not in model.folded and any(m is not None for m in masks):
            edit.replace(name, _take(model.array(name), masks))
    if plan.keep:
        _store_folded(cut, edit)
    numbers = _Numbers(cut)
    covered = _correct_numbers(cut, edit, numbers)
    _keep_values(cut, edit, numbers, covered)
    rescale(analysis, cut.counts, edit)
    _write_defaults(cut, edit)
    for name in analysis.axes:
        masks = cut.masks(name)
        if any(m is not None for m in masks):
            edit.resize(name, [None if m is None else int(m.sum()) for m in masks])
    return edit.done()


def _store_folded(cut: Cut, edit: Edit) -> None:
    """Constants that the model computes, and that are weights of their own now, are computed once and stored."""
    stored: dict[str, str] = {}
    for node in cut.model.nodes:
        for position, name in enumerate(node.inputs if node.index not in cut.model.spent else ()):
            if name in cut.model.folded:
                if name not in stored:
                    stored[name] = edit.add(f"{name}__folded", _take(cut.model.array(name), cut.masks(name)))
                edit.connect(node.index, position, stored[name])


def _take(array: Array, masks: Sequence[Mask | None]) -> Array:
    """The kept indices of every axis, in one copy."""
    changed = [axis for axis, m in enumerate(masks) if m is not None]
    if len(changed) == 1:
        kept = masks[changed[0]]
        assert kept is not None
        return np.asarray(np.compress(kept, array, axis=changed[0]))
    index = [np.arange(n) if m is None else np.flatnonzero(m) for n, m in zip(array.shape, masks, strict=True)]
    return np.asarray(array[np.ix_(*index)])


class _Numbers:
    """What the model's shape arithmetic yields once the weights are cut."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self.known: dict[str, Array] = {}
        self.maker = {name: node for node in cut.model.nodes for name in node.outputs}

    def after(self, name: str) -> Array:
        """The value of a number tensor after the cut, before any correction."""
        stack = [name]
        while stack:
            current = stack[-1]
            if current not in self.known:
                missing = [i for i in self._inputs(current) if i not in self.known]
                if missing:
                    stack.extend(missing)
                    continue
                self.known[current] = self._compute(current)
            stack.pop()
        return self.known[name]

    def _inputs(self, name: str) -> list[str]:
        node = self.maker.get(name)
        if name in self.cut.model.weights or node is None or node.op_type in ("Shape", "Size"):
            return []
        return [i for i in node.inputs if i]

    def _compute(self, name: str) -> Array:
        node, before = self.maker.get(name), self.cut.analysis.shapes.number.get(name)
        if name in self.cut.model.weights:
            return self.cut.model.array(name) if before is None else before
        assert node is not None
        if node.op_type in ("Shape", "Size"):
            sizes = [count(dim, self.cut.counts) for dim in self.cut.analysis.dims(node.inputs[0])]
            if not sizes or before is None:
                assert before is not None
                return before
            if node.op_type == "Size":
                return np.asarray(np.prod(sizes), dtype=np.int64)
            return np.asarray(sizes[slice(node.attributes.get("start"), node.attributes.get("end"))], dtype=np.int64)
        values = self.cut.analysis.shapes.number
        if before is not None and all(
            i in values and np.array_equal(self.known[i], values[i]) for i in node.inputs if i
        ):
            return before
        return recompute(self.cut.model, node.index, [self.known[i] if i else None for i in node.inputs])


def _correct_numbers(cut: Cut, edit: Edit, numbers: _Numbers) -> set[tuple[int, int]]:
    """Make every number that counts or indexes a cut dimension right; returns the (node, input) pairs spoken for."""
    indices: dict[tuple[int, int], list[Indexes]] = defaultdict(list)
    for statement in cut.analysis.notes(Indexes):
        assert isinstance(statement.fact, Indexes)
        indices[statement.node, statement.fact.operand].append(statement.fact)
    for (index, operand), facts in indices.items():
        _renumber(cut, edit, index, operand, facts)
    covered = set(indices)
    for statement in cut.analysis.notes(Counts):
        node, fact = cut.model.nodes[statement.node], statement.fact
        assert isinstance(fact, Counts)
        if isinstance(fact.place, Operand):
            covered.add((node.index, fact.place.index))
        sizes = [None if dim is None else cut.size(dim) for dim in fact.dims]
        changed = any(size is not None and size != dim.size for size, dim in zip(sizes, fact.dims, strict=True) if dim)
        if isinstance(fact.place, Attribute):
            if changed:
                _set_attribute(cut, edit, node.index, fact, sizes)
            continue
        if fact.place.index >= len(node.inputs) or not node.inputs[fact.place.index]:
            if changed and len(set(sizes)) > 1:
                edit.connect(node.index, fact.place.index, edit.add(f"{node.name}__sizes", np.asarray(sizes, np.int64)))
                if fact.instead_of in node.attributes:
                    edit.set_attribute(node.index, fact.instead_of, None)
            continue
        _set_operand(cut, edit, numbers, node.index, fact, sizes)
    return covered


def _set_attribute(cut: Cut, edit: Edit, node: int, fact: Counts, sizes: Sequence[int | None]) -> None:
    assert isinstance(fact.place, Attribute)
    name = fact.place.name
    old = cut.model.nodes[node].attributes.get(name)
    if isinstance(old, int) or (old is None and len(sizes) == 1):
        edit.set_attribute(node, name, sizes[0])
    elif old is not None or len(set(sizes)) > 1:
        before = old if old is not None else sizes
        signed = [int(b) if s is None else -s if b < 0 else s for b, s in zip(before, sizes, strict=True)]
        edit.set_attribute(node, name, signed)


def _set_operand(cut: Cut, edit: Edit, numbers: _Numbers, node: int, fact: Counts, sizes: Sequence[int | None]) -> None:
    """Correct a number operand: left alone where it comes out right by itself, else replaced for this node."""
    assert isinstance(fact.place, Operand)
    position = fact.place.index
    name = cut.model.nodes[node].inputs[position]
    shapes = cut.analysis.shapes
    if name not in shapes.number:
        return  # made by the branch of an If: its rule fixed what it counts
    before, dynamic = shapes.number[name].ravel(), shapes.dynamic_number[name].ravel()
    after = numbers.after(name).ravel()
    wanted = after.copy()
    for k, (size, dim) in enumerate(zip(sizes, fact.dims, strict=True)):
        if size is not None and dim is not None:
            if dynamic[k]:  # such as batch x heads, where heads went
                wanted[k] = size if before[k] == dim.size else after[k]
            elif size != dim.size:
                wanted[k] = -size if before[k] < 0 else size
            elif after[k] != before[k]:
                wanted[k] = before[k]
    if np.array_equal(wanted, after):
        return
    if not dynamic.any():
        corrected = wanted
    else:
        found = _as_reshape_target(cut, node, wanted, dynamic)
        if found is None:
            edit.connect(node, position, _measured(cut, edit, node, position, fact, wanted, after))
            return
        corrected = found
    shape = shapes.number[name].shape
    edit.connect(
        node, position, edit.add(f"{name}__pruned", corrected.reshape(shape).astype(shapes.number[name].dtype))
    )


def _measured(cut: Cut, edit: Edit, node: int, position: int, fact: Counts, wanted: Array, after: Array) -> str:
    """A number tensor that is corrected while the model runs: constants where it is constant, else measured.

    A dynamic number that comes out wrong, such as batch x heads where heads went, is the size of an axis that differs
    from it in what is cut alone, times what is cut here over what is cut there. Such an axis is looked for in the
    node's own data and in the graph's inputs; without one, the number is scaled.
    """
    name = cut.model.nodes[node].inputs[position]
    shapes = cut.analysis.shapes
    dynamic, kind = shapes.dynamic_number[name].ravel(), shapes.number[name].dtype
    wrong = dynamic & (wanted != after)
    corrected = name
    if wrong.any():
        source = _source(cut, cut.model.nodes[node].inputs[0], fact, wrong) if kind == np.int64 else None
        if source is None:
            corrected = _times(edit, node, name, np.where(wrong, wanted, 1), np.where(wrong, after, 1), kind)
        else:
            tensor, axes = source
            found = dynamic & (axes >= 0)
            sizes = np.asarray([count(dim, cut.counts) for dim in cut.analysis.dims(tensor)], np.int64)[axes]
            shape = edit.insert(node, "Shape", [tensor], f"{name}__of")
            taken = edit.insert(
                node, "Gather", [shape, edit.add(f"{name}__axes", np.maximum(axes, 0))], f"{name}__sizes"
            )
            measured = _times(edit, node, taken, np.where(found, wanted, 1), np.where(found, sizes, 1), kind)
            corrected = measured if found[dynamic].all() else _where(edit, node, found, measured, name)
    if dynamic.all() or (corrected == name and np.array_equal(wanted[~dynamic], after[~dynamic])):
        return corrected
    return _where(edit, node, ~dynamic, edit.add(f"{name}__constant", wanted.astype(kind)), corrected)


def _source(cut: Cut, data: str, fact: Counts, wrong: Array) -> tuple[str, Array] | None:
    """A tensor to measure on, and its axis for each number (-1: none); every wrong number has one."""
    for tensor in (data, *(info.name for info in cut.model.inputs)):
        axes = np.asarray([-1 if dim is None else _like(cut, tensor, dim) for dim in fact.dims], np.int64)
        if (axes[wrong] >= 0).all():
            return tensor, axes
    return None


def _like(cut: Cut, tensor: str, dim: Dimension) -> int:
    """The axis of a tensor that differs from `dim` in factors that are cut alone; -1 where there is none."""
    own = _uncut(cut, cut.analysis.type_of(dim))
    return next((axis for axis, other in enumerate(cut.analysis.dims(tensor)) if _uncut(cut, other) == own), -1)


def _uncut(cut: Cut, dim: Dimension) -> tuple[Dimension, ...]:
    factors = dim.factors if isinstance(dim, Product) else (dim,)
    return tuple(factor for factor in factors if cut.mask_of(factor) is None)


def _times(edit: Edit, node: int, name: str, over: Array, under: Array, kind: np.dtype[Any]) -> str:
    """`name` x over / under, element by element."""
    common = np.gcd(over, under)
    for op_type, values in (("Mul", over // common), ("Div", under // common)):
        if (values != 1).any():
            by = edit.add(f"{name}__by", values.astype(kind))
            name = edit.insert(node, op_type, [name, by], f"{name}__scaled")
    return name


def _where(edit: Edit, node: int, condition: Array, then: str, other: str) -> str:
    return edit.insert(node, "Where", [edit.add(f"{other}__where", condition), then, other], f"{other}__corrected")


def _as_reshape_target(cut: Cut, node: int, wanted: Array, dynamic: Array) -> Array | None:
    """A constant Reshape target: 0 copies an axis, -1 is the one that is left; None where more are dynamic."""
    call = cut.model.nodes[node]
    if call.op_type != "Reshape" or call.attributes.get("allowzero", 0):
        return None
    x, y = cut.analysis.axes[call.inputs[0]], cut.analysis.axes[call.outputs[0]]
    target = wanted.copy()
    open_axes = []
    for k in np.flatnonzero(dynamic):
        if k < len(x) and x[k].size == y[k].size and cut.analysis.type_of(x[k]) == cut.analysis.type_of(y[k]):
            target[k] = 0
        else:
            open_axes.append(k)
    if len(open_axes) > 1 or (open_axes and (target == -1).any()):
        return None
    target[open_axes] = -1
    return np.asarray(target)


def _renumber(cut: Cut, edit: Edit, node: int, operand: int, facts: Sequence[Indexes]) -> None:
    """Indices that stay are the places that what they point to has now."""
    name = cut.model.nodes[node].inputs[operand]
    indices = cut.analysis.shapes.number[name]
    for axis, m in enumerate(cut.masks(name)):
        if m is not None:
            indices = np.compress(m, indices, axis=axis)
    renumbered = indices.copy()
    for fact in facts:
        kept = cut.mask_of(cut.analysis.type_of(fact.dim))
        if kept is not None:
            part = ... if fact.component is None else (..., fact.component)
            values = indices[part]
            renumbered[part] = (np.cumsum(kept) - 1)[np.where(values < 0, values + len(kept), values)]
    if not np.array_equal(renumbered, indices):
        edit.connect(node, operand, edit.add(f"{name}__renumbered", renumbered))


def _keep_values(cut: Cut, edit: Edit, numbers: _Numbers, covered: set[tuple[int, int]]) -> None:
    """A size that is used as a number (1/sqrt of a head's width) keeps the value that it had."""
    shapes = cut.analysis.shapes
    for node in cut.model.nodes:
        if node.index in cut.model.spent or all(name in shapes.number for name in node.outputs):
            continue
        for position, name in enumerate(node.inputs):
            if (node.index, position) in covered or name not in shapes.number or name in cut.model.weights:
                continue
            before, after = shapes.number[name], numbers.after(name)
            differs = before != after
            if np.shape(after) == before.shape and np.any(differs & ~shapes.dynamic_number[name]):
                edit.connect(node.index, position, edit.add(f"{name}__value", before))


def _write_defaults(cut: Cut, edit: Edit) -> None:
    """An attribute that is left out and derived from a size that changes is written down as it was."""
    for statement in cut.analysis.notes(Default):
        assert isinstance(statement.fact, Default)
        if any(cut.size(dim) != dim.size for dim in statement.fact.dims):
            edit.set_attribute(statement.node, statement.fact.name, statement.fact.value)
