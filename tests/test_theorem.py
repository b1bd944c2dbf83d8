"""The theorem over generated graphs: whatever is composed and however it is cut, removing is silencing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from onnxprune.errors import UsageError, VerificationFailed
from onnxprune.rules import Registry
from onnxprune.rules.call import Call
from onnxprune.rules.elementwise import carry
from onnxprune.rules.facts import Fact, Same
from onnxprune.rules.registry import Rule, registry
from onnxprune.testing import build, cut_sizes, reasons, theorem
from tools import mutate

REGRESSIONS: list[int] = []
"""Seeds that failed once, each because of a mistake that is mended now."""

BLOCK = "x[N,3,6,6] -> y; h = Conv(x, W[8,3,3,3]); r = Relu(h); y = Conv(r, V[4,8,1,1])"


@pytest.mark.parametrize("seed", [*range(60), *REGRESSIONS])
def test_removing_is_silencing(seed: int) -> None:
    """Masked and shrunk models agree in ONNX Runtime at batch 1 and 4."""
    proof = mutate.prove(seed)
    assert all(1 <= proof.kept[name] <= size for name, size in proof.sizes.items())


def test_generated_graphs_have_something_to_cut() -> None:
    """The seeds above prove a few hundred groups, of several kinds: the generator is not vacuous."""
    sizes = [cut_sizes(build(mutate.graph(seed))) for seed in range(60)]
    assert sum(map(len, sizes)) > 150
    assert sum(bool(found) for found in sizes) > 50


def test_a_graph_depends_on_its_seed_alone() -> None:
    """So that a seed that fails can be looked at again."""
    assert mutate.graph(7) == mutate.graph(7) != mutate.graph(8)


def test_the_tool_counts_what_it_proves(root: Path) -> None:
    """`tools/mutate.py` ends with 0 and says how many graphs and groups it proved."""
    run = subprocess.run(
        [sys.executable, "tools/mutate.py", "--graphs", "3", "--seed", "5"],
        cwd=root, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("3 of 3 graphs proven, ")


def _careless(n: Call) -> list[Fact]:
    """What a mistaken rule says of Softmax: that it works index by index."""
    return [*carry(n.x, n.y), Same(n.x[0], n.y[0])]


def test_a_rule_that_is_wrong_is_found_out() -> None:
    """A rule that forgets that Softmax mixes indices is refuted by the theorem, with the output that differs."""
    wrong = Registry()
    for one in registry:
        if one.op_type != "Softmax":
            wrong.add(one)
    wrong.add(Rule("", "Softmax", 1, None, lambda n: iter(_careless(n))))
    model = build("x[N,5] -> y; h = MatMul(x, W[5,8]); s = Softmax<axis=-1>(h); y = MatMul(s, V[8,4])")
    assert theorem(model).sizes == {}
    with pytest.raises(VerificationFailed, match="differ: output 'y'"):
        theorem(model, rules=wrong)


def test_a_proof_says_what_was_cut() -> None:
    """Sizes and kept counts by group name; `*` counts for all groups; the shrunk model holds the smaller weights."""
    proof = theorem(BLOCK, {"*": 3})
    assert (proof.sizes, proof.kept) == ({"W": 8}, {"W": 3})
    assert proof.max_error < 1e-5
    assert proof.shrunk.weights["V"].shape == (4, 3, 1, 1)


def test_a_half_goes_unless_something_else_is_said() -> None:
    """And a group that is named keeps what its name says."""
    assert theorem(BLOCK).kept == {"W": 4}
    assert theorem(BLOCK, {"W": 7}).kept == {"W": 7}


def test_a_group_that_does_not_exist_is_an_error() -> None:
    """A table that names a group which the graph lost must not pass in silence."""
    with pytest.raises(UsageError, match="no group 'U': there are W"):
        theorem(BLOCK, {"U": 3})


def test_a_model_that_does_not_run_is_not_proven() -> None:
    """What ONNX Runtime refuses is told in its words."""
    with pytest.raises(VerificationFailed, match="the masked model does not run"):
        theorem("x[N,3,6,6] -> y; h = Conv(x, W[8,3,3,3]); y = Reshape(h, {0,999})")


def test_reasons_are_told_by_weight_and_axis() -> None:
    """The first reason of each axis that is fixed."""
    assert reasons(BLOCK) == {
        "W.1": "a graph input",
        "W.2": "a window slides over it",
        "W.3": "a window slides over it",
        "V.0": "a graph output",
    }


NOTATION = [
    ("a weight has the type that is said", "x[3] -> y; y = Add(x, W[3]:double)", "W", "float64", (3,)),
    ("whole numbers are int64", "x[3] -> y; y = Reshape(x, S{3,1})", "S", "int64", (2,)),
    ("numbers with a point are float", "x[3] -> y; y = Add(x, S{3.0,1,2})", "S", "float32", (3,)),
    ("a number alone has no axes", "x[3] -> y; y = Add(x, 0.5)", "constant0", "float32", ()),
    ("values may be shaped", "x[2] -> y; y = Gather(x, S{0,1,1,0}[2,2])", "S", "int64", (2, 2)),
    ("the largest int64 is exact", "x[2] -> y; y = Slice(x, {0}, S{9223372036854775807})", "S", "int64", (1,)),
]


@pytest.mark.parametrize(("fact", "text", "name", "dtype", "shape"), NOTATION, ids=[row[0] for row in NOTATION])
def test_operands_are_written_where_they_are_read(
    fact: str, text: str, name: str, dtype: str, shape: tuple[int, ...]
) -> None:
    """Each notation makes the initializer that it says."""
    info = build(text).weights[name]
    assert (info.dtype.name, info.shape) == (dtype, shape)


def test_weights_depend_on_name_and_seed() -> None:
    """So that a table's rows stay the same when others are added."""
    a, b = (build(BLOCK, seed=seed).array("W") for seed in (0, 1))
    assert (a != b).all()
    assert (a == build(BLOCK).array("W")).all()


MISTAKES = [
    ("no operands", "x[3] -> y; y = Relu", "not a node: 'y = Relu'"),
    ("an operand that is none", "x[3] -> y; y = Add(x, W[3)", "not an operand"),
    ("an input without a name", "[3] -> y; y = Relu(x)", "not an input"),
    ("what onnx cannot parse", "x[3] -> y; y == Relu(x)", "not a graph"),
]


@pytest.mark.parametrize(("fact", "text", "message"), MISTAKES, ids=[row[0] for row in MISTAKES])
def test_a_text_that_is_no_graph_is_refused(fact: str, text: str, message: str) -> None:
    """With the part that is wrong."""
    with pytest.raises(UsageError, match=message):
        build(text)
