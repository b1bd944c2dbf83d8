"""Which weights are masked: those that layers multiply with, by name and operator, each once however many read it.

Biases, norms and whatever no layer holds are never masked. Embeddings are, on request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from onnxprune.dependency import Analysis
from onnxprune.errors import UsageError
from onnxprune.layers import Layer, layers_of

__all__ = ["SKIPPED", "Target", "chosen", "skipped"]

SKIPPED = ("first", "last")


@dataclass(frozen=True, slots=True)
class Target:
    """One stored weight and the layers that multiply with it; it is masked in the form of the first."""

    weight: str
    layers: tuple[Layer, ...]

    @property
    def layer(self) -> Layer:
        """The layer whose form counts."""
        return self.layers[0]

    @property
    def alike(self) -> bool:
        """Whether all layers see the weight in one form."""
        own = self.layer
        return all((k.shape, k.moved, k.split, k.order) == (own.shape, own.moved, own.split, own.order)
                   for k in self.layers)  # fmt: skip


def skipped(texts: Sequence[str]) -> tuple[str, ...]:
    """The names in texts such as `first,last`."""
    return tuple(name.strip() for text in texts for name in text.split(","))


def chosen(
    analysis: Analysis,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    skip: Sequence[str] = (),
    embeddings: bool = False,
) -> tuple[Target, ...]:
    """The weights to mask, in the order of the graph.

    A pattern is met by the name of a layer or of its weight, or, written `op:MatMul`, by its operator; one that nothing
    meets is a `UsageError`. `skip` leaves out the `first` or the `last` layer of the graph, whatever else is said.
    """
    layers = layers_of(analysis, embeddings)
    for name in skip:
        if name not in SKIPPED:
            raise UsageError(f"--skip {name!r}: expected first, last, or first,last")
    wanted = [layer for layer in layers if not include or _met(layer, include)]
    for pattern in (*include, *exclude):
        if not any(_met(layer, [pattern]) for layer in layers):
            names = ", ".join(layer.name for layer in layers[:8])
            raise UsageError(
                f"the pattern {pattern!r} matches no layer, weight or op:TYPE of {analysis.model.source!r}; layers are "
                f"{names or 'none'}{', ...' if len(layers) > 8 else ''}"
            )
    ends = {"first": layers[:1], "last": layers[-1:]}
    left = {layer.weight for name in skip for layer in ends[name]}
    left |= {layer.weight for layer in layers if _met(layer, exclude)}
    weights = dict.fromkeys(layer.weight for layer in wanted if layer.weight not in left)
    return tuple(Target(name, tuple(layer for layer in layers if layer.weight == name)) for name in weights)


def _met(layer: Layer, patterns: Sequence[str]) -> bool:
    names = (layer.name, layer.weight, f"op:{layer.op_type}")
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)
