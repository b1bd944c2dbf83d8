"""Criteria that run the model: each against masked models, or against slopes that are written down by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from onnxprune import cut
from onnxprune.criteria import Evidence, loss_based, score
from onnxprune.data import Samples
from onnxprune.dependency import Analysis, analyse
from onnxprune.dimensions import Vector
from onnxprune.divergence import divergence_of
from onnxprune.errors import UsageError
from onnxprune.model import Array
from onnxprune.plan import Plan
from onnxprune.runtime.session import Session
from onnxprune.testing import build
from tests.criteria.measured import MODELS, samples

NAMES = ("forward", "fisher", "spsa")
CLASSES = "x[N,6] -> y; a = Gemm(x, A[6,8], B[8]); b = Relu(a); y = Gemm(b, C[8,4])"
CHANCES = f"{CLASSES.replace('y = Gemm', 'z = Gemm')}; y = Softmax(z)"
MAPS = """
    x[N,3,5,5] -> y
    a = Conv(x, A[6,3,3,3], B[6]); b = Relu(a); y = Conv(b, C[4,6,1,1])
"""


def evidence(text: str, labels: Array | None = None, seed: int = 0, count: int = 24) -> tuple[Evidence, Samples]:
    model = build(text)
    analysis = analyse(model)
    found = Samples("here", samples(model, count), labels)
    return Evidence(analysis, seed=seed, labels=labels, divergence=divergence_of(analysis, found)), found


def masked(analysis: Analysis, keep: Mapping[int, Array], found: Samples) -> Array:
    model = cut.mask(analysis, Plan.of(analysis.groups, keep))
    return np.asarray(Session(model.to_bytes()).run(found.arrays)["y"], np.float64)


def log_softmax(values: Array) -> Array:
    shifted = values - values.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


@pytest.mark.parametrize(("text", "measure"), [(CLASSES, "KL"), (CHANCES, "KL"), (MAPS, "relative")])
def test_forward_is_the_divergence_of_the_masked_model(text: str, measure: str) -> None:
    """The mean divergence between classes, or the relative change, of the model in which that index is silent."""
    found, data = evidence(text)
    analysis = found.analysis
    scores = score(found, "forward")
    assert found.divergence is not None
    assert found.divergence.measure == measure  # type: ignore[attr-defined]
    assert found.divergence({}) == 0
    (group,) = analysis.groups
    before = masked(analysis, {}, data)
    expected = []
    for index in range(group.size):
        after = masked(analysis, {group.atom.id: np.arange(group.size) != index}, data)
        if text == CLASSES:
            p, q = log_softmax(before), log_softmax(after)
        elif text == CHANCES:
            p, q = np.log(before), np.log(after)
        if measure == "KL":
            expected.append(float(np.sum(np.exp(p) * (p - q), axis=-1).mean()))
        else:
            expected.append(float(np.sqrt(np.mean((after - before) ** 2) / np.mean(before**2))))
    np.testing.assert_allclose(scores.values[group.atom.id], np.array(expected) / np.mean(expected), rtol=1e-3)


def slopes(found: Evidence, data: Samples, labels: Array) -> Array:
    """The derivative of each sample's cross-entropy by the gate of each hidden unit, by the chain rule."""
    model = found.analysis.model
    a, b, c = (model.array(name).astype(np.float64) for name in "ABC")
    hidden = np.maximum(data.arrays["x"] @ a + b, 0)
    error = np.exp(log_softmax(hidden @ c))
    error[np.arange(len(labels)), labels] -= 1
    return np.asarray((error @ c.T) * hidden)


def test_fisher_is_the_mean_squared_slope() -> None:
    """Of the cross-entropy of the labels, by differences and by the chain rule."""
    labels = np.random.default_rng(3).integers(0, 4, 24)
    found, data = evidence(CLASSES, labels)
    expected = np.square(slopes(found, data, labels)).mean(axis=0)
    (values,) = score(found, "fisher").values.values()
    np.testing.assert_allclose(values, expected / expected.mean(), rtol=0.05)


@pytest.mark.parametrize(("directions", "least"), [(8, 0.999), (16, 0.999), (4, 0.7)])
def test_spsa_comes_close_to_fisher(directions: int, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many directions as indices, or more, it is the mean squared slope; with fewer it comes close."""
    monkeypatch.setattr(loss_based, "DIRECTIONS", directions)
    monkeypatch.setattr(loss_based, "PARTS", 24)
    labels = np.random.default_rng(3).integers(0, 4, 24)
    found, data = evidence(CLASSES, labels)
    expected = np.square(slopes(found, data, labels)).mean(axis=0)
    (values,) = score(found, "spsa").values.values()
    assert np.corrcoef(values, expected)[0, 1] > least


def test_labels_that_are_not_given_are_drawn_from_the_outputs() -> None:
    """Once, by the seed: the losses are cross-entropies of classes, and their mean is about the entropy."""
    found, data = evidence(CLASSES, count=2000)
    divergence = divergence_of(found.analysis, data, most=2000)
    losses = divergence.losses({})
    p = log_softmax(masked(found.analysis, {}, data))
    entropy = -np.sum(np.exp(p) * p, axis=1).mean()
    assert all(np.isclose(p[n], -losses[n], atol=1e-4).any() for n in range(50))
    assert losses.mean() == pytest.approx(entropy, rel=0.15)
    assert divergence_of(found.analysis, data, most=100).each({}).shape == (100,)


@pytest.mark.parametrize("criterion", NAMES)
@pytest.mark.parametrize("text", [CLASSES, MAPS, MODELS["merged"], MODELS["attention"]])
def test_scores_can_be_compared(criterion: str, text: str) -> None:
    """Every group has scores, their mean over the model is one, and equal seeds give equal ones."""
    first, again = (score(evidence(text, seed=4)[0], criterion) for _ in range(2))
    assert not first.missing
    assert np.concatenate(list(first.values.values())).mean() == pytest.approx(1)
    for atom, values in first.values.items():
        assert (values >= 0).all()
        np.testing.assert_array_equal(values, again.values[atom])


@pytest.mark.parametrize("criterion", ["forward", "fisher"])
def test_a_large_model_is_measured_more_coarsely(criterion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are bounded, whatever the size: neighbours in magnitude share what was measured of them together."""
    monkeypatch.setattr(loss_based, "MOST", 4)
    found, _ = evidence(CLASSES)
    assert found.divergence is not None
    before = found.divergence.runs  # type: ignore[attr-defined]
    (values,) = score(found, criterion).values.values()
    assert found.divergence.runs - before <= 4  # type: ignore[attr-defined]
    assert len(set(values)) == (4 if criterion == "forward" else 2)


def test_without_runs_there_is_nothing_to_say() -> None:
    """The error says what to give."""
    analysis = analyse(build(CLASSES))
    with pytest.raises(UsageError, match="--calibration"):
        score(Evidence(analysis), "forward")


def test_progress_is_told() -> None:
    """Whoever watches is told of every run."""
    analysis = analyse(build(CLASSES))
    seen: list[str] = []
    data = Samples("here", samples(analysis.model, 4))
    divergence = divergence_of(analysis, data, watch=lambda what, done, total: seen.append(what))
    gates: dict[int, Vector] = {}
    divergence(gates)
    assert len(seen) == divergence.runs == 2
