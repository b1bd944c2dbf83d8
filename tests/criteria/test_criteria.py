"""A criterion scores an index by everything that goes with it: each is computed a second time, index by index."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxprune.criteria import CRITERIA, Evidence, Scores, criterion_of, registry, resolved, score
from onnxprune.dependency import Analysis, Group, analyse
from onnxprune.dimensions import Vector, keep_mask
from onnxprune.errors import UsageError
from onnxprune.layers import layers_of
from onnxprune.model import Array, Model
from onnxprune.testing import build as parsed
from onnxprune.weights import Weights

MODELS = ("cifar10_resnet20", "cifar10_mlperf_resnet8_int8_qdq", "ad01_autoencoder", "kws_dscnn")
NORMS: dict[str, Callable[[Array], float]] = {
    "l0": lambda w: float(np.count_nonzero(w)),
    "l1": lambda w: float(np.abs(w).sum()),
    "l2": lambda w: float(np.sqrt(np.square(w).sum())),
    "linf": lambda w: float(np.abs(w).max()),
}


def build(nodes: list[onnx.NodeProto], weights: dict[str, Array], x: list[int | str], y: list[int | str]) -> Model:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, y)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return Model.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def random(*shape: int) -> Array:
    return np.random.default_rng(shape).normal(size=shape).astype(np.float32)


def shuffled() -> Model:
    """Two convolutions are joined, split into heads by a grouped one, and flattened into a Linear."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "a", "bias"], ["1"], kernel_shape=[1, 1]),
        node("Conv", ["x", "b"], ["2"], kernel_shape=[1, 1]),
        node("Concat", ["1", "2"], ["3"], axis=1),
        node("Conv", ["3", "c"], ["4"], kernel_shape=[1, 1], group=2),
        node("Flatten", ["4"], ["5"]),
        node("Gemm", ["5", "d"], ["y"]),
    ]
    weights = {"a": random(4, 3, 1, 1), "b": random(8, 3, 1, 1), "c": random(8, 6, 1, 1), "d": random(32, 5)}
    return build(nodes, weights | {"bias": random(4)}, ["N", 3, 2, 2], ["N", 5])


def naive(analysis: Analysis, group: Group, norm: Callable[[Array], float]) -> Vector:
    """Site by site, index by index: the norm of what the keep mask of that index alone takes away."""
    votes = []
    for site in group.sites:
        weight = Weights(analysis.model).real(site.tensor).astype(np.float64)
        if weight.ndim > 1:
            values = np.zeros(group.size)
            for index in range(group.size):
                keep = np.arange(group.size) != index
                values[index] = norm(np.compress(~keep_mask(site.dim, {group.atom.id: keep}), weight, axis=site.axis))
            votes.append(values / values.mean())
    return np.asarray(np.mean(votes, axis=0))


@pytest.mark.parametrize("criterion", NORMS)
@pytest.mark.parametrize("name", [*MODELS, "shuffled"])
def test_magnitudes_are_norms_of_what_goes(models: Path, name: str, criterion: str) -> None:
    """Each site's slices are measured, divided by their mean and averaged; every group has the mean one."""
    analysis = analyse(shuffled() if name == "shuffled" else Model.load(models / f"{name}.onnx"))
    scores = score(Evidence(analysis), criterion)
    assert scores.values.keys() == {group.atom.id for group in analysis.groups}
    assert not scores.missing
    for group in analysis.groups:
        expected = naive(analysis, group, NORMS[criterion])
        np.testing.assert_allclose(scores.values[group.atom.id], expected, rtol=1e-4, atol=1e-6)
        assert scores.values[group.atom.id].mean() == pytest.approx(1)


def test_an_index_of_zeros_scores_zero_and_scale_does_not_matter() -> None:
    """What is silent at every site goes first; a layer that is a thousand times larger has no more votes."""
    node = helper.make_node
    nodes = [node("MatMul", ["x", "a"], ["1"]), node("Relu", ["1"], ["2"]), node("MatMul", ["2", "b"], ["y"])]
    a, b = random(3, 6), random(6, 2)
    a[:, 2] = b[2] = 0
    plain = score(Evidence(analyse(build(nodes, {"a": a, "b": b}, ["N", 3], ["N", 2]))), "l2")
    large = score(Evidence(analyse(build(nodes, {"a": a * 1000, "b": b}, ["N", 3], ["N", 2]))), "l2")
    ((atom, values),) = plain.values.items()
    assert values[2] == 0 < np.delete(values, 2).min()
    np.testing.assert_allclose(large.values[atom], values, rtol=1e-6)
    silent = score(Evidence(analyse(build(nodes, {"a": a * 0, "b": b * 0}, ["N", 3], ["N", 2]))), "l1")
    assert not silent.values[atom].any()


