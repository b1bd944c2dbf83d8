"""A latency model finds the coefficients that times were made of, at widths that can be had, and is remembered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxprune.allocators import Candidate, candidates
from onnxprune.calibration import Cache
from onnxprune.cost import Costs
from onnxprune.dependency import Analysis, analyse
from onnxprune.latency import latency_model, model
from onnxprune.latency.design import design
from onnxprune.latency.features import Features
from onnxprune.latency.fitting import fitted
from onnxprune.runtime.failure import RunFailed
from onnxprune.testing import build

TEXT = """
    x[N,3,8,8] -> y
    a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, A[32,3,3,3], a0[32]); ra = Relu(a)
    b = Conv<kernel_shape=[1,1]>(ra, B[64,32,1,1]); rb = Relu(b)
    m = GlobalAveragePool(rb); f = Flatten(m)
    y = Gemm(f, Y[64,5])
"""
FEED = {"x": np.ones((1, 3, 8, 8), np.float32)}


@given(st.lists(st.floats(0, 5), min_size=3, max_size=3), st.integers(0, 100))
def test_coefficients_are_found(truth: list[float], seed: int) -> None:
    """Times that are a sum of features give those coefficients back, zeros among them; none is ever negative."""
    features = np.random.default_rng(seed).uniform(0.1, 3, (12, 3))
    times = features @ np.array(truth)
    if times.min() > 1e-3:
        np.testing.assert_allclose(features @ fitted(features, times), times, rtol=1e-6)


def test_no_coefficient_is_negative() -> None:
    """Where less time for more work would fit best, the work is left out."""
    features = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    found = fitted(features, np.array([3.0, 2.0, 1.0]))
    assert found[1] == 0
    assert 1 < found[0] < 3


@given(st.integers(1, 20), st.integers(0, 50))
def test_a_design_can_be_had(number: int, seed: int) -> None:
    """Every count is a multiple of its step, or all, and at least the minimum; levels go from nearly nothing to all."""
    groups = [Candidate(0, "a", 64, 16, 1), Candidate(1, "b", 10, 4, 5, tied=(2,)), Candidate(3, "c", 6)]
    counts = design(groups, number, seed)
    assert len(counts) == number
    for one in counts:
        for candidate in groups:
            kept = one[candidate.atom]
            assert kept == candidate.size or kept % candidate.step == 0
            assert candidate.minimum <= kept <= candidate.size
        assert one[1] == one[2]
    if number >= 5:
        assert min(one[0] for one in counts) <= 32
        assert max(one[0] for one in counts) >= 48


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analyse(build(TEXT))


def test_features_are_those_of_one_sample(analysis: Analysis) -> None:
    """A convolution moves its input and output of one sample; what it multiplies counts in whole blocks."""
    convolution = next(n for n in analysis.model.nodes if n.inputs[1:2] == ("B",))
    starting, moving, squares, working = Features(analysis, 16).of(convolution.index)
    assert [term.value() for term in starting] == [1.0]
    assert sum(term.value() for term in moving) == pytest.approx((32 + 64) * 64 * 1e-6)
    assert sum(term.value() for term in squares) == pytest.approx((32**2 + 64**2) * 64**2 * 1e-12)
    atoms = {group.size: group.atom.id for group in analysis.groups}
    assert working[0].value() == pytest.approx(64 * 32 * 64 * 1e-6)
    assert working[0].value({atoms[32]: 17}) == working[0].value()
    assert working[0].value({atoms[32]: 16}) == pytest.approx(working[0].value() / 2)


def test_a_model_is_measured_once(analysis: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found is positive, falls with counts, says how far off it is, and comes from the cache the next time."""
    monkeypatch.setattr(model, "PROFILED", 4)
    monkeypatch.setattr(model, "PROFILE_MS", 0.01)
    monkeypatch.setattr(model, "WHOLE", 4)
    monkeypatch.setattr(model, "SESSION_MS", 0.01)
    chosen, cache = candidates(analysis, analysis.groups), Cache(tmp_path)
    told: list[str] = []
    found = latency_model(analysis, chosen, FEED, cache=cache, watch=lambda what, done, total: told.append(what))
    assert {"measure layers", "measure whole models"} <= set(told)
    assert found.base_ms > 0
    assert np.isfinite(found.error)
    assert found.error >= 0
    whole = found.predict({})
    least = found.predict({candidate.atom: 1 for candidate in chosen})
    assert 0 < least <= whole
    assert Costs.of(analysis).with_latency(found.terms).total("latency") == pytest.approx(whole)
    told.clear()
    assert latency_model(analysis, chosen, FEED, cache=cache, watch=lambda *step: told.append(step[0])) == found
    assert not told
    latency_model(analysis, chosen, FEED, cache=cache, seed=1, watch=lambda *step: told.append(step[0]))
    assert told  # another design is another measurement


def test_what_a_cut_adds_is_no_node_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean over a cut width is scaled by a node of its own; its time counts as between the model's nodes."""
    monkeypatch.setattr(model, "PROFILED", 2)
    monkeypatch.setattr(model, "PROFILE_MS", 0.01)
    monkeypatch.setattr(model, "WHOLE", 4)
    monkeypatch.setattr(model, "SESSION_MS", 0.01)
    of_means = analyse(
        build("""
        x[N,5,6] -> y
        h = MatMul(x, W[6,32]); s = Mul(h, h); m = ReduceMean<axes=[-1]>(s); r = Sqrt(m); n = Div(h, r)
        y = MatMul(n, V[32,4])
    """)
    )
    feed = {"x": np.ones((1, 5, 6), np.float32)}
    assert latency_model(of_means, candidates(of_means, of_means.groups), feed).predict({}) > 0


def test_a_model_that_does_not_run(analysis: Analysis) -> None:
    """The runtime's own words come through."""
    with pytest.raises(RunFailed):
        latency_model(analysis, candidates(analysis, analysis.groups), {"x": np.ones((1, 2, 8, 8), np.float32)})
