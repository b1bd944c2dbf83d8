"""Costs are functions of counts alone, and say exactly what the shrunk model holds."""

from __future__ import annotations

from math import prod
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from onnxprune.cost import Costs, Ledger, Term
from onnxprune.cut import shrink
from onnxprune.dependency import Analysis, analyse
from onnxprune.dimensions import Atom, Dimension, Product, Sum
from onnxprune.model import Array, Model
from onnxprune.plan import Plan
from onnxprune.weights import Weights, nonzeros, parameters

NAMES = ("cifar10_resnet20", "cifar10_resnet20_bn", "cifar10_mlperf_resnet8_int8_qdq", "ad01_autoencoder", "kws_dscnn")
A, B, C = Atom(0, 8), Atom(1, 6), Atom(-1, 3)


def costs_of(*terms: Term) -> Costs:
    return Costs(MappingProxyType({"macs": terms, "params": ()}))


def random_half(analysis: Analysis, seed: int) -> Plan:
    rng = np.random.default_rng(seed)
    keep = {group.atom.id: rng.permutation(np.arange(group.size) < (group.size + 1) // 2) for group in analysis.groups}
    return Plan.of(analysis.groups, keep)


@pytest.mark.parametrize("name", NAMES)
def test_costs_before_the_cut_are_those_after_it(models: Path, name: str) -> None:
    """Parameters by counts are what the shrunk file holds, and MACs are those that its own analysis finds."""
    analysis = analyse(Model.load(models / f"{name}.onnx"))
    costs = Costs.of(analysis)
    assert costs.params() == parameters(analysis.model)
    for seed in range(2):
        plan = random_half(analysis, seed)
        small = shrink(analysis, plan)
        assert costs.params(plan.counts) == parameters(small) < costs.params()
        assert costs.macs(plan.counts) == Costs.of(analyse(small)).macs() < costs.macs()


def test_resnet20_does_the_macs_that_its_paper_counts(models: Path) -> None:
    """40.55 million, pixel by pixel: first convolution, 3 x 6 convolutions, one Linear."""
    costs = Costs.of(analyse(Model.load(models / "cifar10_resnet20.onnx")))
    first, wide = 32 * 32 * 27 * 16, 32 * 32 * 9 * 16 * 16
    assert costs.macs() == first + 6 * wide + (wide // 2 + 5 * wide) + (wide // 2 + 5 * wide) + 640


def test_depthwise_costs_fall_with_one_group(models: Path) -> None:
    """In a depthwise convolution half of the channels is half of the work, in a pointwise one a quarter."""
    analysis = analyse(Model.load(models / "kws_dscnn.onnx"))
    costs = Costs.of(analysis)
    half = {group.atom.id: group.size // 2 for group in analysis.groups}
    convolutions = [n for n in analysis.model.nodes if n.op_type == "Conv"]
    ratios = [costs.macs_of(n.index, half) / costs.macs_of(n.index) for n in convolutions]
    assert ratios == [1 / 2, 1 / 2, 1 / 4, 1 / 2, 1 / 4, 1 / 2, 1 / 4, 1 / 2, 1 / 4]
    assert [costs.params_of(n.inputs[1], half) / costs.params_of(n.inputs[1]) for n in convolutions] == ratios
    assert sum(costs.macs_of(n.index, half) for n in analysis.model.nodes) == costs.macs(half)


def test_what_is_due_to_an_atom() -> None:
    """Terms that hold the atom fall to what is left without it; others do not matter."""
    costs = costs_of(Term(0, 2, (A, B)), Term(1, 1, (Sum((A, B)),)), Term(2, 5, (B,)))
    assert costs.due_to(A.id) == {"macs": 2 * 8 * 6 + 8, "params": 0}
    assert [term.owner for term in costs.touching(A.id)["macs"]] == [0, 1]
    assert costs.touching(99) == {}


FORMS: list[tuple[str, tuple[Dimension, ...], int]] = [
    ("a constant", (), 1),
    ("an atom twice is squared", (A, A), 64),
    ("a product counts as its factors", (Product((A, B)),), 48),
    ("a sum counts as its parts", (Sum((A, B)), C), 42),
    ("a sum may hold an atom twice", (Sum((A, Product((A, B)), C)), B), (8 + 48 + 3) * 6),
]


@pytest.mark.parametrize(("fact", "dims", "expected"), FORMS, ids=[f[0] for f in FORMS])
def test_a_term_is_the_product_of_its_sizes(fact: str, dims: tuple[Dimension, ...], expected: int) -> None:
    """Term by term and all together, whole and in part."""
    term = Term(0, 7, dims)
    assert term.value() == costs_of(term).macs() == 7 * expected
    counts = {A.id: 5, C.id: 2}
    assert costs_of(term, term).macs(counts) == 2 * term.value(counts)


ATOMS = [Atom(i - 2, size) for i, size in enumerate((4, 5, 7, 2, 9))]
DIMENSIONS: st.SearchStrategy[Dimension] = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.lists(inner, min_size=2, max_size=3).map(tuple).flatmap(
        lambda children: st.sampled_from([Product(children), Sum(children)])
    ),
    max_leaves=5,
)  # fmt: skip
TERMS = st.lists(
    st.builds(Term, st.just(0), st.integers(1, 9), st.lists(DIMENSIONS, max_size=3).map(tuple)), max_size=6
)
CHANGES = st.lists(st.tuples(st.sampled_from(ATOMS), st.integers(0, 9), st.booleans()), max_size=12)


@given(TERMS, TERMS, CHANGES)
def test_a_ledger_says_what_a_full_count_says(
    macs: list[Term], params: list[Term], changes: list[tuple[Atom, int, bool]]
) -> None:
    """After any changes, taken back or not, the running totals are the sums of all terms."""
    costs = Costs({"macs": tuple(macs), "params": tuple(params)})
    ledger = Ledger(costs, ("params", "macs"))
    counts: dict[int, int] = {}
    for atom, kept, stays in changes:
        ledger.set({atom.id: kept})
        if stays:
            counts[atom.id] = kept
        else:
            ledger.undo()
        assert ledger.totals == tuple(sum(t.value(counts) for t in terms) for terms in (params, macs))
        assert costs.total("macs", counts) == ledger.totals[1]


def f32(*values: object) -> Array:
    return np.array(values, dtype=np.float32)


def u8(*values: object) -> Array:
    return np.array(values, dtype=np.uint8)


def quantized(weight: Array, scale: Array, zero: Array | None, axis: int | None = None, block: int = 0) -> Model:
    arrays = {"w": weight, "s": scale} | ({} if zero is None else {"z": zero})
    dequantize = helper.make_node("DequantizeLinear", [*arrays], ["f"], axis=axis, block_size=block or None)
    sizes = zip("xy", weight.shape, strict=True)
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", size]) for name, size in sizes)
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph([dequantize, helper.make_node("MatMul", ["x", "f"], ["y"])], "g", [x], [y], weights)
    return Model.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def test_quantized_weights_have_real_values() -> None:
    """(stored - zero point) x scale, per tensor, per index of an axis, per block; the zero point is what is zero."""
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3)
    one = quantized(stored, f32(0.5).reshape(()), u8(4).reshape(()))
    np.testing.assert_array_equal(Weights(one).real("w"), (stored.astype(float) - 4) * 0.5)
    assert nonzeros(one) == 5
    rows = quantized(stored, f32(1, 2), u8(0, 5), axis=0)
    np.testing.assert_array_equal(Weights(rows).real("w"), [[0, 1, 2], [-4, -2, 0]])
    columns = quantized(stored.astype(np.int8), f32(1, 2, 3), None, axis=-1)
    np.testing.assert_array_equal(Weights(columns).real("w"), [[0, 2, 6], [3, 8, 15]])
    blocks = quantized(stored, f32([1, 10], [2, 20]), None, axis=1, block=2)
    np.testing.assert_array_equal(Weights(blocks).real("w"), [[0, 1, 20], [6, 8, 100]])


def test_parameters_are_floats_and_small_integers(models: Path) -> None:
    """The int8 network counts its weights, scales and zero points, not its 32-bit biases."""
    model = Model.load(models / "cifar10_mlperf_resnet8_int8_qdq.onnx")
    counted = [i for i in model.weights.values() if i.dtype in (np.int8, np.uint8, np.float32) and i.shape]
    assert parameters(model) == sum(prod(info.shape) for info in counted)
    assert 0 < nonzeros(model) < parameters(model)
