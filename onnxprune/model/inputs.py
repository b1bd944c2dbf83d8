"""What a run may be fed with: symbolic dimensions, concrete shapes, and the range of integer inputs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from onnxprune.errors import ModelReadError, UsageError
from onnxprune.model.model import Model
from onnxprune.model.node import Node

__all__ = ["input_shapes", "parse_sizes", "switches", "symbol", "symbols", "vocabulary"]

_COMPARES = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
_PASSES_ON = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def symbols(model: Model) -> dict[str, tuple[str, int]]:
    """The symbolic dimensions of the model's inputs: name (or `input.axis` where it has none) -> (input, axis)."""
    found: dict[str, tuple[str, int]] = {}
    for info in model.inputs:
        for axis, size in enumerate(info.shape or ()):
            if not isinstance(size, int) or size <= 0:
                found.setdefault(symbol(info.name, axis, size), (info.name, axis))
    return found


def symbol(name: str, axis: int, size: int | str | None) -> str:
    """The name of a symbolic dimension."""
    return size if isinstance(size, str) and size else f"{name}.{axis}"


def parse_sizes(texts: Sequence[str]) -> dict[str, int]:
    """Example sizes of symbolic dimensions from texts such as `height=320`; `UsageError` for anything else."""
    sizes: dict[str, int] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        if not name or not number.isdigit() or int(number) < 1:
            raise UsageError(f"--size {text!r}: expected NAME=N with a positive number")
        sizes[name] = int(number)
    return sizes


def input_shapes(model: Model, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The shape of every input with `sizes` for its symbolic dimensions; `ModelReadError` where none is declared."""
    shapes = {}
    for info in model.inputs:
        if info.shape is None:
            raise ModelReadError(
                f"input {info.name!r} of {model.source!r} declares no shape, so nothing can be fed to it"
            )
        shapes[info.name] = tuple(
            size if isinstance(size, int) and size > 0 else sizes[symbol(info.name, axis, size)]
            for axis, size in enumerate(info.shape)
        )
    return shapes


def switches(model: Model) -> dict[str, tuple[int, ...]]:
    """For each input of one number that is compared with constants, numbers on every side; both of a truth value."""
    readers = _readers(model)
    found: dict[str, tuple[int, ...]] = {}
    for info in model.inputs:
        if info.dtype.kind not in "biu" or info.shape is None or any(size != 1 for size in info.shape):
            continue
        values: set[int] = {0, 1} if info.dtype.kind == "b" else set()
        for node, position in _reached(info.name, readers, {*_PASSES_ON, "Gather"}):
            if node.op_type in _COMPARES:
                other = model.weights.get(node.inputs[1 - position])
                if other is not None and math.prod(other.shape) == 1:
                    number = int(model.array(other.name).item())
                    values.update((number,) if node.op_type == "Equal" else (number - 1, number, number + 1))
        if values:
            found[info.name] = tuple(sorted(values))
    return found


def vocabulary(model: Model) -> dict[str, int]:
    """For each integer input that indexes a table of the model, the number of its rows (the smallest, if several)."""
    readers = _readers(model)
    bounds: dict[str, int] = {}
    for info in model.inputs:
        if info.dtype.kind not in "iu":
            continue
        for node, position in _reached(info.name, readers, _PASSES_ON):
            if node.op_type == "Gather" and position == 1 and node.inputs[0] in model.weights:
                rows = model.weights[node.inputs[0]].shape[int(node.attributes.get("axis", 0))]
                bounds[info.name] = min(rows, bounds.get(info.name, rows))
    return bounds


def _readers(model: Model) -> dict[str, list[tuple[Node, int]]]:
    readers: dict[str, list[tuple[Node, int]]] = defaultdict(list)
    for node in model.nodes:
        for position, name in enumerate(node.inputs):
            readers[name].append((node, position))
    return readers


def _reached(
    name: str, readers: Mapping[str, Sequence[tuple[Node, int]]], through: Collection[str]
) -> Iterator[tuple[Node, int]]:
    """Every node that reads a tensor, or what it becomes behind the operators `through`, and as which input."""
    reached, seen = [name], {name}
    while reached:
        for node, position in readers.get(reached.pop(), ()):
            yield node, position
            if node.op_type in through and position == 0:
                reached.extend(set(node.outputs) - seen)
                seen.update(node.outputs)
