"""Gates of zero and one are the mask, and whatever is between them damps: one session for all of it."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune import cut
from onnxprune.dependency import Analysis, analyse
from onnxprune.gating import gate, gate_values
from onnxprune.model import Array, Model
from onnxprune.plan import Plan
from onnxprune.runtime.session import Session
from onnxprune.testing import build, random_keep
from tests.criteria.measured import MODELS, samples

FORMS = {
    **MODELS,
    "pick": """
        x[N,6] -> y
        h = Gemm(x, A[6,8], B[8]); r = Relu(h)
        s = Gather<axis=1>(r, {7,6,5,4,3,2,1,0}); t = Concat<axis=1>(r, s)
        y = Gemm(t, C[16,3])
    """,
    "loop": """
        x[N,5,6] -> y
        o, h, c = LSTM<hidden_size=4>(x, W[1,16,6], R[1,16,4])
        s = Squeeze(h, {0}); y = Gemm(s, C[4,3])
    """,
    "norm": """
        x[N,5,6] -> y
        a = MatMul(x, A[6,8]); q = Mul(a, a); m = ReduceMean<axes=[2]>(q); r = Sqrt(m)
        b = Div(a, r); y = MatMul(b, C[8,3])
    """,
    "half": """
        x[N,6] -> y
        c = Cast<to=10>(x); a = MatMul(c, A[6,8]:float16); r = Relu(a)
        m = MatMul(r, C[8,3]:float16); y = Cast<to=1>(m)
    """,
}


def pair(name: str) -> tuple[Analysis, Model]:
    model = build(FORMS[name])
    return analyse(model), model


@pytest.mark.parametrize("name", FORMS)
def test_gates_of_zero_and_one_are_the_mask(name: str) -> None:
    """For every group at once, and for each alone."""
    analysis, model = pair(name)
    gated = gate(analysis)
    session, feeds = Session(gated.model.to_bytes()), samples(model, 3)
    assert gated.gated == {group.atom.id for group in analysis.groups}
    assert not gated.ungated
    every = random_keep(analysis.groups, 3)
    tolerance = 1e-2 if name == "half" else 1e-4
    for keep in (every, *({atom: mask} for atom, mask in every.items()), {}):
        expected = Session(cut.mask(analysis, Plan.of(analysis.groups, keep)).to_bytes()).run(feeds)
        found = session.run({**feeds, **gated.feeds({atom: mask.astype(float) for atom, mask in keep.items()})})
        for output, values in expected.items():
            np.testing.assert_allclose(found[output], values, rtol=tolerance, atol=tolerance)


def test_a_gate_scales_what_is_read() -> None:
    """In front of a linear reader, half a gate is half way between leaving and silencing."""
    analysis, model = pair("merged")
    gated = gate(analysis)
    session, feeds = Session(gated.model.to_bytes()), samples(model, 3)
    group = next(group for group in analysis.groups if group.name == "Q")

    def run(value: float) -> Array:
        gates = np.ones(group.size)
        gates[1] = value
        return np.asarray(session.run({**feeds, **gated.feeds({group.atom.id: gates})})["y"])

    np.testing.assert_allclose(run(0.5), (run(0.0) + run(1.0)) / 2, rtol=1e-4, atol=1e-5)
    assert np.abs(run(0.0) - run(1.0)).max() > 0.01


def test_gates_of_an_axis_follow_its_type() -> None:
    """A product multiplies, a sum joins, a pick reorders, and what no group has is one."""
    analysis, _ = pair("pick")
    (group,) = analysis.groups
    gates = {group.atom.id: np.arange(8.0)}
    np.testing.assert_array_equal(gate_values(analysis.dims("C")[0], gates), [*range(8), *range(7, -1, -1)])
    analysis, _ = pair("attention")
    heads, width = (next(g for g in analysis.groups if g.kind == kind) for kind in ("head", "value width"))
    values = gate_values(
        analysis.dims("O")[0], {heads.atom.id: np.array([1.0, 2, 3]), width.atom.id: np.array([1.0, 0, 1, 1, 1, 5])}
    )
    np.testing.assert_array_equal(values, np.outer([1, 2, 3], [1, 0, 1, 1, 1, 5]).ravel())


def test_what_is_read_as_integers_has_no_gates() -> None:
    """The group is named, and nothing of it is gated anywhere; the others are."""
    model = build("""
        x[N,6] -> y
        a = Gemm(x, A[6,8], B[8]); r = Relu(a)
        q, s, z = DynamicQuantizeLinear(r)
        m = MatMulInteger(q, C[8,5]:int8, z); f = Cast<to=1>(m); g = Mul(f, s); h = Relu(g)
        y = Gemm(h, D[5,3])
    """)
    analysis = analyse(model)
    gated = gate(analysis)
    sizes = {group.atom.id: group.size for group in analysis.groups}
    assert {sizes[atom] for atom in gated.ungated} == {8}
    assert {sizes[atom] for atom in gated.gated} == {5}
