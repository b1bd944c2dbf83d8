"""The pass `mask`: real models and small ones, what is zero afterwards, what dies of it, what is proven."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import onnxprune
from onnxprune import api, stamp
from onnxprune.criteria import CRITERIA, Criterion, Evidence
from onnxprune.dependency import analyse
from onnxprune.errors import GateNotMet, UsageError
from onnxprune.layers import Layer, layers_of
from onnxprune.model import Array, Model
from onnxprune.sparsity import chosen, granularity_of, mask
from onnxprune.sparsity.progress import selected
from onnxprune.statistics import Gram, GramMatrix, Statistics
from onnxprune.testing import build
from onnxprune.weights import Weights
from tests.commands import Commands

FORMS = ["element", "2:4", "vector:4", "block:4x4", "kernel", "stripe", "pattern", "N:8"]
NET = """
    x[N,4,6,6] -> y
    h = Conv<pads=[1,1,1,1]>(x, A[8,4,3,3], a[8]); r = Relu(h)
    k = Conv(r, B[8,8,1,1]); s = Relu(k); g = GlobalAveragePool(s); f = Flatten(g); y = MatMul(f, C[8,5])
"""


@pytest.mark.parametrize("form", FORMS)
def test_every_form_on_a_real_model(form: str, models: Path, tmp_path: Path) -> None:
    """What was asked is reached and verified, and the file proves it again."""
    source, out = models / "cifar10_resnet20.onnx", tmp_path / "o.onnx"
    result = onnxprune.prune(source, out, granularity=form, rounds=0)
    report = result.report
    assert report.verified
    asked, reached = report.targets["sparsity"]
    assert reached == pytest.approx(asked, abs=0.03)
    masked = [m for m in report.masks if not m.why_not]
    assert sum(m.nonzero_after for m in masked) == pytest.approx((1 - reached) * sum(m.numbers for m in masked))
    assert {m.granularity for m in report.masks} == {form}
    assert report.nonzero_after < 0.56 * report.nonzero_before
    found = analyse(result.model)
    holds = granularity_of(form).holds
    layers = [layer for layer in layers_of(found) if form != "pattern"]
    assert all(holds(layer.matrix(result.model.array(layer.weight)) != 0) for layer in layers)
    assert onnxprune.verify(source, out).passed


def test_what_died_goes_and_a_bias_may_come_of_it(desk: Path) -> None:
    """Filters that are masked whole leave constants; these move into biases, one that was not there before included."""
    model = build(NET)
    weights = {"A": model.array("A").copy(), "B": model.array("B")}
    weights["A"][[1, 5]] *= 1e-3
    model = with_weights(model, weights)
    model.save("m.onnx")
    result = onnxprune.prune("m.onnx", "o.onnx", granularity="element", sparsity=0.3, include="A", rounds=0,
                             allocation="uniform")  # fmt: skip
    assert result.report.removed
    assert result.report.removed["constant"] == 2
    assert result.model.weights["A"].shape == (6, 4, 3, 3)
    assert result.model.weights.keys() - model.weights.keys() == {"B_bias"}
    assert onnxprune.verify("m.onnx", "o.onnx").passed


def test_runs_are_not_broken_by_what_dies(desk: Path) -> None:
    model = build(NET)
    a = model.array("A").copy()
    a[1] = 0
    result = onnxprune.prune(with_weights(model, {"A": a}), granularity="2:4", include="B", rounds=0)
    assert result.report.removed == {}
    assert result.model.weights["A"].shape == (8, 4, 3, 3)
    assert any("removing them would break the runs of 2:4" in note for note in result.report.notes)


def test_every_layer_has_an_n_of_its_own(models: Path, tmp_path: Path) -> None:
    """`N:4` meets the sparsity of all layers together, and layers differ; the file is proven with the form `N:4`."""
    source, out = models / "cifar10_resnet20.onnx", tmp_path / "o.onnx"
    report = onnxprune.prune(source, out, granularity="N:4", sparsity=0.6, permute="off", rounds=0).report
    asked, reached = report.targets["sparsity"]
    assert asked == pytest.approx(0.6, abs=0.005)
    assert reached == pytest.approx(0.6, abs=0.01)
    assert len({round(4 * m.sparsity) for m in report.masks if m.numbers > 1000}) > 1
    assert onnxprune.verify(source, out).passed


@pytest.mark.parametrize(("form", "share"), [("1:4", 0.25), ("1:4", 1), ("pattern:4", 0.5), ("element", 0.5)])
def test_part_of_a_mask_is_the_blocks_of_largest_norm(form: str, share: float) -> None:
    """Counted block by block: masked whole or not yet, the largest L1 norms first; what is masked already stays so."""
    importance = np.random.default_rng(0).random((2, 5, 8, 9))
    shape, granularity = importance.shape, granularity_of(form)
    keep, whole = selected(granularity, importance, 0.5, share=share), granularity.select(importance, 0.5)
    if form == "element":
        assert (~keep).mean() == pytest.approx(0.25, abs=0.01)
        return
    axis, length = granularity.runs((2, 5, 8, 9)) or (0, 0)

    def blocks(values: Array) -> Array:
        return np.moveaxis(values, axis, -1).reshape(-1, length)

    done = (blocks(keep) == blocks(whole)).all(axis=1)
    assert blocks(keep)[~done].all()
    norms = blocks(importance).sum(axis=1)
    assert done.sum() == round(share * len(norms))
    assert share == 1 or norms[done].min() >= norms[~done].max()
    more = selected(granularity, np.where(keep, importance, 0), 0.5, share=min(1, 2 * share))
    assert shape == more.shape
    assert not more[~keep].any()


def test_masks_in_steps_repaired_between_them(models: Path, tmp_path: Path) -> None:
    """Two steps of 1:4 end where one does, in form and in zeros; the original is what both repairs aim at."""
    source, out = models / "cifar10_resnet20.onnx", tmp_path / "o.onnx"
    data = models / "cifar10_calibration.npz"
    small = tmp_path / "c.npz"
    np.savez(small, **{name: array[:64] for name, array in np.load(data).items()})
    (tmp_path / "data.toml").write_text((models / "data.toml").read_text())
    report = onnxprune.prune(source, out, granularity="1:4", steps=2, schedule="linear", calibration=str(small),
                             permute="off", criterion="l2", include=["*layer3*"], rounds=0).report  # fmt: skip
    once = onnxprune.prune(source, granularity="1:4", calibration=str(small), permute="off", criterion="l2",
                           include=["*layer3*"],
                           rounds=0).report  # fmt: skip
    assert report.verified
    assert [m.sparsity for m in report.masks] == [m.sparsity for m in once.masks]
    assert [m.nonzero_before for m in report.masks] == [m.nonzero_before for m in once.masks]
    assert onnxprune.verify(source, out).passed


def test_zero_is_the_zero_point_of_a_quantized_weight(models: Path, tmp_path: Path) -> None:
    source, out = models / "cifar10_mlperf_resnet8_int8_qdq.onnx", tmp_path / "o.onnx"
    result = onnxprune.prune(source, out, granularity="2:4", permute="off", rounds=0)
    before, after = Weights(Model.load(source)), Weights(result.model)
    masked = [m for m in result.report.masks if not m.why_not]
    assert masked
    for m in masked:
        old, new = before.real(m.weight), after.real(m.weight)
        assert np.array_equal(new[new != 0], old[new != 0])
        assert int((new != 0).sum()) == m.nonzero_after
        assert 0.3 < m.sparsity < 0.6
    assert onnxprune.verify(source, out).passed


def test_asymmetric_integers_and_updates_are_stored_as_they_mean() -> None:
    """Zero point 3: a masked number is 3; a changed one is the nearest that the scale has, within the range."""
    model = build(
        "x[N,2] -> y\nd = DequantizeLinear(W{1,3,7,200}[2,2]:uint8, S{0.5}, Z{3}:uint8)\ny = MatMul(x, d)"
        .replace("S{0.5}", "0.5").replace("Z{3}:uint8", "3:uint8")
    )  # fmt: skip
    weights = Weights(model)
    real = weights.real("W")
    assert real.ravel().tolist() == [-1, 0, 2, 98.5]
    assert weights.stored("W", real).tolist() == model.array("W").tolist()
    assert weights.stored("W", np.array([[0, 0], [2.2, 500]])).ravel().tolist() == [3, 3, 7, 255]


def test_tied_weights_are_judged_together() -> None:
    """Importances of all readers are added up, each in its own form."""
    model = build("x[N,4] -> y\nh = MatMul(x, W[4,4])\nr = Relu(h)\nt = Transpose(W)\ny = MatMul(r, t)")
    analysis = analyse(model)
    (target,) = chosen(analysis)
    assert [len(target.layers), target.alike] == [2, False]
    seen: dict[str, Array] = {}

    def judge(layer: Layer, weights: Array, evidence: Evidence) -> Array:
        seen[layer.name] = np.abs(weights) * np.arange(4)[None, None, :, None]
        return seen[layer.name]

    criterion = Criterion("by input", "", lambda e: {}, elements=judge)
    found = mask(analysis, [target], Evidence(analysis), criterion, granularity_of("element"), 0.5)
    w, place = model.array("W"), np.arange(4)
    importance = np.abs(w) * (place[:, None] + place[None, :])
    zero = found.model.array("W") == 0
    assert zero.sum() == 8
    assert importance[zero].max() <= importance[~zero].min()


def test_a_criterion_may_solve(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the Gram matrix and how to select, and what it returns is stored; that weights changed is said."""
    model = build("x[N,6] -> y\nh = Gemm(x, A[6,8])\nr = Relu(h)\ny = MatMul(r, B[8,4])")
    analysis = analyse(model)
    targets = chosen(analysis, include=["op:Gemm"])
    gram = GramMatrix(np.eye(6)[None], np.zeros((1, 6)), 10)

    def solve(layer: Layer, weights: Array, given: GramMatrix, select: object, share: float) -> tuple[Array, Array]:
        assert given.rows == 10
        assert share == pytest.approx(1 / 3)
        assert callable(select)
        return weights * 2, select(np.abs(weights), share)

    statistics = Statistics({Gram(targets[0].layer): gram})
    criterion = Criterion("twice", "", lambda e: {}, solve=solve)
    found = mask(analysis, targets, Evidence(analysis, statistics), criterion, granularity_of("2:4"), 0.5)
    after, before = found.model.array("A"), model.array("A")
    assert found.updated
    assert np.array_equal(after[after != 0], 2 * before[after != 0])
    assert ((after != 0).sum(axis=0) == 4).all()  # of six inputs: two of four, and the last two
    without = mask(analysis, targets, Evidence(analysis), criterion, granularity_of("2:4"), 0.5)
    assert without.weights[0].why_not == "nothing is known of its input: no sample"
    assert without.model is analysis.model


