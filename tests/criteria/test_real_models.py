"""Every criterion on every model of models/, with made-up statistics of the shapes that it asks for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from onnxprune.criteria import CRITERIA, Evidence, score
from onnxprune.dependency import Analysis, analyse
from onnxprune.model import Array, Model
from onnxprune.statistics import Gram, GramMatrix, IndexMoments, Maps, Moments, Pooled, Request, Statistics

SAMPLES = 24
SAY_LITTLE = {"hrank", "bn-scale"}  # where an index has no maps, and where no layer with a bias makes it
MODELS = ("ad01_autoencoder", "cifar10_mlperf_resnet8_int8_qdq", "cifar10_resnet20", "cifar10_resnet20_bn", "kws_dscnn")


def made_up(analysis: Analysis, requests: Iterable[Request]) -> Statistics:
    """Random answers, a third of them zeros."""
    answers: dict[Request, IndexMoments | GramMatrix | Array] = {}
    generator = np.random.default_rng(0)
    for request in dict.fromkeys(requests):
        assert not isinstance(request, Gram)
        dims = analysis.dims(request.tensor)
        rest = [min(dim.size, 6) for k, dim in enumerate(dims) if k not in (0, request.axis % len(dims))]
        values = np.maximum(generator.normal(0.5, 1, size=(SAMPLES, dims[request.axis].size, *rest)), 0)
        flat = values.swapaxes(0, 1).reshape(values.shape[1], -1)
        if isinstance(request, Moments):
            zeros = np.sum(flat == 0, axis=1).astype(np.float64)
            answers[request] = IndexMoments(
                flat.shape[1], flat.sum(1), flat.sum(1), np.square(flat).sum(1), zeros, flat.max(1)
            )
        elif isinstance(request, Pooled):
            answers[request] = values.reshape(*values.shape[:2], -1).mean(axis=2)
        else:
            assert isinstance(request, Maps)
            answers[request] = values[: request.samples].astype(np.float32)
    return Statistics(answers, samples=SAMPLES)


@pytest.mark.parametrize("name", MODELS)
def test_every_criterion_has_a_say(models: Path, name: str) -> None:
    """Finite scores of the right size, never below zero, and equal for equal evidence."""
    analysis = analyse(Model.load(models / f"{name}.onnx"))
    for criterion in CRITERIA.values():
        requests = list(criterion.needs(analysis))
        if criterion.data not in ("weights", "samples") or any(isinstance(request, Gram) for request in requests):
            continue
        evidence = Evidence(analysis, made_up(analysis, requests), labels=np.arange(SAMPLES) % 3)
        scores, again = score(evidence, criterion.name), score(evidence, criterion.name)
        assert criterion.name in SAY_LITTLE or not scores.missing, criterion.name
        for group in analysis.groups:
            if group.name not in scores.missing:
                values = scores.values[group.atom.id]
                assert values.shape == (group.size,)
                assert np.isfinite(values).all()
                assert values.min() >= -1e-6, (criterion.name, group.name)
                np.testing.assert_array_equal(values, again.values[group.atom.id])
