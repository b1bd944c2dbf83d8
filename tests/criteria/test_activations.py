"""Criteria of activations, each computed a second time from the tensors themselves, one index at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from onnxprune.criteria import CRITERIA, Evidence, Scores, score
from onnxprune.criteria.activations import activations
from onnxprune.criteria.chip import independence
from onnxprune.criteria.entropy import BINS
from onnxprune.dependency import Analysis, analyse
from onnxprune.dimensions import atoms
from onnxprune.errors import UsageError
from onnxprune.model import Array
from onnxprune.testing import build
from tests.criteria.naive import evidence, one_by_one, samples, tensors_of
from tests.criteria.nets import CARRIED, NETS, net

Naive = Callable[[Array, int, list[list[int]]], list[float]]


def each(measure: Callable[[Array], float]) -> Naive:
    """The mean of `measure` over what goes with an index, each a tensor with the samples first."""

    def naive(tensor: Array, axis: int, taken: list[list[int]]) -> list[float]:
        return [float(np.mean([measure(np.take(tensor, k, axis)) for k in of_index])) for of_index in taken]

    return naive


def entropy_of(values: Array) -> float:
    """A histogram of the means of every sample."""
    means = values.reshape(len(values), -1).mean(axis=1)
    counts, _ = np.histogram(means, BINS, (means.min(), means.max() or 1))
    shares = counts[counts > 0] / len(means)
    return -float(np.sum(shares * np.log(shares)))


def chip_of(tensor: Array, axis: int, taken: list[list[int]]) -> list[float]:
    """Zero one row, take the nuclear norm again."""
    stacked = np.moveaxis(tensor.astype(np.float64), axis, 1)
    falls = np.zeros(stacked.shape[1])
    for sample in stacked[:16] if stacked.ndim > 2 else [stacked.T]:  # single numbers: samples are the positions
        maps = sample.reshape(len(sample), -1)
        for row in range(len(maps)):
            less = maps.copy()
            less[row] = 0
            falls[row] += np.linalg.norm(maps, "nuc") - np.linalg.norm(less, "nuc")
    return [float(falls[of_index].mean()) for of_index in taken]


def hrank_of(tensor: Array, axis: int, taken: list[list[int]]) -> list[float]:
    """The rank of each map, or of positions x numbers."""
    found = []
    for of_index in taken:
        maps = [np.take(tensor[:16], k, axis) for k in of_index]
        matrices = maps if maps[0].ndim == 3 else [np.stack(maps, axis=-1)]
        found.append(float(np.mean([np.linalg.matrix_rank(m) for matrix in matrices for m in matrix])))
    return found


NAIVE: dict[str, Naive] = {
    "apoz": each(lambda values: 1 - float(np.mean(values == 0))),
    "activation-mean": each(lambda values: float(np.abs(values.astype(np.float64)).mean())),
    "activation-variance": each(lambda values: float(values.astype(np.float64).var())),
    "entropy": each(entropy_of),
    "chip": chip_of,
    "hrank": hrank_of,
}
MAPLESS = {("attention", "O"), ("attention", "U1"), ("perceptron", "W")}  # one number at each position: no matrix


@pytest.mark.parametrize("criterion", NAIVE)
@pytest.mark.parametrize("name", NETS)
def test_activations_are_judged_where_they_are_read(name: str, criterion: str) -> None:
    """The places are written down by hand; each is divided by its mean, and the mean over places counts."""
    analysis = net(name)
    feeds = samples(analysis, 40)
    scores = score(evidence(analysis, criterion, feeds), criterion)
    tensors = tensors_of(analysis, feeds, {tensor for places in CARRIED[name].values() for tensor, _, _ in places})
    assert {group.name for group in analysis.groups} == CARRIED[name].keys()
    for group in analysis.groups:
        if criterion == "hrank" and (name, group.name) in MAPLESS:
            assert group.name in scores.missing
            continue
        votes = []
        for tensor, axis, goes in CARRIED[name][group.name]:
            found = np.array(NAIVE[criterion](tensors[tensor], axis, [goes(i) for i in range(group.size)]))
            votes.append(found / np.abs(found).mean())
        np.testing.assert_allclose(scores.values[group.atom.id], np.mean(votes, axis=0), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (12, 12), (1, 7), (7, 1)])
def test_the_fall_of_the_nuclear_norm_is_exact(shape: tuple[int, int]) -> None:
    """The integral gives what decompositions without each row give; equal and silent rows included."""
    matrix = np.random.default_rng(0).normal(size=shape)
    if len(matrix) > 4:
        matrix[1], matrix[2] = matrix[0], 0
    whole = np.linalg.norm(matrix, "nuc")
    expected = [whole - np.linalg.norm(np.delete(matrix, k, axis=0), "nuc") for k in range(len(matrix))]
    np.testing.assert_allclose(independence(matrix), expected, rtol=1e-6, atol=1e-7 * float(whole))
    assert not independence(np.zeros((3, 4))).any()


def pooled(analysis: Analysis, group: str, feeds: Mapping[str, Array], name: str) -> list[Array]:
    """The means of what a group's indices carry, at every place (samples, indices, what goes with each)."""
    found = []
    for tensor, axis, goes in CARRIED[name][group]:
        values = np.moveaxis(tensors_of(analysis, feeds, {tensor})[tensor].astype(np.float64), axis, 1)
        means = values.reshape(*values.shape[:2], -1).mean(axis=2)
        size = next(g.size for g in analysis.groups if g.name == group)
        found.append(means[:, [goes(i) for i in range(size)]])
    return found