def test_wanda_weighs_a_weight_against_its_output(desk: Path) -> None:
    """As the paper does: every output gives up the same share; l2 takes the least of the layer."""
    source = desk / "mlp.onnx"
    build("x[N,16] -> y; h = Gemm<transB=1>(x, W[12,16]); r = Relu(h); y = Gemm<transB=1>(r, V[4,12])").save(source)
    x = np.random.default_rng(0).normal(size=(32, 16)).astype(np.float32)
    np.savez(desk / "x.npz", x=x)
    gone = {}
    for criterion in ("wanda", "l2"):
        made = onnxprune.prune(source, granularity="element", sparsity=0.5, allocation="uniform", criterion=criterion,
                               calibration=str(desk / "x.npz"), rounds=0)  # fmt: skip
        gone[criterion] = set((made.model.array("W") == 0).sum(axis=1).tolist())
    assert gone["wanda"] == {8}
    assert len(gone["l2"]) > 1


def test_layers_are_chosen_by_name_operator_and_place() -> None:
    analysis = analyse(build("i[N,3]:int64 -> y\ne = Gather(E[9,4], i)\nh = MatMul(e, A[4,4])\nf = Flatten(h)\n"
                             "g = Gemm(f, B[12,4])\ny = MatMul(g, C[4,2])"))  # fmt: skip

    def names(**how: object) -> list[str]:
        return [target.weight for target in chosen(analysis, **how)]  # type: ignore[arg-type]

    assert names() == ["A", "B", "C"]
    assert names(embeddings=True) == ["E", "A", "B", "C"]
    assert names(include=["op:MatMul"]) == ["A", "C"]
    assert names(exclude=["B"], include=["*"]) == ["A", "C"]
    assert names(skip=["first", "last"]) == ["B"]
    with pytest.raises(UsageError, match="matches no layer, weight or op:TYPE"):
        names(include=["op:Conv"])
    with pytest.raises(UsageError, match="expected first, last"):
        names(skip=["frist"])


