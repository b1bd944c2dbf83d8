"""Tokenised text as Hugging Face tokenizers give it, completed to what the model takes.

Where there are `input_ids`, an `attention_mask` that is missing is 1 everywhere, `token_type_ids` are 0, `position_ids`
count up; and a model of fixed length that has an attention mask gets shorter rows padded at the end, masked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from onnxprune.errors import UsageError

__all__ = ["IDS", "MASK", "completed"]

Array = npt.NDArray[Any]
IDS, MASK, TYPES, POSITIONS, PAD = "input_ids", "attention_mask", "token_type_ids", "position_ids", "pad_token_id"


class InputLike(Protocol):
    """What is asked of a model input."""

    @property
    def name(self) -> str:
        """The key of its array."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type."""

    @property
    def shape(self) -> tuple[int | str | None, ...] | None:
        """A number for each fixed axis."""


def completed(found: Mapping[str, Array], inputs: Sequence[InputLike], source: str) -> dict[str, Array]:
    """The arrays, with what the model takes beside `input_ids`, all as long as it takes them.

    `pad_token_id`, a number beside the arrays, is what pads `input_ids`; 0 without it.
    """
    arrays = dict(found)
    wanted = {info.name: info for info in inputs}
    ids = arrays.get(IDS)
    if ids is None or IDS not in wanted or ids.ndim != 2:
        return arrays
    if MASK in wanted and MASK in arrays:
        arrays[MASK] = arrays[MASK].astype(wanted[MASK].dtype)  # 0 and 1, whatever they are called
    pad = int(arrays.pop(PAD, np.zeros(1)).reshape(-1)[0])
    made = {
        MASK: np.ones(ids.shape, wanted[MASK].dtype if MASK in wanted else ids.dtype),
        TYPES: np.zeros_like(ids),
        POSITIONS: np.broadcast_to(np.arange(ids.shape[1], dtype=ids.dtype), ids.shape),
    }
    arrays.update((name, array) for name, array in made.items() if name in wanted and name not in arrays)
    length = (wanted[IDS].shape or (None,))[-1]
    if not isinstance(length, int) or length <= 0 or length == ids.shape[1]:
        return arrays
    if length < ids.shape[1]:
        raise UsageError(f"{source}: rows of {ids.shape[1]} tokens; the model takes {length}: cut them when tokenising")
    if MASK not in wanted:
        raise UsageError(
            f"{source}: rows of {ids.shape[1]} tokens; the model takes {length} and no {MASK}, so they cannot be padded"
        )
    for name in (IDS, MASK, TYPES):
        if name in wanted and arrays[name].shape == ids.shape:
            missing = ((0, 0), (0, length - ids.shape[1]))
            arrays[name] = np.pad(arrays[name], missing, constant_values=pad if name == IDS else 0)
    if POSITIONS in wanted and arrays[POSITIONS].shape == ids.shape:
        arrays[POSITIONS] = np.broadcast_to(np.arange(length, dtype=ids.dtype), (len(ids), length))
    return arrays
