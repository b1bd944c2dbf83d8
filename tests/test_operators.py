"""docs/operators.md is current, and no operator of the standard was forgotten."""

from __future__ import annotations

import pytest

from tools import operators

# what has a CPU kernel in ONNX Runtime, and neither an optimiser nor an exporter of a common framework writes
NOBODY_WRITES = {
    "AttnLSTM", "BranchwiseRMSNorm", "CropAndResize", "EngramGate", "ExpandDims", "GatedRMSNorm",
    "HyperConnectionPostMix", "HyperConnectionPreMix", "Pad", "QMoE", "WordConvEmbedding",
}  # fmt: skip


@pytest.fixture
def page() -> str:
    """The page as it is in the repository; of another onnx or ONNX Runtime nothing can be said."""
    text = operators.PAGE.read_text(encoding="utf-8")
    for stated in operators.STATED_FOR:
        if stated not in text:
            pytest.skip(f"docs/operators.md is not about what is installed: {stated.strip('# ')}")
    return text


def test_the_page_is_current(page: str) -> None:
    """It is what `python tools/operators.py` writes."""
    assert page == operators.page()


def test_every_operator_is_spoken_of(page: str) -> None:
    """Each operator of the standard has a rule, or a reason why it can have none."""
    assert [row.name for row in operators.rows() if row.kind == "no rule"] == []


def test_every_operator_that_runs_is_spoken_of(page: str) -> None:
    """So has each of ONNX Runtime that runs on a CPU, but for those that nobody writes."""
    assert {row.name for row in operators.runtime_rows() if row.kind == "no rule" and row.runs} == NOBODY_WRITES
