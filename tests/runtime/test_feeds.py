from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from onnxprune.runtime.feeds import InputSpec, random_feeds, resolve_shape


def spec(dtype: object, *shape: int | str | None, name: str = "x") -> InputSpec:
    return InputSpec(name, np.dtype(dtype), shape)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("shape", "sizes", "expected"),
    [
        ((2, 3), {}, (2, 3)),
        (("N", 3), {"N": 4}, (4, 3)),
        (("N", "N", None), {}, (1, 1, 1)),
        ((), {}, ()),
        ((0, 3), {}, (0, 3)),
    ],
)
def test_symbols_take_their_sizes(
    shape: tuple[int | str | None, ...], sizes: dict[str, int], expected: tuple[int, ...]
) -> None:
    """A symbol takes its size, or 1; an unnamed dimension is 1."""
    assert resolve_shape(shape, sizes) == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_floats_are_standard_normal(dtype: type) -> None:
    """Every float type gets N(0, 1), in its own dtype."""
    x = random_feeds([spec(dtype, 100, 100)])["x"]
    assert x.dtype == np.dtype(dtype)
    values = x.astype(np.float64)
    assert abs(values.mean()) < 0.05
    assert abs(values.std() - 1) < 0.05


@pytest.mark.parametrize(("dtype", "bound"), [(np.int64, 1000), (np.int32, 7), (np.uint8, 256), (np.int8, 1000)])
def test_integers_stay_below_their_bound(dtype: type, bound: int) -> None:
    """A token id is in the vocabulary, and no value wraps around in a narrow type."""
    x = random_feeds([spec(dtype, 5000)], bounds={"x": bound})["x"]
    assert x.dtype == np.dtype(dtype)
    assert x.min() == 0
    assert x.max() <= min(bound - 1, np.iinfo(dtype).max)
    assert x.max() > 0.9 * min(bound - 1, np.iinfo(dtype).max)


def test_integers_without_a_bound_are_bits() -> None:
    """Masks and token types are served without being told."""
    assert set(random_feeds([spec(np.int64, 100)])["x"].tolist()) == {0, 1}


def test_booleans_and_strings() -> None:
    """Booleans are of both kinds, strings are strings."""
    assert set(random_feeds([spec(np.bool_, 100)])["x"].tolist()) == {False, True}
    assert random_feeds([spec(object, 2)])["x"].tolist() == ["a", "a"]


def test_the_seed_decides() -> None:
    """The same seed gives the same arrays, another seed others, and two inputs are not copies of each other."""
    inputs = [spec(np.float32, 4, name="a"), spec(np.float32, 4, name="b")]
    once, again, other = random_feeds(inputs, seed=1), random_feeds(inputs, seed=1), random_feeds(inputs, seed=2)
    np.testing.assert_array_equal(once["a"], again["a"])
    assert not np.array_equal(once["a"], other["a"])
    assert not np.array_equal(once["a"], once["b"])


def test_an_empty_range_is_refused() -> None:
    """A bound below 1 names the input."""
    with pytest.raises(ValueError, match=r"input 'x'.*leaves none"):
        random_feeds([spec(np.int64, 3)], bounds={"x": 0})
