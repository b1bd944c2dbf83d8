"""Criteria of weights and of weights with their inputs, each computed a second time, one index or weight at a time."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.criteria import CRITERIA, Evidence, score
from onnxprune.criteria.redundancy import leaving
from onnxprune.criteria.vectors import members
from onnxprune.dependency import Analysis, Group, analyse
from onnxprune.layers import Layer, layers_of
from onnxprune.model import Array, Edit
from onnxprune.testing import build
from onnxprune.weights import Weights
from tests.criteria.naive import evidence, from_the_end, goes_with, one_by_one, samples, tensors_of
from tests.criteria.nets import NETS, net


def slices(analysis: Analysis, group: Group) -> list[list[Array]]:
    """At each site of rank two or more, the signed weights that go with each index."""
    found = []
    for site in group.sites:
        weight = Weights(analysis.model).real(site.tensor).astype(np.float64)
        if weight.ndim > 1:
            taken = goes_with(analysis, group, site.tensor, site.axis)
            found.append([np.take(weight, index, site.axis).swapaxes(0, site.axis).ravel() for index in taken])
    return found


@pytest.mark.parametrize("name", NETS)
def test_what_goes_with_an_index_is_what_masks_take(name: str) -> None:
    """In the order of the axis, for every site."""
    analysis = net(name)
    for group in analysis.groups:
        for site in group.sites:
            expected = goes_with(analysis, group, site.tensor, site.axis)
            assert members(site.dim, group.atom).tolist() == expected


@pytest.mark.parametrize("name", NETS)
def test_geometric_median(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of distances between points, in blocks of any size; each site over its mean, and the mean over sites."""
    analysis = net(name)
    scores = score(Evidence(analysis), "fpgm")
    monkeypatch.setattr("onnxprune.criteria.geometric_median.ROWS", 2)
    blocks = score(Evidence(analysis), "fpgm")
    for group in analysis.groups:
        votes = []
        for points in slices(analysis, group):
            sums = np.array([sum(float(np.linalg.norm(a - b)) for b in points) for a in points])
            votes.append(sums / sums.mean())
        np.testing.assert_allclose(scores.values[group.atom.id], np.mean(votes, axis=0), rtol=1e-6)
        np.testing.assert_allclose(blocks.values[group.atom.id], scores.values[group.atom.id], rtol=1e-9)


@pytest.mark.parametrize("name", NETS)
def test_similar_indices_leave_one_by_one(name: str) -> None:
    """The mean over sites of the cosines, and the lighter one of the most alike pair goes."""
    analysis = net(name)
    scores = score(Evidence(analysis), "similarity")
    for group in analysis.groups:
        matrices, weight = [], np.zeros(group.size)
        for points in slices(analysis, group):
            norms = np.array([np.linalg.norm(a) for a in points])
            matrices.append([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in points] for a in points])
            weight += norms / norms.mean()
        expected = one_by_one(np.mean(matrices, axis=0), weight)
        np.testing.assert_allclose(scores.values[group.atom.id], expected, atol=1e-5)


def test_of_twins_one_stays() -> None:
    """Three filters on one line: the two smaller ones go, the largest stays to the end; a zero goes before all."""
    points = np.array([[1.0, 2, 0], [3, 6, 0], [0, 1, 5], [2, 4, 0], [0, 0, 0]])
    norms = np.linalg.norm(points, axis=1)
    cosines = points @ points.T / np.maximum(np.outer(norms, norms), 1e-9)
    cosines[4] = cosines[:, 4] = 1
    found = leaving(cosines, norms)
    np.testing.assert_allclose(found[[0, 3, 4]], 0, atol=1e-6)
    assert found[1] < found[2] == 1 or found[2] < found[1] == 1
    np.testing.assert_allclose(found, one_by_one(cosines, norms), atol=1e-6)


@pytest.mark.parametrize("name", NETS)
def test_lamp_is_a_share(name: str) -> None:
    """Squares over the sum of squares that are no smaller, at each site; the mean over sites, and nothing divided."""
    analysis = net(name)
    scores = score(Evidence(analysis), "lamp")
    for group in analysis.groups:
        votes = []
        for points in slices(analysis, group):
            squares = np.array([float(a @ a) for a in points])
            votes.append([square / squares[squares >= square].sum() for square in squares])
        np.testing.assert_allclose(scores.values[group.atom.id], np.mean(votes, axis=0), rtol=1e-5)