def test_a_group_of_vectors_alone_has_no_magnitude() -> None:
    """A group that no weight of rank two holds is missing, not guessed."""
    nodes = [helper.make_node("MatMul", ["s", "t"], ["1"]), helper.make_node("Mul", ["x", "1"], ["y"])]
    analysis = analyse(build(nodes, {"s": random(4), "t": random(4)}, ["N", 3], ["N", 3]))
    assert score(Evidence(analysis), "l1").missing == tuple(group.name for group in analysis.groups) == ("s",)


def test_bn_scale_is_gamma(models: Path) -> None:
    """|gamma| of the group's norms, each channel weighing the same, over the mean |gamma| of the whole model."""
    analysis = analyse(Model.load(models / "cifar10_resnet20_bn.onnx"))
    scores = score(Evidence(analysis), "bn-scale")
    gammas = [n.inputs[1] for n in analysis.model.nodes if n.op_type == "BatchNormalization"]
    mean = np.abs(np.concatenate([analysis.model.array(gamma) for gamma in gammas])).mean()
    for group in analysis.groups:
        for index in range(group.size):
            keep = {group.atom.id: np.arange(group.size) != index}
            gone = [
                np.abs(analysis.model.array(site.tensor))[~keep_mask(site.dim, keep)]
                for site in group.sites
                if site.tensor in gammas
            ]
            assert scores.values[group.atom.id][index] == pytest.approx(np.concatenate(gone).mean() / mean, rel=1e-5)


def test_a_group_without_a_norm_is_left_to_another_criterion(models: Path) -> None:
    """What bn-scale cannot judge is named, and can be filled from L2."""
    analysis = analyse(Model.load(models / "cifar10_resnet20.onnx"))
    scores, other = score(Evidence(analysis), "bn-scale"), score(Evidence(analysis), "l2")
    assert scores.missing == tuple(group.name for group in analysis.groups)
    filled = scores.filled(other)
    assert (filled.criterion, filled.missing, filled.values) == ("bn-scale", (), other.values)


def test_chance_depends_on_the_seed_and_the_name_alone(models: Path) -> None:
    """One seed, one answer; another seed, another; no group's draw depends on the groups before it."""
    analysis = analyse(Model.load(models / "cifar10_resnet20.onnx"))
    first, again, other = (score(Evidence(analysis, seed=seed), "random").values for seed in (1, 1, 2))
    fewer = analyse(Model.load(models / "cifar10_resnet20.onnx"))
    fewer.__dict__["groups"] = fewer.groups[3:]
    for group in analysis.groups:
        np.testing.assert_array_equal(first[group.atom.id], again[group.atom.id])
        assert not np.array_equal(first[group.atom.id], other[group.atom.id])
    for atom, values in score(Evidence(fewer, seed=1), "random").values.items():
        np.testing.assert_array_equal(values, first[atom])


@pytest.mark.parametrize("criterion", NORMS)
def test_a_weight_is_read_once(models: Path, criterion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many axes and groups it serves."""
    analysis = analyse(Model.load(models / "cifar10_resnet20.onnx"))
    read: list[str] = []
    array = Model.array

    def counted(model: Model, name: str) -> Array:
        read.append(name)
        return array(model, name)

    monkeypatch.setattr(Model, "array", counted)
    score(Evidence(analysis), criterion)
    assert read
    assert len(read) == len(set(read))


def test_an_unknown_criterion_is_a_usage_error() -> None:
    """The message names the criteria that there are."""
    with pytest.raises(UsageError, match=rf"'l3'.*{', '.join(sorted(CRITERIA))}"):
        criterion_of("l3")
    assert all(criterion_of(name) is found for name, found in CRITERIA.items())


def flat(evidence: Evidence) -> Scores:
    """A criterion of somebody else: every index matters the same."""
    return Scores.of("flat", evidence.groups, {g.atom.id: np.ones(g.size) for g in evidence.groups})


def test_others_may_bring_criteria(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package names its criterion in an entry point; ours are never looked up there."""
    point = EntryPoint("flat", f"{__name__}:flat", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "onnxprune.criteria" else [])
    analysis = analyse(Model.load(models / "kws_dscnn.onnx"))
    assert all(values.all() for values in score(Evidence(analysis), "flat").values.values())
    with pytest.raises(UsageError, match="flat, "):
        criterion_of("none")


def test_auto_judges_exactly_where_that_is_no_long_work() -> None:
    """With data, single weights of small layers by obc, of large ones by sparsegpt; without data everything by l2."""
    small = layers_of(analyse(parsed("x[N,8,4,4] -> y\ny = Conv(x, W[4,8,3,3])")))
    large = layers_of(analyse(parsed("x[N,4096] -> y\ny = MatMul(x, W[4096,8])")))
    assert [resolved("auto", True, "weights", layers) for layers in (small, large, ())] == [
        "obc",
        "sparsegpt",
        "sparsegpt",
    ]
    assert resolved("auto", True, "channels", small) == "obd"
    assert {resolved("auto", False, judged, small) for judged in ("channels", "weights")} == {"l2"}
    assert resolved("lamp", True, "weights", small) == "lamp"
