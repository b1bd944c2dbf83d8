"""Tokenised text becomes what the model takes: what is left out is added, short rows are padded and masked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxprune.data import load
from onnxprune.errors import UsageError
from tests.test_data import Input

LONG = np.dtype(np.int64)
IDS = np.array([[5, 6, 7], [8, 9, 1]], np.int32)


def inputs(length: int | str, *names: str) -> list[Input]:
    return [Input(name, ("N", length), LONG) for name in names]


def test_what_is_left_out_is_added(tmp_path: Path) -> None:
    """No padding, one segment, positions in order; int32 becomes int64."""
    np.savez(tmp_path / "t.npz", input_ids=IDS)
    names = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
    samples = load(str(tmp_path / "t.npz"), inputs("T", *names))
    assert [array.dtype for array in samples.arrays.values()] == [LONG] * 4
    assert [samples.arrays[name].tolist() for name in names] == [
        IDS.tolist(), [[1] * 3] * 2, [[0] * 3] * 2, [[0, 1, 2]] * 2,
    ]  # fmt: skip


def test_what_is_given_is_taken_as_it_is(tmp_path: Path) -> None:
    """A mask may be of truth values or numbers; what the model does not take is left alone."""
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    np.savez(tmp_path / "t.npz", input_ids=IDS, attention_mask=mask, token_type_ids=IDS, labels=np.array([0, 1]))
    samples = load(
        str(tmp_path / "t.npz"), [*inputs("T", "input_ids"), Input("attention_mask", ("N", "T"), np.dtype(bool))]
    )
    assert list(samples.arrays) == ["input_ids", "attention_mask"]
    assert samples.arrays["attention_mask"].tolist() == mask.astype(bool).tolist()
    assert samples.labels is not None


def test_short_rows_are_padded_at_the_end(tmp_path: Path) -> None:
    """With the token that the file names, masked."""
    np.savez(tmp_path / "t.npz", input_ids=IDS, pad_token_id=4)
    samples = load(str(tmp_path / "t.npz"), inputs(5, "input_ids", "attention_mask", "position_ids"))
    assert samples.arrays["input_ids"].tolist() == [[5, 6, 7, 4, 4], [8, 9, 1, 4, 4]]
    assert samples.arrays["attention_mask"].tolist() == [[1, 1, 1, 0, 0]] * 2
    assert samples.arrays["position_ids"].tolist() == [[0, 1, 2, 3, 4]] * 2


def test_rows_that_cannot_be_made_to_fit_are_refused(tmp_path: Path) -> None:
    """Too long, or without a mask that could say what is padding."""
    np.savez(tmp_path / "t.npz", input_ids=IDS)
    with pytest.raises(UsageError, match=r"rows of 3 tokens; the model takes 2: cut them when tokenising"):
        load(str(tmp_path / "t.npz"), inputs(2, "input_ids", "attention_mask"))
    with pytest.raises(UsageError, match=r"the model takes 5 and no attention_mask, so they cannot be padded"):
        load(str(tmp_path / "t.npz"), inputs(5, "input_ids"))
