"""What a run may be fed with: symbolic dimensions, concrete shapes, and the range of integer inputs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from onnxprune.errors import ModelReadError, UsageError
from onnxprune.model.model import Model
from onnxprune.model.node import Node

__all__ = ["input_shapes", "parse_sizes", "symbol", "symbols", "vocabulary"]

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


def vocabulary(model: Model) -> dict[str, int]:
    """For each integer input that indexes a table of the model, the number of its rows (the smallest, if several)."""
    readers: dict[str, list[tuple[Node, int]]] = defaultdict(list)
    for node in model.nodes:
        for position, name in enumerate(node.inputs):
            readers[name].append((node, position))
    bounds: dict[str, int] = {}
    for info in model.inputs:
        if info.dtype.kind not in "iu":
            continue
        reached, seen = [info.name], set()
        while reached:
            name = reached.pop()
            seen.add(name)
            for node, position in readers[name]:
                if node.op_type in _PASSES_ON and position == 0:
                    reached.extend(set(node.outputs) - seen)
                elif node.op_type == "Gather" and position == 1 and node.inputs[0] in model.weights:
                    rows = model.weights[node.inputs[0]].shape[int(node.attributes.get("axis", 0))]
                    bounds[info.name] = min(rows, bounds.get(info.name, rows))
    return bounds
