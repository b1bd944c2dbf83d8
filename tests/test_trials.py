"""What a model is proven on: sizes that it takes, found by trying, and every position of its switches."""

from __future__ import annotations

import numpy as np

from onnxprune import api
from onnxprune.dependency import analyse
from onnxprune.model import Model, switches
from onnxprune.plan import Plan
from onnxprune.report import Report
from onnxprune.runtime.failure import RunFailed
from onnxprune.testing import build
from onnxprune.trials import Feed, feeds_for, tried
from onnxprune.verification import Verifier

REFLECTED = """
    x[N,L] -> y
    u = Unsqueeze(x, {1}); p = Pad<mode="reflect">(u, {0,0,200,0,0,200}); h = Conv<strides=[16]>(p, W[8,1,32])
    r = Relu(h); m = GlobalAveragePool(r); y = Conv(m, V[4,8,1])
"""
"""A window in front of a reflection: for an analysis 17 samples would do, but 200 must be there to be reflected."""

BRANCHED = (
    "x[N,6], rate[1]:int64 -> y; c = Equal(rate, 16000:int64); i = Identity(A[6,8]); j = Identity(B[8,4]);"
    "k = Identity(C[6,10]); l = Identity(D[10,4]); y = If<"
    "then_branch = fast () => (float[N,4] p) { a = MatMul(x, A) b = Relu(a) p = MatMul(b, B) },"
    "else_branch = slow () => (float[N,4] q) { d = MatMul(x, C) e = Relu(d) q = MatMul(e, D) }>(c)"
)


def report_of(model: Model) -> Report:
    return api.prune(model, rounds=1, round_to="1").report


def test_sizes_that_the_model_takes_are_looked_for() -> None:
    """Where the example sizes are too small to run, larger ones are tried; the note says which; latency is measured
    there, and so does `verify` prove it again."""
    model = build(REFLECTED)
    result = api.prune(model, rounds=1, round_to="1", size="L=128", recover="none")
    (note,) = result.report.notes
    assert "does not run with N=1, L=128, so it was verified with N=1, L=512" in note
    assert result.report.verified_batches == (1, 3)
    assert result.report.groups[0].kept == 4
    assert api.verify(model, result.model).batches == (1, 3)


def test_an_unnamed_axis_behind_fixed_ones_is_tried_as_a_batch() -> None:
    """The state of a recurrent network has no name for its batch: any other size does not run."""
    model = build("""
        x[N,6], state[2,M,4] -> y
        h = MatMul(x, W[6,8]); u = Unsqueeze(h, {0}); s = Slice(state, {0}, {1}, {0})
        r, t = GRU<hidden_size=4>(u, G[1,12,8], R[1,12,4], _, _, s); q = Squeeze(r, {0,1}); y = MatMul(q, V[4,3])
    """)
    proto = model.to_proto()
    for value in proto.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")
    report = report_of(Model.from_proto(proto))
    assert report.verified
    assert "verified with x.0=1, state.1=1" in report.notes[-1]


def test_every_position_of_a_switch_gets_an_input() -> None:
    """Each branch is proven, though random numbers would hardly ever take the first."""
    model = build(BRANCHED)
    assert switches(model) == {"rate": (16000,)}
    feeds = feeds_for(model, {"N": 3})
    assert [feed["rate"].item() == 16000 for feed in feeds] == [False, False, True]
    analysis = analyse(model)
    groups = {group.name: group for group in analysis.groups}
    halves = {name: Plan.of([groups[name]], {groups[name].atom.id: np.arange(groups[name].size) < 4}) for name in "AC"}
    with Verifier(analysis, feeds) as verifier:
        assert verifier.check(halves["A"]).passed
        assert not verifier.check(halves["A"], model).passed
        assert not verifier.check(halves["C"], model).passed


def test_a_position_that_cannot_be_had_is_told() -> None:
    model = build(BRANCHED)

    def run(feed: Feed) -> None:
        if feed["rate"].item() == 16000:
            raise RunFailed("no such rate")

    found = tried(model, feeds_for(model, {"N": 3}), run)
    assert len(found.feeds) == 2
    assert found.left_out == (
        "the original runs on no input that was tried with rate=16000, so nothing was verified there",
    )