@pytest.mark.parametrize("name", NETS)
def test_correlated_indices_leave_one_by_one(name: str) -> None:
    """|Pearson's r| of everything that goes with two indices, from numpy."""
    analysis = net(name)
    feeds = samples(analysis, 40)
    scores = score(evidence(analysis, "correlation", feeds), "correlation")
    for group in analysis.groups:
        matrices, weight = [], np.zeros(group.size)
        for means in pooled(analysis, group.name, feeds, name):
            columns = (means - means.mean(axis=0)).swapaxes(0, 1).reshape(group.size, -1)
            matrices.append(np.abs(np.corrcoef(columns)))
            weight += columns.std(axis=1) / columns.std(axis=1).mean()
        expected = one_by_one(np.mean(matrices, axis=0), weight)
        np.testing.assert_allclose(scores.values[group.atom.id], expected, atol=1e-5)


def told(left: Array, right: Array) -> float:
    """I(X; Y) from a table of pairs."""
    total = 0.0
    for a in np.unique(left):
        for b in np.unique(right):
            both = float(np.mean((left == a) & (right == b)))
            if both:
                total += both * np.log(both / (np.mean(left == a) * np.mean(right == b)))
    return total


def in_bins(values: Array) -> Array:
    """Three bins of equal frequency."""
    return np.digitize(values, np.quantile(values, [1 / 3, 2 / 3]), right=True)


@pytest.mark.parametrize("name", NETS)
def test_information_about_the_label(name: str) -> None:
    """With labels: the mutual information of each bin table, for 40 samples in three bins."""
    analysis = net(name)
    feeds = samples(analysis, 40)
    labels = np.random.default_rng(5).integers(3, 6, 40)
    scores = score(evidence(analysis, "mutual-information", feeds, labels), "mutual-information")
    for group in analysis.groups:
        votes = []
        for means in pooled(analysis, group.name, feeds, name):
            each_index = means.swapaxes(0, 1)
            found = np.array([np.mean([told(in_bins(c), labels) for c in index.T]) for index in each_index])
            votes.append(found / found.mean())
        np.testing.assert_allclose(scores.values[group.atom.id], np.mean(votes, axis=0), rtol=1e-5)
    wrong = evidence(analysis, "mutual-information", feeds, labels[:-1])
    with pytest.raises(UsageError, match="one class for each of 40 samples"):
        score(wrong, "mutual-information")


@pytest.mark.parametrize("name", NETS)
def test_information_about_each_other(name: str) -> None:
    """Without labels: shares of the smaller entropy, and twins leave one by one."""
    analysis = net(name)
    feeds = samples(analysis, 40)
    scores = score(evidence(analysis, "mutual-information", feeds), "mutual-information")
    for group in analysis.groups:
        matrices, weight = [], np.zeros(group.size)
        for means in pooled(analysis, group.name, feeds, name):
            bins = np.stack([np.concatenate([in_bins(c) for c in index.T]) for index in means.swapaxes(0, 1)])
            own = np.array([told(row, row) for row in bins])
            weight += own
            matrices.append([[told(a, b) / min(told(a, a), told(b, b)) for b in bins] for a in bins])
        alike = np.mean(matrices, axis=0)
        found = scores.values[group.atom.id]
        expected = one_by_one(alike, weight)
        np.testing.assert_allclose(np.sort(found), np.sort(expected), atol=1e-5)
        assert found.max() == 1


