"""What a run suggests where pruning made a model much worse: only what is open to it and was not done."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxprune.data import Samples
from onnxprune.dependency import analyse
from onnxprune.remedies import warned
from onnxprune.runtime.change import Change
from onnxprune.testing import build
from onnxprune.unit import Dropping, Recovery, Unit

CHAIN = "x[N,6] -> y; h = MatMul(x, V[6,8]); y = MatMul(h, W[8,4])"
RESIDUAL = "x[N,6] -> y; r = Relu(x); h = MatMul(r, V[6,8]); g = MatMul(h, W[8,6]); y = Add(r, g)"
FAR = Change(0.4, None, "y")
DEFAULT = {"allocation": "auto", "criterion": "auto", "recover": "auto"}
ENOUGH = 256


def unit(text: str = CHAIN, samples: int = ENOUGH, branches: bool = False, **fields: Any) -> Unit:
    """What is known of a run: the options of a pass, what was aimed for, how many samples there were."""
    model = build(text)
    options = {**DEFAULT, **fields.pop("options", {})}
    x = np.zeros((samples, 6), np.float32)
    gone = (Dropping("Add_3", "Add_3", 0.1, True),) if branches else ()
    return Unit(
        source=model, analysis=analyse(model), samples=Samples("x", {"x": x}), branches=gone,
        options=(("some", options),), **fields,
    )  # fmt: skip


@pytest.mark.parametrize("after", [None, Change(0.3, None, "y")])
def test_nothing_is_said_of_what_is_near(after: Change | None) -> None:
    """Nor where nothing was measured."""
    assert warned(unit(), after) == ()


@pytest.mark.parametrize(
    ("known", "remedies"),
    [
        (unit(), []),
        (unit(options={"allocation": "uniform", "criterion": "l2"}), ["--allocation best", "--criterion obd"]),
        (unit(options={"allocation": "best", "criterion": "obd"}), []),
        (unit(options={"round_to": "auto"}, targets={"macs": (0.5, 0.5)}), ["--round-to 1"]),
        (unit(options={"round_to": "auto"}, targets={"latency": (0.5, 0.5)}), []),
        (unit(options={"recover": "norm"}, samples=20), ["--recover", "samples than 20"]),
        (unit(RESIDUAL), []),
        (unit(RESIDUAL, targets={"latency": (0.5, 0.5)}), ["--granularity branch"]),
        (unit(CHAIN, targets={"latency": (0.5, 0.5)}), []),
        (unit(RESIDUAL, branches=True, targets={"latency": (0.5, 0.5)}, options={"criterion": "forward"}), []),
        (unit(shift={"norm": np.ones(1)}), ["real inputs"]),
    ],
)
def test_what_helps_is_named(known: Unit, remedies: list[str]) -> None:
    """The best two of what is open to the model and was not done; to take less away always helps."""
    (said,) = warned(known, FAR)
    assert "relative error 0.40" in said
    first, *others = said.partition("): ")[2].split("; or ")
    found = [first, *others]
    assert found[-1] == "take less away"
    assert len(found) == len(remedies) + 1
    for remedy, sentence in zip(remedies, found, strict=False):
        assert remedy in sentence


def test_what_is_left_is_what_was_taken() -> None:
    """A repair that was refused leaves the model as it was."""
    near, far = Change(0.1, None, "y"), Change(0.2, None, "y")
    assert Recovery("reconstruct", far, near).left_with == near
    assert Recovery("reconstruct", near, far, taken=False).left_with == near