def rms(analysis: Analysis, layer: Layer, feeds: dict[str, Array]) -> Array:
    """The root mean square of every input of a layer."""
    data = tensors_of(analysis, feeds, {layer.data})[layer.data].astype(np.float64)
    axis = from_the_end(analysis, layer.data, layer.data_axis)
    return np.asarray(np.sqrt(np.square(np.moveaxis(data, axis, 0).reshape(data.shape[axis], -1)).mean(axis=1)))


@pytest.mark.parametrize("name", NETS)
def test_wanda_of_elements(name: str) -> None:
    """|w| x the root mean square of the one input that it meets, weight by weight."""
    analysis = net(name)
    feeds = samples(analysis, 8)
    found = evidence(analysis, "wanda", feeds)
    judge = CRITERIA["wanda"].elements
    assert judge is not None
    for layer in found.layers:
        weights = layer.matrix(found.weights.real(layer.weight))
        inputs = rms(analysis, layer, feeds)
        scores = judge(layer, weights, found)
        assert scores.shape == weights.shape
        for g, o, i, k in np.ndindex(*weights.shape):
            expected = abs(weights[g, o, i, k]) * inputs[g * weights.shape[2] + i]
            assert scores[g, o, i, k] == pytest.approx(expected, rel=1e-5)
        np.testing.assert_array_equal(judge(layer, weights, Evidence(analysis)), np.abs(weights))


@pytest.mark.parametrize("name", NETS)
def test_wanda_of_indices(name: str) -> None:
    """The root of the squared scores of all weights that read an index; those that make it have no say."""
    analysis = net(name)
    feeds = samples(analysis, 8)
    found = evidence(analysis, "wanda", feeds)
    scores = score(found, "wanda")
    for group in analysis.groups:
        votes = []
        for layer in found.layers:
            taken = goes_with(analysis, group, layer.data, layer.data_axis)
            if any(taken):
                weights, inputs = layer.matrix(found.weights.real(layer.weight)), rms(analysis, layer, feeds)
                each = np.concatenate(list(np.square(weights).sum(axis=(1, 3)))) * np.square(inputs)
                vote = np.array([np.sqrt(each[index].sum()) for index in taken])
                votes.append(vote / vote.mean())
        if votes:
            np.testing.assert_allclose(scores.values[group.atom.id], np.mean(votes, axis=0), rtol=1e-5)
        else:
            assert group.name in scores.missing
    assert scores.missing == (("Q#2",) if name == "attention" else ())  # the width of a score is read by no layer


def test_wanda_where_one_input_meets_many_weights() -> None:
    """A batched weight reads the same data in each of its parts: its inputs are not groups x inputs."""
    analysis = analyse(build("x[N,1,3,4] -> y; h = MatMul(x, W[2,4,6]); r = Relu(h); y = MatMul(r, V[2,6,5])"))
    feeds = samples(analysis, 8)
    found = evidence(analysis, "wanda", feeds)
    judge = CRITERIA["wanda"].elements
    assert judge is not None
    for layer in found.layers:
        weights = layer.matrix(found.weights.real(layer.weight))
        expected = np.abs(weights) * rms(analysis, layer, feeds)[:, None]
        np.testing.assert_allclose(judge(layer, weights, found), expected, rtol=1e-5)
    (values,) = score(found, "wanda").values.values()
    second = found.layers[1]
    each = np.abs(found.weights.real("V")) * rms(analysis, second, feeds)[:, None]
    norms = np.sqrt(np.square(each).sum(axis=(0, 2)))
    np.testing.assert_allclose(values, norms / norms.mean(), rtol=1e-5)


OF_WEIGHTS = [name for name, c in CRITERIA.items() if c.elements is not None and c.data == "weights"]


