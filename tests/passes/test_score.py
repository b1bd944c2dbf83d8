"""The pass `score` gives each criterion what it asks for, and prune carries it through."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnxprune.criteria import CRITERIA
from onnxprune.data import Samples
from onnxprune.dependency import analyse
from onnxprune.errors import UsageError
from onnxprune.passes.score import Score
from onnxprune.testing import build
from onnxprune.unit import Unit
from tests.criteria.measured import CONV, samples

ASKING = sorted(name for name, criterion in CRITERIA.items() if criterion.data in ("samples", "runs"))


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Unit:
    monkeypatch.setenv("ONNXPRUNE_CACHE", str(tmp_path))
    model = build(CONV)
    analysis = analyse(model)
    data = Samples("here", samples(model, 12), np.arange(12) % 3)
    return Unit(source=model, analysis=analysis, candidates=analysis.groups, samples=data)


@pytest.mark.parametrize("criterion", ASKING)
def test_a_criterion_is_given_what_it_asks_for(criterion: str, unit: Unit) -> None:
    """Every group has a finite score for each of its indices, and somebody who watches is told something."""
    told: list[str] = []
    found = Score(criterion=criterion).run(replace(unit, watch=lambda what, done, total: told.append(what))).scores
    assert found is not None
    assert unit.analysis is not None
    for group in unit.analysis.groups:
        assert found.values[group.atom.id].shape == (group.size,)
        assert np.isfinite(found.values[group.atom.id]).all()
    assert told


@pytest.mark.parametrize("criterion", ASKING)
def test_without_samples_it_is_said_what_to_give(criterion: str, unit: Unit) -> None:
    """No criterion makes up data of its own."""
    with pytest.raises(UsageError, match="--calibration"):
        Score(criterion=criterion).run(replace(unit, samples=None))
