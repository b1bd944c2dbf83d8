"""The theorem as a run checks it: wrong rules are caught, the groups at fault stay whole, the others make up for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from onnxprune import api, cut
from onnxprune.cost import Costs
from onnxprune.dependency import analyse
from onnxprune.errors import GateNotMet, VerificationFailed
from onnxprune.plan import Plan
from onnxprune.rules import registry
from onnxprune.rules.call import Call
from onnxprune.rules.elementwise import carry
from onnxprune.rules.facts import Counts, Fact
from onnxprune.rules.registry import Rule, RuleFunction
from onnxprune.testing import build
from onnxprune.trials import feeds_for
from onnxprune.verification import Verifier
from tests.commands import Commands

MIXED = """
    x[N,6] -> y
    a = MatMul(x, A[6,16])
    b = MatMul(a, B[16,16])
    s = Softmax<axis=1>(b)
    c = MatMul(s, C[16,16])
    t = MatMul(c, D[16,16])
    y = MatMul(t, E[16,5])
"""
"""Groups A, B, C and D; B is mixed by the Softmax, and so fixed, unless a rule is wrong."""


def lie(monkeypatch: pytest.MonkeyPatch, op_type: str, rule: RuleFunction) -> None:
    """A wrong rule for an operator."""
    find = registry.find

    def found(domain: str, name: str, opset: int) -> Rule | None:
        return Rule(domain, name, 1, None, rule) if name == op_type else find(domain, name, opset)

    monkeypatch.setattr(registry, "find", found)


def elementwise(n: Call) -> Iterator[Fact]:
    yield from carry(n.x, n.y)


def forgets_to_count(n: Call) -> Iterator[Fact]:
    rule = next(r for r in registry if r.op_type == "Reshape")
    yield from (fact for fact in rule.function(n) if not isinstance(fact, Counts))


def test_a_group_at_fault_is_left_whole_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong rule couples through a Softmax: its group alone stays whole, the reason is `verification`."""
    assert "B" not in {g.name for g in analyse(build(MIXED)).groups}
    lie(monkeypatch, "Softmax", elementwise)
    report = api.prune(build(MIXED), rounds=0, round_to="1").report
    assert {g.name: g.kept for g in report.groups} == {"A": 8, "B": 16, "C": 8, "D": 8}
    assert report.verified
    assert {(f.tensor, f.axis) for f in report.fixed if f.reason == "verification"} == {("B", 1), ("C", 0)}


def test_the_other_groups_make_up_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes back to the allocation: a target is met without the group at fault."""
    lie(monkeypatch, "Softmax", elementwise)
    report = api.prune(build(MIXED), rounds=0, target="macs=0.5").report
    assert report.targets_met
    assert 0.45 < report.macs_after / report.macs_before <= 0.5
    assert next(g for g in report.groups if g.name == "B").kept == 16


def test_a_target_that_is_out_of_reach_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lie(monkeypatch, "Softmax", elementwise)
    model = build(MIXED)
    only = Costs.of(analyse(model))
    whole = {g.atom.id: 1 for g in analyse(model).groups if g.name != "B"}
    reachable = only.macs(whole) / only.macs()
    with pytest.raises(GateNotMet, match="was asked and macs="):
        api.prune(model, rounds=0, target=f"macs={reachable * 0.9}")
    report = api.prune(model, rounds=0, target=f"macs={reachable * 0.9}", best_effort=True).report
    assert (report.targets_met, report.verified) == (False, True)


def test_all_groups_at_fault(monkeypatch: pytest.MonkeyPatch, onnxprune: Commands, desk: Path) -> None:
    """Nothing that could be pruned was verified: exit code 5, nothing is written."""
    lie(monkeypatch, "Softmax", elementwise)
    build("x[N,6] -> y; b = MatMul(x, B[6,16]); s = Softmax<axis=1>(b); y = MatMul(s, C[16,5])").save("m.onnx")
    ran = onnxprune("prune", "m.onnx", "-o", "o.onnx", "--rounds", 0)
    assert (ran.code, ran.out) == (5, "")
    assert "all groups (1) failed the verification" in ran.err
    assert not Path("o.onnx").exists()


def test_a_model_that_does_not_run_after_the_cut_is_a_failed_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that forgets a number makes a model that ONNX Runtime refuses: its group is at fault, no more."""
    lie(monkeypatch, "Reshape", forgets_to_count)
    model = build("""
        x[2,6] -> y
        a = MatMul(x, A[6,16])
        b = MatMul(a, B[16,12])
        r = Reshape(b, {2,12})
        y = MatMul(r, C[12,5])
    """)
    report = api.prune(model, rounds=0, round_to="1").report
    assert {g.name: g.kept for g in report.groups} == {"A": 8, "B": 12}
    assert report.verified


