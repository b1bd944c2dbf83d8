"""Graphs of the zoo that went wrong once, each for a reason of its own, are proven; the tool says what it found."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tools.zoo import Row, index, markdown, references, summary, trial

ONCE_WRONG = [
    ("hf_bloom", "the batch is found by dividing batch x heads by the heads"),
    ("hf_deberta_v2", "a table is repeated as often as that batch"),
    ("hf_roformer", "positions up to a dynamic length"),
    ("hfdyn_deberta_v2", "the same from another exporter"),
    ("timm_nf_resnet26", "weights are standardised in the graph"),
    ("hf_cond_detr", "a computed weight is made from what is cut as well"),
    ("hf_swin2sr", "a table of positions is picked from over two axes"),
]


@pytest.mark.parametrize(("name", "why"), ONCE_WRONG, ids=[row[0] for row in ONCE_WRONG])
def test_what_went_wrong_once_is_proven(name: str, why: str, zoo: Path) -> None:
    """Verified, or nothing is cut; and not above the reference."""
    entry = next(entry for entry in index(zoo) if entry["name"] == name)
    row = trial(zoo, entry, references(zoo)[name], "random", seed=0)
    assert row.verdict in ("verified", "refused"), row
    assert not row.above, row


def test_the_summary_counts_and_the_table_holds_what_is_odd() -> None:
    """Plain successes are counted only."""
    rows = [
        Row("a", "verified", ratio=0.25, reference=0.25, work_s=0.5),
        Row("b", "verified", ratio=0.5, reference=0.4),
        Row("c", "partly", ratio=0.75, reference=math.nan, detail="output 'y': relative error 1"),
    ]
    assert summary(rows) == (
        "3 graphs: 2 verified, 1 partly, 0 refused, 0 failed; 0 below the reference, 1 above; mean ratio 0.500; "
        "1 under a second without verification"
    )
    assert [line.split(" | ")[0] for line in markdown(rows).splitlines()[4:]] == ["| b", "| c"]
