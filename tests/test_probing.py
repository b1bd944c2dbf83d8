"""What `--probe` infers is what a rule would say, never more; what it cannot infer stays fixed, with the reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from onnxprune import api
from onnxprune.cli import cli
from onnxprune.dependency import Analysis, analyse
from onnxprune.dimensions import atoms
from onnxprune.model import Model
from onnxprune.probing import IsolatedProber
from onnxprune.rules import Registry, registry
from onnxprune.testing import build

CNN = """
x[N,3,8,8] -> y
h = Conv<pads=[1,1,1,1]>(x, W[8,3,3,3], B[8])
{middle}
y = Conv(g, V[4,8,1,1])
"""


@pytest.fixture(scope="module")
def prober() -> Iterator[IsolatedProber]:
    with IsolatedProber() as found:
        yield found


def without(*op_types: str) -> Registry:
    """The rules of all operators but these."""
    rules = Registry()
    for rule in registry:
        if rule.op_type not in op_types:
            rules.add(rule)
    return rules


def sizes(analysis: Analysis) -> dict[str, int]:
    return {group.name: group.size for group in analysis.groups}


@pytest.mark.parametrize(
    ("op_type", "middle"),
    [
        ("HardSwish", "g = HardSwish(h)"),
        ("Add", "g = Add(h, C[8,1,1])"),
        ("PRelu", "g = PRelu(h, C[8,1,1])"),
        ("MaxPool", "g = MaxPool<kernel_shape=[2,2], strides=[2,2]>(h)"),
        ("Softmax", "g = Softmax<axis=3>(h)"),
        ("BatchNormalization", "g = BatchNormalization(h, S[8], T[8], M[8], {0.5,1.5,2.5,0.5,1.5,2.5,0.5,1.5})"),
        ("Transpose", "t = Transpose<perm=[0,2,3,1]>(h); g = Transpose<perm=[0,3,1,2]>(t)"),
        ("ReduceMax", "g = ReduceMax<axes=[2,3], keepdims=1>(h)"),
        ("Trilu", "g = com.microsoft.Trilu(h)"),
        ("QuickGelu", "g = com.microsoft.QuickGelu<alpha=1.702>(h)"),
    ],
)
def test_what_is_carried_unchanged_is_found_and_proven(op_type: str, middle: str, prober: IsolatedProber) -> None:
    """An operator whose rule is taken away is pruned through all the same, and the theorem holds."""
    from onnxprune.plan import Plan
    from onnxprune.testing import random_keep
    from onnxprune.trials import feeds_for
    from onnxprune.verification import Verifier

    model = build(CNN.format(middle=middle.replace("; ", "\n")))
    analysis = analyse(model, rules=without(op_type), prober=prober)
    assert sizes(analysis) == {"W": 8}
    assert {node.op_type for node in analysis.probed_nodes} == {op_type}
    plan = Plan.of(analysis.groups, random_keep(analysis.groups, keep={"W": 3}))
    with Verifier(analysis, feeds_for(model, analysis.shapes.sizes, others=analysis.shapes.other_sizes)) as verifier:
        from onnxprune import cut

        assert verifier.check(plan, cut.shrink(analysis, plan)).passed


@pytest.mark.parametrize(
    ("op_type", "middle"),
    [
        ("Softmax", "g = Softmax<axis=1>(h)"),
        ("LayerNormalization", "t = Transpose<perm=[0,2,3,1]>(h); n = LayerNormalization<axis=-1>(t, S[8], T[8]); "
                               "g = Transpose<perm=[0,3,1,2]>(n)"),
        ("LRN", "g = LRN<size=3>(h)"),
        ("CumSum", "g = CumSum(h, {1}[])"),
        ("Conv", "g = Relu(h)"),
        ("DepthToSpace", "d = DepthToSpace<blocksize=2>(h); g = SpaceToDepth<blocksize=2>(d)"),
        ("GroupNormalization", "s = Reshape(h, {0,4,-1}); i = InstanceNormalization(s, S[4], T[4]); "
                               "g = Reshape(i, {0,8,8,8})"),
    ],
)  # fmt: skip
def test_what_is_mixed_is_not_carried(op_type: str, middle: str, prober: IsolatedProber) -> None:
    """No group that the rules would not find either comes of probing."""
    model = build(CNN.format(middle=middle.replace("; ", "\n")))
    with_rules = sizes(analyse(model))
    probed = analyse(model, rules=without(op_type, "InstanceNormalization"), prober=prober)
    assert all(with_rules.get(name, 0) >= size for name, size in sizes(probed).items())


def test_a_dimension_of_several_operands_is_one(prober: IsolatedProber) -> None:
    """Of Add(h, c), the channels of both and of the sum are one group."""
    model = build(CNN.format(middle="g = Add(h, C[8,1,1])"))
    (group,) = analyse(model, rules=without("Add"), prober=prober).groups
    assert {site.tensor for site in group.sites} == {"W", "B", "C", "V"}


def test_a_fixed_attribute_refuses_what_it_counts(prober: IsolatedProber) -> None:
    """A grouped convolution runs at no other width: its channels stay, whatever locality says."""
    model = build(CNN.format(middle="g = Conv<group=8>(h, D[8,1,1,1])"))
    analysis = analyse(model, rules=without("Conv"), prober=prober)
    depthwise = next(i for i, node in enumerate(model.nodes) if node.attributes.get("group") == 8)
    channels = {("h", 1), ("g", 1)}
    assert not channels & {(model.nodes[depthwise].outputs[j], b) for _, (j, b) in analysis.probed[depthwise].links}
    assert sizes(analysis) == {}


def test_what_differs_from_run_to_run_is_fixed(prober: IsolatedProber) -> None:
    """Random numbers carry nothing."""
    model = build(CNN.format(middle="r = RandomNormalLike(h)\ng = Add(h, r)"))
    analysis = analyse(model, rules=without("RandomNormalLike"), prober=prober)
    assert sizes(analysis) == {}
    assert any("differ" in node.reason for node in analysis.probed_nodes)


def test_what_does_not_run_says_why(prober: IsolatedProber) -> None:
    """An operator of a domain that ONNX Runtime does not have is fixed, with its words."""
    analysis = analyse(build(CNN.format(middle="g = not.there.Mystery(h)")), prober=prober)
    assert sizes(analysis) == {}
    assert {r.tensor: r.reason for r in analysis.refusals}["B"].startswith("Mystery has no rule: it does not run alone")


def test_a_node_is_probed_once(prober: IsolatedProber, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal nodes on operands of equal kind are one question."""
    model = build(CNN.format(middle="a = HardSwish(h)\ng = HardSwish(a)"))
    analyse(model, rules=without("HardSwish"), prober=prober)
    monkeypatch.setattr(prober, "_probe", lambda node: pytest.fail("asked again"))
    assert sizes(analyse(model, rules=without("HardSwish"), prober=prober)) == {"W": 8}


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A model with an operator of which no rule is known."""
    rules = without("HardSwish")
    monkeypatch.setattr(registry, "_rules", rules._rules)
    path = tmp_path / "m.onnx"
    build(CNN.format(middle="g = HardSwish(h)")).save(path)
    return path


def test_prune_probes_on_request_and_verify_repeats_it(unknown: Path, tmp_path: Path) -> None:
    """Without --probe nothing is pruned; with it the model is, the report says what was inferred, verify agrees."""
    runner, out, report = CliRunner(), tmp_path / "o.onnx", tmp_path / "r.json"
    options = ["--sparsity", "0.5", "--round-to", "1", "--rounds", "0", "--json", str(report)]
    assert json.loads(api.inspect(unknown).to_json())["groups"] == []
    found = runner.invoke(cli, ["prune", str(unknown), "-o", str(out), *options, "--probe"])
    assert found.exit_code == 0, found.output
    stated = json.loads(report.read_text())
    assert stated["groups"][0]["kept"] == 4
    assert stated["verified"]
    assert stated["probed"] == [
        {"node": Model.load(unknown).nodes[1].name, "op_type": "HardSwish",
         "carries": ["g[0]", "g[1]", "g[2]", "g[3]"], "reason": ""}
    ]  # fmt: skip
    assert any("inferred" in note for note in stated["notes"])
    assert api.verify(unknown, out).passed


def test_inspect_and_explain_probe(unknown: Path) -> None:
    """The same flag shows what probing would open."""
    runner = CliRunner()
    shown = runner.invoke(cli, ["inspect", str(unknown), "--probe"])
    assert shown.exit_code == 0
    assert "it was inferred that 1 carry" in " ".join(shown.output.split())
    assert runner.invoke(cli, ["explain", str(unknown), "W", "--probe"]).exit_code == 0


def test_the_lossless_run_keeps_what_was_inferred(unknown: Path, tmp_path: Path) -> None:
    """`shrink --probe` removes a channel that nothing reads, in front of an operator without a rule."""
    model = Model.load(unknown)
    weight = model.array("V").copy()
    weight[:, 2] = 0
    from onnxprune.model import Edit

    edit = Edit(model)
    edit.replace("V", weight)
    dead = edit.done()
    assert api.shrink(dead).report.params_after == api.shrink(dead).report.params_before
    assert api.shrink(dead, probe=True).report.params_after < api.shrink(dead).report.params_after


def test_atoms_of_probed_axes_are_free(prober: IsolatedProber) -> None:
    """What is carried is typed like any other dimension."""
    analysis = analyse(build(CNN.format(middle="g = HardSwish(h)")), rules=without("HardSwish"), prober=prober)
    (channels,) = atoms(analysis.dims("g")[1])
    assert analysis.cause_of(channels) is None
