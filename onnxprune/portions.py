"""How many samples are run at once: as many as are of use, and as fit into memory.

More than a few dozen at once make nothing faster, and what a network for large images makes of each of them at its
widest place is megabytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np

from onnxprune.analysis import Analysis
from onnxprune.model import Node

__all__ = ["FEWEST", "there", "there_and_back"]

FEWEST = 4  # samples that are run at once, whatever they take
WIDEST = 96 << 20  # bytes of what one node reads and makes
HELD = 128 << 20  # bytes of all that is made on the way there; slopes and unfolded patches take a few times as much


def there(analysis: Analysis, most: int) -> int:
    """At most so many samples for a run from inputs to outputs: a runtime holds what a node reads and makes."""
    widest = max((_bytes(analysis, (*node.inputs, *node.outputs)) for node in _nodes(analysis)), default=0)
    return _within(WIDEST, widest, analysis, most)


def there_and_back(analysis: Analysis, most: int) -> int:
    """At most so many samples for slopes: on the way back all that was made on the way there is still needed."""
    return _within(HELD, _bytes(analysis, [name for node in _nodes(analysis) for name in node.outputs]), analysis, most)


def _nodes(analysis: Analysis) -> list[Node]:
    return [node for node in analysis.model.nodes if node.within is None]


def _bytes(analysis: Analysis, names: Iterable[str]) -> int:
    """Of the floats among these tensors, constants aside, at the sizes of the analysis."""
    shapes, dtypes, weights = analysis.shapes.shape, analysis.shapes.dtype, analysis.model.weights
    return sum(
        4 * prod(shapes[name] or ())
        for name in dict.fromkeys(names)
        if name in shapes and name not in weights and dtypes.get(name) == np.float32
    )


def _within(limit: int, found: int, analysis: Analysis, most: int) -> int:
    batch = next((shape[0] for info in analysis.model.inputs if (shape := analysis.shapes.shape.get(info.name))), 1)
    return max(FEWEST, min(most, int(limit * batch / max(found, 1))))
