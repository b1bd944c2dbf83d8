"""docs/operators.md is current, and no operator of the standard was forgotten."""

from __future__ import annotations

import onnx
import pytest

from tools import operators

STATED_FOR = f"opset {onnx.defs.onnx_opset_version()}\n"
CONTROL_FLOW = {"If", "Loop", "Scan"}  # they have no dimensions of their own: their bodies have
INTEGERS = {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"}


@pytest.fixture
def page() -> str:
    """The page as it is in the repository; of another onnx's standard nothing can be said."""
    text = operators.PAGE.read_text(encoding="utf-8")
    if STATED_FOR not in text:
        pytest.skip(f"docs/operators.md is not about {STATED_FOR.strip()}, which the installed onnx knows")
    return text


def test_the_page_is_current(page: str) -> None:
    """It is what `python tools/operators.py` writes."""
    assert page == operators.page()


def test_every_operator_is_spoken_of(page: str) -> None:
    """Each operator of the standard has a rule, or a reason why it can have none."""
    assert {row.name for row in operators.rows() if row.kind == "no rule"} <= CONTROL_FLOW | INTEGERS
