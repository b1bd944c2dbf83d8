"""What a pruned file carries proves it again, and what was tampered with is told from what was never there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onnxprune import api, stamp
from onnxprune.dependency import analyse
from onnxprune.errors import VerificationFailed
from onnxprune.model import Model
from onnxprune.testing import build
from tests.commands import Commands

TEXT = "x[N,6] -> y; a = MatMul(x, A[6,16]); y = MatMul(a, B[16,5])"


@pytest.fixture
def pruned(desk: Path) -> Model:
    """`m.onnx`, and `o.onnx` that was made of it."""
    build(TEXT).save("m.onnx")
    return api.prune("m.onnx", "o.onnx", rounds=0).model


def test_the_plan_comes_back(pruned: Model) -> None:
    analysis = analyse(Model.load("m.onnx"))
    plan = stamp.plan_of(Model.load("o.onnx"), analysis)
    assert plan.counts == {analysis.groups[0].atom.id: 8}
    assert stamp.read(pruned)["sizes"] == {"N": 11}


def test_verify_proves_the_file_as_it_stands(onnxprune: Commands, pruned: Model) -> None:
    ran = onnxprune("verify", "m.onnx", "o.onnx")
    assert (ran.code, "verified: largest relative error" in ran.out) == (0, True)
    assert onnxprune("verify", "m.onnx", "o.onnx", "--quiet").out == ""


def test_changed_weights_are_noticed(onnxprune: Commands, pruned: Model) -> None:
    """A weight that was changed after the fact is not the plan's: exit code 5, and what differs."""
    proto = pruned.to_proto()
    raw = bytearray(proto.graph.initializer[0].raw_data)
    raw[3] ^= 0x40
    proto.graph.initializer[0].raw_data = bytes(raw)
    Path("o.onnx").write_bytes(proto.SerializeToString())
    ran = onnxprune("verify", "m.onnx", "o.onnx")
    assert (ran.code, "NOT verified" in ran.out, "output 'y'" in ran.out) == (5, True, True)
    assert onnxprune("verify", "m.onnx", "o.onnx", "--quiet").code == 5


def test_a_changed_original_is_noticed(onnxprune: Commands, pruned: Model) -> None:
    build(TEXT, seed=1).save("m.onnx")
    ran = onnxprune("verify", "m.onnx", "o.onnx")
    assert (ran.code, ran.out) == (5, "")
    assert "'o.onnx' was not made from 'm.onnx', or that was changed since" in ran.err


def test_a_file_without_a_stamp(onnxprune: Commands, pruned: Model) -> None:
    ran = onnxprune("verify", "m.onnx", "m.onnx")
    assert (ran.code, "does not say how it was pruned" in ran.err) == (2, True)


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no JSON": lambda s: "{",
    "no object": lambda s: [1],
    "no format": lambda s: {},
    "another format": lambda s: {**s, "format": 99},
    "no digest": lambda s: {**s, "original": None},
    "sizes that are none": lambda s: {**s, "sizes": {"N": "3"}},
    "no masks": lambda s: {**s, "keep": [1]},
    "a mask that is no text": lambda s: {**s, "keep": {"A[1]+0": 7}},
    "a mask that is no hex": lambda s: {**s, "keep": {"A[1]+0": "xy"}},
    "a mask that is too short": lambda s: {**s, "keep": {"A[1]+0": "ff"}},
    "a mask that is too long": lambda s: {**s, "keep": {"A[1]+0": "ffffff"}},
    "a mask that keeps nothing": lambda s: {**s, "keep": {"A[1]+0": "0000"}},
    "a size of no dimension": lambda s: {**s, "sizes": {"M": 3}},
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_stamp_is_said_to_be_so(onnxprune: Commands, pruned: Model, what: str) -> None:
    changed = DAMAGE[what](dict(stamp.read(pruned)))
    text = changed if isinstance(changed, str) else json.dumps(changed)
    pruned.with_metadata({stamp.KEY: text}).save("o.onnx")
    ran = onnxprune("verify", "m.onnx", "o.onnx")
    assert (ran.code, ran.out) == (2, ""), ran.err
    assert "Traceback" not in ran.err


def test_a_cut_of_a_group_that_is_none(pruned: Model) -> None:
    changed = pruned.with_metadata({stamp.KEY: json.dumps({**stamp.read(pruned), "keep": {"other": "ff"}})})
    with pytest.raises(VerificationFailed, match=r"states a cut at 'other', which this version .* does not find"):
        api.verify("m.onnx", changed)


def test_a_pruned_model_can_be_pruned_again(onnxprune: Commands, pruned: Model) -> None:
    """The second file is proven against the first, and is not taken for a cut of the original."""
    assert onnxprune("prune", "o.onnx", "-o", "p.onnx", "--rounds", 0).code == 0
    assert onnxprune("verify", "o.onnx", "p.onnx").code == 0
    assert onnxprune("verify", "m.onnx", "p.onnx").code == 5
