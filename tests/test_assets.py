"""Real models: what was refused once for no good reason is pruned, and what is refused is so for the right one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.assets import Row, markdown, summary, trial
from tools.page import written

ONCE_LEFT = [
    ("silero_vad_half", "the signal must be long enough to be reflected and give one frame"),
    ("ultraface_rfb_320", "all its weights are graph inputs as well"),
]


@pytest.mark.parametrize(("name", "why"), ONCE_LEFT, ids=[row[0] for row in ONCE_LEFT])
def test_what_was_left_once_is_pruned(name: str, why: str, assets: Path) -> None:
    """From the command line, verified, by default and without rounding."""
    row = trial(assets / "models" / f"{name}.onnx")
    assert (row.code, row.failed) == (0, False), row
    assert row.ratio < 0.6
    assert row.error < 1e-3


def test_a_recurrent_state_is_an_interface(assets: Path) -> None:
    """Who calls it keeps the state between calls: the reason names the input that it comes in by."""
    row = trial(assets / "models" / "dtln_1.onnx")
    assert (row.code, row.groups, row.failed) == (1, 0, False)
    assert "a graph input (input_3)" in row.why


def test_the_table_goes_between_its_marks() -> None:
    """The summary counts, and the rest of the page stays."""
    rows = [Row("a", 0, 3, 100, 0.25, 0.5, 1e-6, 1.0), Row("b", 1, ratio=1.0, rounded=1.0), Row("c", 5, 2, ratio=1.0)]
    assert summary(rows) == "3 models: 1 pruned and verified, 1 wholly fixed, 1 failed; mean ratio 0.750"
    table = markdown(rows)
    assert "| a | 3 | 0.250 | 0.500 | 1e-06 | 1.0 |  |" in table
    page = "head\n<!-- assets -->\nold\n<!-- /assets -->\ntail\n"
    assert written(page, "assets", table) == f"head\n<!-- assets -->\n\n{table}\n<!-- /assets -->\ntail\n"
    assert written("", "zoo", table) == table
    with pytest.raises(ValueError, match="no marks <!-- zoo -->"):
        written(page, "zoo", table)  # a page is not lost
    with pytest.raises(ValueError, match="no marks"):
        written(page.replace("<!-- /assets -->", ""), "assets", table)  # nor is what follows a table without an end