def test_the_command_line(onnxprune: Commands, desk: Path) -> None:
    build(NET).save("m.onnx")
    ran = onnxprune("prune", "m.onnx", "-o", "o.onnx", "--granularity", "2:4", "--skip", "first", "--rounds", 0)
    assert ran.code == 0, ran.err
    assert "2:4" in ran.out
    assert "masked weights set to zero" in ran.out
    assert onnxprune("verify", "m.onnx", "o.onnx").code == 0
    assert onnxprune("prune", "m.onnx", "-o", "p.onnx", "--granularity", "2:4", "--sparsity", 0.5).code == 2
    assert onnxprune("prune", "m.onnx", "-o", "p.onnx", "--granularity", "3:5:7").code == 2
    assert onnxprune("prune", "m.onnx", "-o", "p.onnx", "--granularity", "pattern:4", "--include", "B").code == 1
    assert "a kernel of 1 has no pattern of 4" in onnxprune(
        "prune", "m.onnx", "-o", "p.onnx", "--granularity", "pattern:4", "--include", "B").err  # fmt: skip
    assert not Path("p.onnx").exists()


def test_a_file_that_lost_its_zeros_is_noticed(desk: Path) -> None:
    """The graph is as it was, but a weight is not masked as the stamp says: not verified, with the weight's name."""
    build(NET).save("m.onnx")
    made = api.prune("m.onnx", granularity="2:4", rounds=0).model
    full = with_weights(made, {"B": np.ones((8, 8, 1, 1), np.float32)})
    verdict = api.verify("m.onnx", full)
    assert (verdict.passed, "numbers of 'B' that are not zero" in verdict.detail) == (False, True)
    moved = made.array("B").reshape(8, 8).copy()
    moved[0] = [1, 1, 1, 1, 0, 0, 0, 0]
    verdict = api.verify("m.onnx", with_weights(made, {"B": moved.reshape(8, 8, 1, 1)}))
    assert verdict.detail == "the zeros of 'B' are not 2:4, as its stamp states"
    assert set(stamp.read(made)["masks"]) == {"A", "B", "C"}


def test_nothing_to_mask_is_a_gate(desk: Path) -> None:
    with pytest.raises(GateNotMet, match="no layer has a weight"):
        api.prune(build("x[N,4] -> y\nh = Mul(x, s[4])\ny = Relu(h)"), granularity="element", rounds=0)
    with pytest.raises(UsageError, match="judges channels"):
        api.prune(build(NET), granularity="element", criterion="bn-scale", rounds=0)
    assert CRITERIA["bn-scale"].elements is None


def with_weights(model: Model, weights: dict[str, Array]) -> Model:
    from onnxprune.model import Edit

    edit = Edit(model)
    for name, array in weights.items():
        edit.replace(name, array)
    return edit.done()
