"""Criteria that weigh an index where it is read, each against the layer itself: run in ONNX Runtime, or solved anew."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from onnxprune.consumers import Consumer, consumers_of
from onnxprune.criteria import CRITERIA, Evidence, score
from onnxprune.dimensions import Vector, keep_mask
from onnxprune.model import Array, Edit
from onnxprune.solvers import coordinate_descent, damped, damped_inverse, interactions, lasso_path
from onnxprune.statistics import Gram
from onnxprune.testing import build
from tests.criteria.measured import MODELS, evidence, samples, tensors
from tests.solvers.layer import error, resolved
from tests.solvers.test_solvers import readers

NAMES = ("obd", "obs", "obc", "sparsegpt", "thinet", "lasso", "least-squares")


def each(found: Evidence) -> Iterator[tuple[int, int, Consumer]]:
    """Every group that is read: its atom, its size, a consumer."""
    for group in found.analysis.groups:
        for consumer in consumers_of(found.analysis, found.layers).get(group.atom.id, ()):
            yield group.atom.id, group.size, consumer


def weights_of(found: Evidence, consumer: Consumer) -> Array:
    layer = consumer.layer
    groups, outputs, inputs, positions = layer.shape
    stored = found.weights.real(layer.weight).astype(np.float64)
    return layer.matrix(stored).reshape(groups, outputs, inputs * positions)


def without(found: Evidence, consumer: Consumer, gone: list[int]) -> Array:
    """The output of the layer in the model whose stored weight lacks the columns of some indices."""
    layer, model = consumer.layer, found.analysis.model
    weights = weights_of(found, consumer).copy()
    for group, columns in enumerate(consumer.columns):
        weights[group][:, columns[gone].ravel()] = 0
    edit = Edit(model)
    edit.replace(layer.weight, layer.stored(weights.reshape(layer.shape)).astype(np.float32))
    return tensors(edit.done(), [layer.output], samples(model))[layer.output]


@pytest.mark.parametrize("name", MODELS)
def test_the_columns_of_an_index_are_what_the_mask_takes(name: str) -> None:
    """Zero in the stored weight exactly where the keep mask of that index alone says so, on the side of the inputs."""
    found = evidence(build(MODELS[name]))
    seen = 0
    for atom, size, consumer in each(found):
        layer, analysis = consumer.layer, found.analysis
        dim = analysis.dims(layer.weight)[consumer.axis]
        for index in range(size):
            marks = np.zeros((layer.shape[0], layer.shape[1], layer.shape[2] * layer.shape[3]))
            for group, columns in enumerate(consumer.columns):
                marks[group][:, columns[index]] = 1
            kept = keep_mask(dim, {atom: np.arange(size) != index})
            shape = analysis.model.weights[layer.weight].shape
            along = [-1 if k == consumer.axis else 1 for k in range(len(shape))]
            expected = np.broadcast_to(~kept.reshape(along), shape)
            np.testing.assert_array_equal(layer.stored(marks.reshape(layer.shape)).astype(bool), expected)
        seen += 1
    assert seen >= 2


@pytest.mark.parametrize("name", MODELS)
def test_thinet_is_greedy_on_the_outputs_of_its_readers(name: str) -> None:
    """Each step takes the index whose going, with all before it, changes the outputs of its readers least."""
    found = evidence(build(MODELS[name]))
    scores = score(found, "thinet")
    by_atom: dict[int, list[Consumer]] = {}
    for atom, _, consumer in each(found):
        by_atom.setdefault(atom, []).append(consumer)
    assert by_atom.keys() == scores.values.keys()
    for atom, consumers in by_atom.items():
        size = len(scores.values[atom])
        whole = [without(found, consumer, []) for consumer in consumers]
        energy = [
            sum(float(np.sum((w @ g) * w)) for w, g in zip(weights_of(found, c), gram(found, c), strict=True))
            for c in consumers
        ]
        order = np.argsort(scores.values[atom], kind="stable").tolist()
        for step in range(min(3, size)):
            losses = {
                index: sum(
                    float(np.square(a - without(found, c, [*order[:step], index]), dtype=np.float64).sum()) / e
                    for a, c, e in zip(whole, consumers, energy, strict=True)
                )
                for index in range(size)
                if index not in order[:step]
            }
            assert losses[order[step]] <= min(losses.values()) * (1 + 1e-3)


def gram(found: Evidence, consumer: Consumer) -> Array:
    return found.statistics.gram(consumer.layer).matrix


def plain(found: Evidence, consumer: Consumer, name: str) -> Vector:
    """What one consumer says of each index, without the solvers."""
    total = np.zeros(len(consumer.columns[0]))
    for w, h, columns in zip(weights_of(found, consumer), gram(found, consumer), consumer.columns, strict=True):
        upper = np.linalg.cholesky(np.linalg.inv(damped(h))).T
        w = np.where(np.diag(h) == 0, 0, w)  # nothing comes through there
        for index, own in enumerate(columns):
            if name == "obd":
                total[index] += sum(float(w[o, j] ** 2 * h[j, j]) for o in range(len(w)) for j in own)
            elif name == "sparsegpt":
                total[index] += sum(float((w[o, j] / upper[j, j]) ** 2) for o in range(len(w)) for j in own)
            else:
                kept = np.ones(w.shape, np.bool_)
                kept[:, own] = False
                total[index] += error(w, resolved(w, damped(h), kept), damped(h))
    return np.asarray(total / total.mean())


@pytest.mark.parametrize("criterion", ["obd", "sparsegpt", "least-squares"])
@pytest.mark.parametrize("name", MODELS)
def test_sites_are_the_consumers(name: str, criterion: str) -> None:
    """By default each consumer over its mean, and the mean over consumers."""
    found = evidence(build(MODELS[name]))
    sites: dict[int, list[Vector]] = {}
    for atom, _, consumer in each(found):
        sites.setdefault(atom, []).append(plain(found, consumer, criterion))
    scores = score(found, criterion)
    for atom, values in sites.items():
        np.testing.assert_allclose(scores.values[atom], np.mean(values, axis=0), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_what_obs_removes_first_is_missed_least(name: str) -> None:
    """With everything solved anew, the half that scores lowest is missed less than the half that scores highest."""
    found = evidence(build(MODELS[name]))
    scores = score(found, "obs")
    for atom, size, consumer in each(found):
        order = np.argsort(scores.values[atom])
        low, high = order[: size // 2], order[size - size // 2 :]
        losses = []
        for gone in (low, high):
            total = 0.0
            for w, h, columns in zip(weights_of(found, consumer), gram(found, consumer), consumer.columns, strict=True):
                kept = np.ones(w.shape, np.bool_)
                kept[:, columns[gone].ravel()] = False
                total += error(w, resolved(w, damped(h), kept), damped(h))
            losses.append(total)
        if len([1 for other, _, _ in each(found) if other == atom]) == 1:
            assert losses[0] <= losses[1] * (1 + 1e-9)


@pytest.mark.parametrize("criterion", NAMES)
@pytest.mark.parametrize("name", MODELS)
def test_only_who_reads_has_a_say(name: str, criterion: str) -> None:
    """Groups that nobody contracts with a weight are missing; the mean score of the others is one."""
    found = evidence(build(MODELS[name]))
    scores = score(found, criterion)
    read = {atom for atom, _, _ in each(found)}
    assert set(scores.values) == read
    assert set(scores.missing) == {g.name for g in found.analysis.groups if g.atom.id not in read}
    assert np.concatenate(list(scores.values.values())).mean() == pytest.approx(1, rel=1e-6)
    assert all(np.isfinite(v).all() and (v >= 0).all() for v in scores.values.values())
    needed = set(CRITERIA[criterion].needs(found.analysis))
    assert all(Gram(consumer.layer) in needed for _, _, consumer in each(found))


@pytest.mark.parametrize("criterion", NAMES)
def test_a_dead_index_goes_first(criterion: str) -> None:
    """What its reader multiplies by zero everywhere, or what is always zero, scores lowest."""
    model = build("x[N,6] -> y; a = Gemm(x, A[6,8], B[8]); b = Relu(a); y = Gemm(b, C[8,4])")
    reader, maker, bias = model.array("C").copy(), model.array("A").copy(), model.array("B").copy()
    reader[2], maker[:, 5], bias[5] = 0, 0, 0
    edit = Edit(model)
    for tensor, values in (("C", reader), ("A", maker), ("B", bias)):
        edit.replace(tensor, values)
    (values,) = score(evidence(edit.done()), criterion).values.values()
    assert set(np.argsort(values)[:2]) == {2, 5}
    assert np.sort(values)[2] > 2 * np.sort(values)[1]


@pytest.mark.parametrize("criterion", ["obd", "obs", "sparsegpt", "obc"])
def test_weights_of_a_dead_input_go_first(criterion: str) -> None:
    """However large they are: nothing ever comes through them."""
    model = build("x[N,6] -> y; a = Gemm(x, A[6,8], B[8]); b = Relu(a); y = Gemm(b, C[8,4])")
    reader, maker, bias = model.array("C").copy(), model.array("A").copy(), model.array("B").copy()
    maker[:, 5], bias[5], reader[5] = 0, 0, 100
    edit = Edit(model)
    for tensor, values in (("C", reader), ("A", maker), ("B", bias)):
        edit.replace(tensor, values)
    found = evidence(edit.done())
    layer = found.layers[1]
    weights = layer.matrix(found.weights.real("C"))
    judge, solve = CRITERIA[criterion].elements, CRITERIA[criterion].solve
    assert judge is not None
    assert not judge(layer, weights, found)[0, :, 5].any()
    if solve is not None:
        _, kept = solve(layer, weights, found.statistics.gram(layer), half, 0.5)
        assert not kept[0, :, 5].any()


@pytest.mark.parametrize("criterion", ["obd", "obs", "sparsegpt"])
def test_elements_have_the_shape_of_their_layer(criterion: str) -> None:
    """And agree with the definition, weight by weight, in every group."""
    found = evidence(build(MODELS["conv"]))
    judge = CRITERIA[criterion].elements
    assert judge is not None
    for layer in found.layers:
        weights = layer.matrix(found.weights.real(layer.weight))
        values = judge(layer, weights, found)
        assert values.shape == layer.shape
        for g, h in enumerate(found.statistics.gram(layer).matrix):
            flat = np.where(np.diag(h) == 0, 0, weights[g].reshape(layer.shape[1], -1).astype(np.float64))
            factor = {
                "obd": np.diag(h),
                "obs": 1 / np.diag(damped_inverse(h)),
                "sparsegpt": 1 / np.diag(np.linalg.cholesky(np.linalg.inv(damped(h))).T) ** 2,
            }[criterion]
            np.testing.assert_allclose(values[g].reshape(flat.shape), flat**2 * factor, rtol=1e-5)


def test_coordinate_descent_ends_where_the_conditions_of_lasso_hold() -> None:
    """Karush-Kuhn-Tucker: the gradient is the penalty with the sign of the gate, and no larger where a gate is zero."""
    products, target = interactions(readers())
    np.testing.assert_allclose(target, products.sum(axis=1))
    closed = 0
    for penalty in np.geomspace(1e-3, 1.1, 12) * np.abs(target).max():
        gates = coordinate_descent(products, target, penalty, np.ones(6))
        gradient = target - products @ gates
        tolerance = 1e-3 * np.abs(target).max()
        np.testing.assert_allclose(gradient[gates != 0], penalty * np.sign(gates[gates != 0]), atol=tolerance)
        assert (np.abs(gradient[gates == 0]) <= penalty + tolerance).all()
        closed = max(closed, int((gates == 0).sum()))
    assert closed == 6


def test_lasso_closes_what_others_can_replace() -> None:
    """Every index closes at some penalty; one that contributes nothing closes first."""
    found = lasso_path(readers())
    assert (found > 0).all()
    assert len(set(found)) == 6
    silent = readers()
    for reader in silent:
        reader.weights[:, reader.columns[3]] = 0
    assert lasso_path(silent).argmin() == 3


class Half:
    """The larger half of whatever is asked about."""

    span = 4

    def __call__(self, importance: Array, sparsity: float, /) -> Array:
        return np.asarray(importance > np.quantile(importance, sparsity))


half = Half()


def test_solving_repairs_what_masking_breaks() -> None:
    """Element by element, in every layer: what was solved for loses less than its mask does without repair."""
    found = evidence(build(MODELS["conv"]))
    for layer in found.layers:
        gram, weights = found.statistics.gram(layer), layer.matrix(found.weights.real(layer.weight)).astype(np.float64)
        losses = []
        for name in ("obc", "sparsegpt"):
            solve = CRITERIA[name].solve
            assert solve is not None
            made, kept = solve(layer, weights, gram, half, 0.5)
            assert made.shape == kept.shape == layer.shape
            assert not made[~kept].any()
            losses += [
                sum(
                    error(a, b, h)
                    for a, b, h in zip(
                        weights.reshape(layer.shape[0], layer.shape[1], -1),
                        other.reshape(layer.shape[0], layer.shape[1], -1),
                        gram.matrix,
                        strict=True,
                    )
                )
                for other in (made, np.where(kept, weights, 0))
            ]
        assert losses[0] < losses[1]
        assert losses[2] < losses[3]


def test_a_wide_layer_is_solved_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rows of their own would take too long, OBC takes the mask of OBS, and SparseGPT's repair."""
    monkeypatch.setattr("onnxprune.criteria.second_order.WIDEST", 4)
    found = evidence(build(MODELS["merged"]))
    layer = found.layers[0]
    weights = layer.matrix(found.weights.real(layer.weight))
    solve, judge = CRITERIA["obc"].solve, CRITERIA["obs"].elements
    assert solve is not None
    assert judge is not None
    made, kept = solve(layer, weights, found.statistics.gram(layer), half, 0.5)
    np.testing.assert_array_equal(kept, half(judge(layer, weights, found), 0.5))
    assert not made[~kept].any()