@pytest.mark.parametrize("criterion", [*OF_WEIGHTS, "wanda"])
def test_elements_are_judged_in_the_shape_of_the_layer(criterion: str) -> None:
    """Of every layer of every net; never below zero, and as finite as the weights."""
    judge = CRITERIA[criterion].elements
    assert judge is not None
    for name in NETS:
        analysis = net(name)
        weights = Weights(analysis.model)
        for layer in layers_of(analysis):
            matrix = layer.matrix(weights.real(layer.weight))
            scores = judge(layer, matrix, Evidence(analysis))
            assert scores.shape == layer.shape
            assert np.isfinite(scores).all()
            assert scores.min() >= 0


def test_elements_of_the_norms_and_of_lamp() -> None:
    """Worked out by hand."""
    analysis = analyse(build("x[N,2] -> y; h = MatMul(x, W{0.0,-2.0,1.0,3.0}[2,2]); y = MatMul(h, V[2,3])"))
    layer = layers_of(analysis)[0]
    matrix = layer.matrix(analysis.model.array("W"))
    expected: dict[str, list[float]] = {
        "l0": [0, 1, 1, 1],
        "l1": [0, 2, 1, 3],
        "l2": [0, 4, 1, 9],
        "linf": [0, 2, 1, 3],
        "lamp": [0, 4 / 13, 1 / 14, 1],
    }
    for name, values in expected.items():
        judge = CRITERIA[name].elements
        assert judge is not None
        found = layer.stored(judge(layer, matrix, Evidence(analysis)))
        np.testing.assert_allclose(found, np.reshape(values, (2, 2)), rtol=1e-6, err_msg=name)


TWICE = {
    "normed": """
        x[N,3,6,6] -> y
        a = Conv<kernel_shape=[1,1]>(x, W[5,3,1,1])
        b = BatchNormalization(a, S{0.5,2.0,-1.0,0.1,1.5}, T{0.1,0.2,0.3,0.4,0.5}, M[5], Q{4.0,0.2,1.0,2.0,0.5})
        c = Relu(b); y = Conv<kernel_shape=[1,1]>(c, V[2,5,1,1])
    """,
    "folded": """
        x[N,3,6,6] -> y
        b = Conv<kernel_shape=[1,1]>(x, W[5,3,1,1], B[5])
        c = Relu(b); y = Conv<kernel_shape=[1,1]>(c, V[2,5,1,1])
    """,
}


def test_a_folded_norm_is_measured() -> None:
    """What a norm makes has the deviation |gamma| on the data that it was trained on; so has the folded layer's output.

    The statistics of the norm are set to those of its input, as training does; then it is folded into the layer.
    """
    normed, folded = (build(text) for text in TWICE.values())
    feeds = samples(analyse(normed), 16)
    made = tensors_of(analyse(normed), feeds, {"a"})["a"].astype(np.float64)
    mean, variance = made.mean(axis=(0, 2, 3)), made.var(axis=(0, 2, 3))
    gamma, beta = normed.array("S").astype(np.float64), normed.array("T")
    factor = gamma / np.sqrt(variance + 1e-5)
    values = {
        "W": normed.array("W") * factor[:, None, None, None],
        "B": beta - mean * factor,
    }
    edit = Edit(folded)
    for name, array in values.items():
        edit.replace(name, array.astype(np.float32))
    analysis = analyse(edit.done())
    expected = score(Evidence(analyse(normed)), "bn-scale")
    found = score(evidence(analysis, "bn-scale", feeds), "bn-scale")
    (one,), (other,) = expected.values.values(), found.values.values()
    np.testing.assert_allclose(one, np.abs(gamma) / np.abs(gamma).mean(), rtol=1e-6)
    np.testing.assert_allclose(other, one, rtol=1e-3)
    assert score(Evidence(analysis), "bn-scale").missing == ("W",)
    assert not list(CRITERIA["bn-scale"].needs(analyse(normed)))  # what has a norm is not measured


def test_chance_of_elements_follows_the_seed() -> None:
    """Another seed is another choice, the same seed the same one."""
    analysis = analyse(build("x[N,4] -> y; h = MatMul(x, W[4,6]); y = MatMul(h, V[6,3])"))
    judge = CRITERIA["random"].elements
    assert judge is not None
    layer = layers_of(analysis)[0]
    matrix = layer.matrix(analysis.model.array("W"))
    first, again, other = (judge(layer, matrix, Evidence(analysis, seed=seed)) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()
