"""Whatever was masked or copied in a generated graph is found again, and no output changes."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune import cut
from onnxprune.dependency import Analysis, Group, analyse
from onnxprune.lossless import shrink
from onnxprune.lossless.finding import positions_of
from onnxprune.model import Array, Edit, Model
from onnxprune.plan import Plan
from onnxprune.rules.facts import Reads
from onnxprune.testing import build, random_keep
from onnxprune.weights import parameters
from tests.lossless.tables import run_both
from tools import mutate


@pytest.mark.parametrize("seed", range(40))
def test_what_a_mask_silences_goes(seed: int) -> None:
    """Shrinking the masked model reaches what the plan itself reaches; only what the mask multiplies with is more."""
    analysis = analyse(build(mutate.graph(seed)))
    plan = Plan.of(analysis.groups, random_keep(analysis.groups, seed))
    masked = cut.mask(analysis, plan)
    found = shrink(analyse(masked))
    factors = sum(info.nbytes for name, info in masked.weights.items() if name.endswith("__keep"))
    assert parameters(found.model) <= parameters(cut.shrink(analysis, plan)) + factors
    run_both(masked, found.model)


def producing(analysis: Analysis, group: Group) -> list[tuple[str, int, Array]]:
    """The weights' axes that make a group's indices, and where on the axis each index is."""
    read = {(analysis.model.nodes[s.node].inputs[s.fact.operand], s.fact.axis) for s in analysis.notes(Reads)
            if isinstance(s.fact, Reads)}  # fmt: skip
    found = []
    for site in group.sites:
        places = positions_of(site.dim, group.atom)
        assert places is not None
        if (site.tensor, site.axis) not in read:
            found.append((site.tensor, site.axis, places))
    return found


def planted(analysis: Analysis, seed: int) -> Model:
    """Of every group, in whatever makes it, index 0 is written over the last one; the middle one becomes zero."""
    arrays: dict[str, Array] = {}
    random = np.random.default_rng(seed)
    for group in analysis.groups:
        copies = random.integers(2)
        for tensor, axis, places in producing(analysis, group):
            if analysis.model.weights[tensor].dtype.kind != "f":
                continue
            array = arrays.setdefault(tensor, analysis.model.array(tensor).copy())
            rows = np.moveaxis(array, axis, 0)
            if copies:
                rows[places[-1]] = rows[places[0]]
            elif tensor.startswith("W") and array.ndim > 1:
                rows[places[group.size // 2]] = 0
    edit = Edit(analysis.model)
    for name, array in arrays.items():
        edit.replace(name, array)
    return edit.done()


def test_what_is_planted_is_found() -> None:
    """Most of it: what padding, gates of other groups and the like keep apart stays, and says why."""
    found: dict[str, int] = {}
    groups = 0
    for seed in range(40):
        analysis = analyse(build(mutate.graph(seed)))
        groups += len(analysis.groups)
        model = planted(analysis, seed)
        shrunk = shrink(analyse(model))
        run_both(model, shrunk.model)
        for kind, number in shrunk.removed.items():
            found[kind] = found.get(kind, 0) + number
    assert sum(found.values()) > 0.5 * groups, (found, groups)
    assert found["duplicate"] > 0
    assert found["constant"] > 0
    assert found["zero"] > 0
