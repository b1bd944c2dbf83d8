"""Weights that compute the same with fewer channels: constants are moved into biases, twins are added up.

What is folded or merged gets weights of zero where it is read. Nothing is removed here: it is silent now, so it goes
like everything else that is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from onnxprune.lossless.finding import Fold
from onnxprune.model import Array, Edit, Model

__all__ = ["rewritten"]


def rewritten(model: Model, folds: Sequence[Fold]) -> Model:
    """The model with every fold and merge made; `folds` holds one for each contraction at most."""
    made: dict[str, list[tuple[int, int, Array]]] = defaultdict(list)
    edit = Edit(model)
    for fold in folds:
        node, k = fold.reader.node, fold.reader.contraction
        assert k is not None
        name = node.inputs[1]
        weight = model.array(name)
        matrix = np.array(k.matrix(weight), dtype=np.float64 if weight.dtype.itemsize > 4 else np.float32)
        if fold.constants.any():
            value = np.where(fold.constants, fold.reader.value.astype(np.float64), 0.0)
            added = np.einsum("goit,gi->go", matrix.astype(np.float64), value).ravel() * (k.alpha / k.beta)
            assert fold.reader.bias is not None
            bias = fold.reader.bias
            if bias.name:
                made[bias.name].append((bias.node, bias.position, _with(model.array(bias.name), added)))
            else:
                edit.connect(bias.node, bias.position, edit.add(_named_after(name), added.astype(weight.dtype)))
            np.swapaxes(matrix, 1, 2)[fold.constants] = 0
        for group, source, target in fold.merges:
            matrix[group, :, target] += matrix[group, :, source]
            matrix[group, :, source] = 0
        made[name].append((node.index, 1, k.weight(matrix).astype(weight.dtype)))
    for name, places in made.items():
        _write(model, edit, name, places)
    return edit.done()


def _with(old: Array, added: Array) -> Array:
    """A bias, one number or one for each channel, with what is added to it."""
    return np.asarray((np.broadcast_to(old, (*old.shape[:-1], added.size)) + added).astype(old.dtype))


def _named_after(weight: str) -> str:
    return f"{weight.removesuffix('weight')}bias" if weight.endswith("weight") else f"{weight}_bias"


def _write(model: Model, edit: Edit, name: str, places: Sequence[tuple[int, int, Array]]) -> None:
    """Replace a tensor where all that read it want the same new one; give each its own otherwise."""
    users = sum(used == name for node in model.nodes for used in node.inputs)
    first = places[0][2]
    if users == len(places) and name not in model.kept and all(np.array_equal(first, array) for _, _, array in places):
        edit.replace(name, first)
        return
    for node, position, array in places:
        edit.connect(node, position, edit.add(name, array))
