"""The table that tests what is dead: a graph, what is written into its weights, and what must go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from onnxprune import cut
from onnxprune.dependency import analyse
from onnxprune.lossless import Shrunk, shrink
from onnxprune.model import Array, Edit, Model, TensorInfo
from onnxprune.model.inputs import symbol, symbols
from onnxprune.runtime.comparison import compare, float_noise
from onnxprune.runtime.feeds import InputSpec, random_feeds
from onnxprune.runtime.session import Options, Session
from onnxprune.testing import build

Place = tuple[str, tuple[int | slice, ...], float | str]


@dataclass(frozen=True)
class Goes:
    """Into `text`, `planted` writes values: (weight, index, number), or the name of a weight to copy from at the same
    index's first entry replaced; see `plant`. `removed` is all that must be found, `sizes` the shapes after."""

    fact: str
    text: str
    planted: Sequence[tuple[str, object, object]]
    removed: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)
    beyond_plan: bool = False  # whether something goes that no group of the original has
    opset: int = 17


def each(cases: Sequence[Goes]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.fact.replace(" ", "-"))


def plant(model: Model, planted: Sequence[tuple[str, object, object]]) -> Model:
    """Write into weights: `("W", 3, 0.0)` sets W[3]; a pair `(axis, index)` sets that slice; a list sets several
    indices; where the value is a tuple `("like", i)`, the slice becomes that of index i."""
    arrays: dict[str, Array] = {}
    for name, where, value in planted:
        array = arrays.setdefault(name, model.array(name).copy())
        axis, indices = where if isinstance(where, tuple) else (0, where)
        moved = np.moveaxis(array, axis, 0)
        moved[indices] = moved[value[1]] if isinstance(value, tuple) else value
    edit = Edit(model)
    for name, array in arrays.items():
        edit.replace(name, array)
    return edit.done()


def run_both(before: Model, after: Model, batches: Sequence[int] = (1, 3)) -> float:
    """The largest error of one model against the other on random inputs; fails where it is more than noise."""
    where = symbols(before)
    feeds = []
    for batch in batches if where else batches[:1]:
        sizes = {name: batch if axis == 0 else 7 for name, (_, axis) in where.items()}
        feeds.append(random_feeds([_named(info) for info in before.inputs], sizes, seed=batch))
    runs = []
    for model, level in ((before, "all"), (before, "off"), (after, "all")):
        session = Session(model.to_bytes(), Options(optimise="all" if level == "all" else "off"))
        runs.append([session.run(feed) for feed in feeds])
    found = compare(runs[0], runs[2], float_noise(runs[0], runs[1]))
    assert found.passed, found.detail
    return found.max_error


def _named(info: TensorInfo) -> InputSpec:
    shape = [s if isinstance(s, int) and s > 0 else symbol(info.name, k, s) for k, s in enumerate(info.shape or ())]
    return InputSpec(info.name, info.dtype, tuple(shape))


def check(case: Goes) -> Shrunk:
    """What was planted goes, nothing else does, and the outputs are what they were."""
    model = plant(build(case.text, opset=case.opset), case.planted)
    found = shrink(analyse(model))
    run_both(model, found.model)
    assert dict(found.removed) == dict(case.removed), dict(found.removed)
    assert dict(found.left) == dict(case.left), dict(found.left)
    for name, shape in case.shapes.items():
        assert found.model.weights[name].shape == shape
    for name, info in cut.shrink(analyse(model), found.plan).weights.items():
        if name in found.model.weights and info.shape and not case.beyond_plan:
            assert found.model.weights[name].shape == info.shape, name
    return found
