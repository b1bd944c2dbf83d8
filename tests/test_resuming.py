"""A model that differs from another in some places is run from there on, and makes what it makes as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune import cut, resuming
from onnxprune.branches import branches_of, drop
from onnxprune.dependency import analyse
from onnxprune.model import Edit, Model
from onnxprune.model.segment import Segments
from onnxprune.plan import Plan
from onnxprune.resuming import Resuming
from onnxprune.runtime.session import Session
from onnxprune.testing import build

TWO = """
    x[N,6] -> y, z
    a = Gemm(x, A[6,8], B[8])
    r = Relu(a)
    y = Gemm(r, C[8,4], D[4])
    z = Gemm(r, E[8,3], F[3])
"""


def fed(model: Model, number: int = 2) -> list[dict[str, np.ndarray]]:
    """Batches of different sizes."""
    (info,) = model.inputs
    rng = np.random.default_rng(0)
    sizes = [n for n in (info.shape or ())[1:] if isinstance(n, int)]
    return [{info.name: rng.standard_normal((3 + k, *sizes)).astype(np.float32)} for k in range(number)]


def same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Outputs of one batch."""
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many nodes each piece had that was run."""
    counts: list[int] = []
    whole = Segments.model_of

    def counted(self: Segments, nodes: Any, *rest: Any) -> bytes:
        counts.append(len(nodes))
        return whole(self, nodes, *rest)

    monkeypatch.setattr(Segments, "model_of", counted)
    return counts


def test_only_what_lies_behind_a_change_is_run(ran: list[int]) -> None:
    """One output is the original's, and is not computed again; what lies in front is run once for all that follow."""
    model = build(TWO)
    runs, batches = Resuming(analyse(model), fed(model)), fed(model)
    for factor in (2, 3):
        edit = Edit(model)
        edit.replace("E", factor * model.array("E"))
        other = edit.done()
        for found, batch in zip(runs.outputs(other), batches, strict=True):
            same(found, Session(other.to_bytes()).run(batch))
    assert ran == [3, 1, 1]  # what the change reads and the other output, then the changed layer alone


def test_a_change_in_front_of_all_is_run_as_a_whole(ran: list[int]) -> None:
    """Nothing is left to resume; nor where what lies in front is too large to be kept."""
    model = build(TWO)
    runs = Resuming(analyse(model), fed(model))
    edit = Edit(model)
    edit.replace("A", -model.array("A"))
    for found, batch in zip(runs.outputs(edit.done()), fed(model), strict=True):
        same(found, Session(edit.done().to_bytes()).run(batch))
    assert not ran


def test_what_is_too_large_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is run as a whole then."""
    monkeypatch.setattr(resuming, "HELD", 16)
    model = build(TWO)
    edit = Edit(model)
    edit.replace("E", 2 * model.array("E"))
    for found, batch in zip(Resuming(analyse(model), fed(model)).outputs(edit.done()), fed(model), strict=True):
        same(found, Session(edit.done().to_bytes()).run(batch))


@pytest.mark.parametrize("name", ["cifar10_resnet20", "cifar10_mlperf_resnet8_int8_qdq", "ad01_autoencoder"])
def test_every_group_masked_in_turn(models: Path, name: str) -> None:
    """Floats and integers, in any order of the groups."""
    analysis = analyse(Model.load(models / f"{name}.onnx"))
    runs, batches = Resuming(analysis, fed(analysis.model)), fed(analysis.model)
    groups = [*analysis.groups[-3:], *analysis.groups[:3]]
    for group in groups:
        masked = cut.mask(analysis, Plan.of(analysis.groups, {group.atom.id: np.arange(group.size) % 2 == 0}))
        session = Session(masked.to_bytes())
        for found, batch in zip(runs.outputs(masked), batches, strict=True):
            same(found, session.run(batch))


def test_a_model_of_other_nodes(models: Path) -> None:
    """Without a branch: nodes are missing, and those behind read others."""
    analysis = analyse(Model.load(models / "cifar10_resnet20.onnx"))
    other = drop(analysis, branches_of(analysis)[5:6])
    runs, session = Resuming(analysis, fed(analysis.model)), Session(other.to_bytes())
    for found, batch in zip(runs.outputs(other), fed(analysis.model), strict=True):
        same(found, session.run(batch))