def test_only_so_many_pairs_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are drawn by the seed; with all of them drawn nothing changes."""
    analysis = net("convolutions")
    feeds = samples(analysis, 40)
    full = score(evidence(analysis, "mutual-information", feeds), "mutual-information").values
    monkeypatch.setattr("onnxprune.criteria.information.OTHERS", 2)
    monkeypatch.setattr("onnxprune.criteria.information.BLOCK", 3)
    few = [score(evidence(analysis, "mutual-information", feeds, seed=s), "mutual-information").values for s in (0, 0)]
    for atom, values in full.items():
        assert (few[0][atom] >= np.sort(values)[0] - 1e-6).all()
        np.testing.assert_array_equal(few[0][atom], few[1][atom])


def test_an_index_that_never_changes_goes_first() -> None:
    """A dead channel: no entropy, no variance, no rank of its own, told by every other."""
    analysis = analyse(build("""
        x[N,3,4,4] -> y
        a = Conv<kernel_shape=[1,1]>(x, W{1.0,0.5,0.2, 0.0,0.0,0.0, -1.0,0.3,0.9, 0.4,-0.7,0.1}[4,3,1,1]); b = Relu(a)
        y = Conv<kernel_shape=[1,1]>(b, V[2,4,1,1])
    """))  # fmt: skip
    feeds = samples(analysis, 30)
    for criterion in (*NAIVE, "correlation", "mutual-information", "wanda"):
        (values,) = score(evidence(analysis, criterion, feeds), criterion).values.values()
        assert values[1] == pytest.approx(0, abs=1e-6), criterion
        assert np.delete(values, 1).min() > 0.01, criterion


def test_what_pooling_left_is_read_in_front_of_it() -> None:
    """A pool makes one number of a map, a Flatten many indices of a channel: neither is what the papers speak of."""
    analysis = analyse(build("""
        x[N,3,4,4] -> y
        a = Conv<kernel_shape=[1,1]>(x, W[4,3,1,1]); b = Relu(a)
        c = GlobalAveragePool(b); d = Conv<kernel_shape=[1,1]>(c, U[6,4,1,1]); e = Sigmoid(d)
        f = Flatten(e); y = Gemm(f, V[6,2])
    """))  # fmt: skip
    assert [(r.tensor, r.axis, r.single) for r in activations(analysis)] == [("b", 1, False), ("f", 1, True)]


READ = {  # what is contracted, and what it is read in
    "a weight on the left": ("x[N,6,4] -> y; h = MatMul(U[8,6], x); r = Relu(h); y = MatMul(V[3,8], r)", ("r", 1)),
    "letters": ("x[N,5,6] -> y; h = Einsum<equation=\"nld,dhw->nlhw\">(x, U[6,2,4]); r = Relu(h); "
                "y = Einsum<equation=\"nlhw,hwd->nld\">(r, V[2,4,6])", ("r", 2)),
    "a weight that is made": ("x[N,6] -> y; h = MatMul(x, U[6,8]); r = Relu(h); s = ReduceMean<axes=[0]>(V[8,3]); "
                              "w = Sub(V, s); y = MatMul(r, w)", ("r", 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_every_contraction_is_read(name: str) -> None:
    """Also one whose weight no layer shows: the activation is the operand that has the dimension as well."""
    text, place = READ[name]
    analysis = analyse(build(text))
    assert place in [(found.tensor, found.axis) for found in activations(analysis)]
    assert not score(evidence(analysis, "activation-mean", samples(analysis, 4)), "activation-mean").missing


def test_nothing_is_said_where_nothing_was_measured() -> None:
    """Without statistics every group is missing."""
    analysis = net("convolutions")
    for criterion in (CRITERIA[name] for name in (*NAIVE, "correlation", "mutual-information", "wanda")):
        assert criterion.data == "samples"
        found = criterion.judge(Evidence(analysis))
        assert not (found.values if isinstance(found, Scores) else found), criterion.name


def test_every_reading_holds_a_group() -> None:
    """Fixed axes, weights and the batch are not asked for."""
    for name in NETS:
        analysis = net(name)
        free = {group.atom for group in analysis.groups}
        for found in activations(analysis):
            assert free & set(atoms(found.dim))
            assert found.tensor not in analysis.model.weights