def test_a_process_that_dies_is_a_failed_verification() -> None:
    """A pruned model that kills the child process is a verdict, with what happened to the child."""
    model = build("x[N,6] -> y; a = MatMul(x, A[6,16]); y = MatMul(a, B[16,5])")
    analysis = analyse(model)
    plan = Plan.of(analysis.groups, {g.atom.id: np.arange(16) < 8 for g in analysis.groups})
    with Verifier(analysis, feeds_for(model, {"N": 3})) as verifier:
        assert verifier.check(plan).passed
        other = build("x[N,6] -> y; a = MatMul(x, A[6,8]); y = MatMul(a, B[8,4])")
        verdict = verifier.check(plan, other)
        assert not verdict.passed
        assert "shape" in verdict.detail
        broken = build("x[N,6] -> y; y = MatMul(x, A[6,5])").with_metadata({})
        broken.frame.graph.node[0].op_type = "Mystery"
        assert "the pruned model does not run" in verifier.check(plan, broken).detail


def test_every_fault_is_found_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bisection: two wrong groups among five, and the number of comparisons stays small."""
    lie(monkeypatch, "Softmax", elementwise)
    lines = ["x[N,6] -> y", "h0 = MatMul(x, W0[6,16])"]
    for k in range(1, 9):
        op = "Softmax<axis=1>" if k in (3, 6) else "Relu"
        lines += [f"r{k} = {op}(h{k - 1})", f"h{k} = MatMul(r{k}, W{k}[16,16])"]
    model = build("; ".join([*lines, "y = MatMul(h8, V[16,4])"]))
    analysis = analyse(model)
    plan = Plan.of(analysis.groups, {g.atom.id: np.arange(16) < 8 for g in analysis.groups})
    names = {g.atom.id: {s.tensor for s in g.sites} for g in analysis.groups}
    checks: list[int] = []
    with Verifier(analysis, feeds_for(model, {"N": 3})) as verifier:
        faults = verifier.faults(plan, checks.append)
        assert verifier.check(plan.without(faults)).passed
    assert [names[a] for a in sorted(faults)] == [{"W2", "W3"}, {"W5", "W6"}]
    assert checks == list(range(1, len(checks) + 1))
    assert len(checks) < 2 * len(analysis.groups)


# -- batches ----------------------------------------------------------------------------------------------------------


def test_a_model_that_runs_at_batch_1_alone_says_which_batches_were_verified(onnxprune: Commands, desk: Path) -> None:
    """Its batch is declared dynamic, but a Reshape inside holds it to 1: what was left out is a note of the report."""
    build("""
        x[N,6] -> y
        a = MatMul(x, A[6,16])
        r = Reshape(a, {1,16})
        y = MatMul(r, B[16,5])
    """).save("one.onnx")
    ran = onnxprune("prune", "one.onnx", "-o", "o.onnx", "--rounds", 0, "--json", "r.json", "--best-effort")
    report = json.loads(Path("r.json").read_text())
    assert ran.code == 0, ran.err
    assert report["verified_batches"] == [1]
    assert "does not run on an input of batch 3" in report["notes"][0]
    assert "(batch 1)" in ran.out


def test_a_fixed_batch_is_verified_at_its_size() -> None:
    model = build("x[2,6] -> y; a = MatMul(x, A[6,16]); y = MatMul(a, B[16,5])")
    report = api.prune(model, rounds=0).report
    assert (report.verified_inputs, report.verified_batches) == (1, (2,))


def test_an_original_that_never_runs_is_an_error() -> None:
    model = build("x[N,6] -> y; a = MatMul(x, A[6,16]); r = Reshape(a, {7,9}); y = MatMul(r, B[9,5])")
    analysis = analyse(build("x[N,6] -> y; y = MatMul(x, A[6,16])"))
    analysis.model = model
    with (
        Verifier(analysis, feeds_for(model, {"N": 3})) as verifier,
        pytest.raises(VerificationFailed, match="does not run in ONNX Runtime on any input that was tried"),
    ):
        verifier.check(Plan.of((), {}))


def test_inputs_are_the_same_for_the_same_seed() -> None:
    model = build("x[N,6] -> y; y = MatMul(x, A[6,16])")
    a, b, c = (feeds_for(model, {"N": 3}, seed=seed) for seed in (1, 1, 2))
    assert [f["x"].shape for f in a] == [(1, 6), (3, 6)]
    assert all(np.array_equal(p["x"], q["x"]) for p, q in zip(a, b, strict=True))
    assert not np.array_equal(a[0]["x"], c[0]["x"])


def test_mask_and_shrink_are_not_the_same_model() -> None:
    """The check compares two models that were made in different ways, so that a mistake in one of them shows."""
    model = build("x[N,6] -> y; a = MatMul(x, A[6,16]); y = MatMul(a, B[16,5])")
    analysis = analyse(model)
    plan = Plan.of(analysis.groups, {g.atom.id: np.arange(16) < 8 for g in analysis.groups})
    assert cut.mask(analysis, plan).weights["A"].shape == (6, 16)
    assert cut.shrink(analysis, plan).weights["A"].shape == (6, 8)
