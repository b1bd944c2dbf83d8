"""What the tools judge with: a model is as good as itself, and one whose weights are noise is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxprune.model import Edit, Model
from tools.recovery import results
from tools.subjects import subject


@pytest.mark.parametrize(("name", "original"), [("stories260k_llama", 3.08), ("byte_sb_bidi_lstm", 67.8)])
def test_a_model_is_as_good_as_itself(name: str, original: float, assets: Path) -> None:
    """The metric of the original twice, and no divergence; half of a matrix left out, it is worse and diverges."""
    who = subject(name, assets)
    model = Model.load(who.path)
    same = who.judge(model)
    assert same.before == same.after == pytest.approx(original, abs=0.05)
    assert same.kl == 0
    assert not {*map(bytes, who.drawn(0))} & {*map(bytes, next(iter(who.test.arrays.values())))}
    edit = Edit(model)
    for weight in [name for name, info in model.weights.items() if len(info.shape) == 2]:
        edit.replace(weight, np.where(np.arange(model.array(weight).shape[0])[:, None] % 2, model.array(weight), 0))
    other = who.judge(edit.done())
    assert other.kl > 0.01
    assert other.before == same.before
    assert other.after > same.before if name == "stories260k_llama" else other.after < same.before


def test_no_data_is_known(assets: Path) -> None:
    """A model that the tools have nothing to feed with is named."""
    with pytest.raises(ValueError, match="no data is known"):
        subject("gtcrn", assets)


def test_results_of_earlier_states_are_read(tmp_path: Path) -> None:
    """They know nothing but top-1."""
    file = tmp_path / "results.jsonl"
    file.write_text('{"model": "m", "amount": "2:4", "recipe": "default", "seed": 0, "top1": 90.5, "kl": 0.25}\n')
    (cell,) = results(file)
    assert (cell.after, cell.kl, cell.metric) == (90.5, 0.25, "top-1")
