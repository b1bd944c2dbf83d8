"""Random inputs that fit a model's input descriptions: reproducible, finite, and inside the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["InputLike", "InputSpec", "random_feeds", "resolve_shape"]


class InputLike(Protocol):
    """Anything with a name, a numpy dtype and a shape: an `InputSpec`, or a model's own tensor description."""

    @property
    def name(self) -> str:
        """The input's name, as the feeds call it."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the array that the input takes."""

    @property
    def shape(self) -> tuple[int | str | None, ...]:
        """Sizes; a string is a symbolic dimension, None an unnamed one."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a model: its name, the dtype of its array, its shape (a string is symbolic, None unnamed)."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]


def resolve_shape(shape: Sequence[int | str | None], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Every symbolic dimension takes its size from `sizes`, and 1 where `sizes` does not name it."""
    return tuple(d if isinstance(d, int) else sizes.get(d, 1) if isinstance(d, str) else 1 for d in shape)


def random_feeds(
    inputs: Sequence[InputLike],
    sizes: Mapping[str, int] | None = None,
    bounds: Mapping[str, int] | None = None,
    seed: int = 0,
) -> dict[str, npt.NDArray[Any]]:
    """One array per input, the same for the same seed: floats from N(0, 1), integers from [0, bound), fair booleans.

    `sizes` gives the symbolic dimensions (default 1), `bounds` the exclusive upper bound of an integer input by its
    name (default 2, which serves masks and token types; token ids want their vocabulary). An input's values depend
    on the seed and its own position only, so a changed dtype elsewhere does not move them.
    Raises ValueError for a bound below 1.
    """
    sizes, bounds = sizes or {}, bounds or {}
    feeds: dict[str, npt.NDArray[Any]] = {}
    for position, spec in enumerate(inputs):
        generator = np.random.default_rng((seed, position))
        bound = bounds.get(spec.name, 2)
        if bound < 1:
            raise ValueError(
                f"input '{spec.name}': integers are drawn from [0, bound), so the bound {bound} leaves none"
            )
        feeds[spec.name] = _draw(generator, spec.dtype, resolve_shape(spec.shape, sizes), bound)
    return feeds


def _draw(generator: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...], bound: int) -> npt.NDArray[Any]:
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(np.bool_)
    if dtype.kind in "iu":
        return generator.integers(0, min(bound, int(np.iinfo(dtype).max) + 1), shape).astype(dtype)
    if dtype.kind in "OSUT":
        return np.full(shape, "a", dtype=object)
    if "int" in dtype.name:  # the 4-bit integers of ml_dtypes, which numpy does not know as integers
        return generator.integers(0, min(bound, 8), shape).astype(dtype)
    return generator.standard_normal(shape).astype(dtype)
