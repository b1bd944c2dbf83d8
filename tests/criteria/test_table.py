"""docs/criteria.md is current, and every criterion says where it comes from."""

from __future__ import annotations

import pytest

from onnxprune.criteria import CRITERIA
from tools import criteria_table


def test_the_page_is_current() -> None:
    """It is what `python tools/criteria_table.py` writes."""
    assert criteria_table.PAGE.read_text(encoding="utf-8") == criteria_table.page()


@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_is_one_line_under_its_name(name: str) -> None:
    """The registry calls it what it calls itself."""
    assert CRITERIA[name].name == name
    assert "\n" not in CRITERIA[name].about
