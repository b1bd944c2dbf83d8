from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from onnxprune.runtime.comparison import CEILING, FLOORS, Noise, compare, float_noise

NAN, INF = np.nan, np.inf
RNG = np.random.default_rng(0)
NORMAL = RNG.standard_normal(1000)
BIG = np.where(np.arange(1000) == 7, -3.0e38, NORMAL)
HALF_ZERO = np.maximum(NORMAL, 0)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def one(a: Any, b: Any, noise: Noise | None = None) -> Any:
    return compare([{"y": a}], [{"y": b}], noise)


def with_error(values: np.ndarray, relative: float, dtype: Any = np.float32, at: int = 3) -> tuple[Any, Any]:
    """`values`, and the same with one element off by `relative` times their root mean square without outliers."""
    off = values.copy()
    off[at] += relative
    return values.astype(dtype), off.astype(dtype)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (f32(1, 2, 3), f32(1, 2, 3)),
        (f32(1, NAN, INF, -INF), f32(1, NAN, INF, -INF)),
        (f32(0, 0), f32(0, 1e-7)),
        (f32(), f32()),
        (f32(NAN), f32(NAN)),
        with_error(NORMAL, 1e-6),
        with_error(NORMAL * 1e-20, 1e-26),
        with_error(NORMAL, 1e-10, np.float64),
        with_error(NORMAL, 2e-3, np.float16),
        with_error(NORMAL, 1e-2, ml_dtypes.bfloat16),
        with_error(NORMAL, 0.1, ml_dtypes.float8_e4m3fn),
        with_error(BIG, 1e-6),
        with_error(HALF_ZERO, 5e-6),
        (f32(3e38, -3e38), f32(3.00001e38, -3e38)),
        (np.array([1, 2]), np.array([1, 2])),
        (np.array([True, False]), np.array([True, False])),
        (np.array(["a", "b"], object), np.array(["a", "b"], object)),
        (np.array([1 + 2j], np.complex64), np.array([1 + 2j], np.complex64)),
        ([f32(1), f32(2)], [f32(1), f32(2)]),
        ([], []),
        (None, None),
        ([{1: 0.5, 2: 0.25}], [{1: 0.5, 2: 0.25}]),
        (np.float32(1), np.float32(1)),
    ],
)
def test_passes(a: Any, b: Any) -> None:
    """What is equal, or off by less than the dtype's floor on the output's own scale, passes without any noise."""
    found = one(a, b)
    assert found.passed, found.detail
    assert found.max_error < 0.2


@pytest.mark.parametrize(
    ("a", "b", "detail"),
    [
        (f32(1, 2), f32(1, 2.001), "relative error 0.0005, tolerance 2e-05"),
        (f32(1, 2), f32(1, 2, 3), "float32 of shape (2,) against float32 of shape (3,)"),
        (f32(1, 2), np.array([1.0, 2.0]), "float32 of shape (2,) against float64 of shape (2,)"),
        (f32(1, NAN), f32(1, 2), "different positions"),
        (f32(1, 2), f32(1, NAN), "different positions"),
        (f32(1, INF), f32(1, -INF), "different positions"),
        (f32(1, INF), f32(1, NAN), "different positions"),
        (f32(0, 0), f32(0, 1e-3), "relative error 0.001"),
        (*with_error(NORMAL, 1e-3), "tolerance 2e-05"),
        (*with_error(NORMAL * 1e-20, 1e-23), "tolerance 2e-05"),
        (*with_error(NORMAL, 5e-2, np.float16), "tolerance 0.01"),
        (*with_error(NORMAL, 0.3, ml_dtypes.bfloat16), "tolerance 0.05"),
        (*with_error(BIG, 1e-3), "tolerance 2e-05"),
        (*with_error(HALF_ZERO, 1e-3), "tolerance 2e-05"),
        (f32(3e38, -3e38), f32(-3e38, -3e38), "relative error 2"),
        (np.array([1, 2]), np.array([1, 3]), "1 of 2 elements differ, none may"),
        (np.array([True]), np.array([False]), "1 of 1 elements differ"),
        (np.array(["a"], object), np.array(["b"], object), "1 of 1 elements differ"),
        ([f32(1)], [f32(1), f32(2)], "a sequence of 1 against a sequence of 2"),
        ([f32(1), f32(2)], [f32(1), f32(3)], "output 'y[1]': relative error 0.5"),
        ([{1: 0.5}], [{2: 0.5}], "a map of 1 keys, 1 against a map of 1 keys, 2"),
        ([{"a": 0.5}], [{"a": 0.75}], "output 'y[0]['a']': relative error 0.5"),
        (None, f32(1), "nothing against float32 of shape (1,)"),
        (f32(1), [f32(1)], "against a sequence of 1"),
    ],
)
def test_fails(a: Any, b: Any, detail: str) -> None:
    """What differs fails, and the sentence says how."""
    found = one(a, b)
    assert not found.passed
    assert detail in found.detail
    assert found.worst_output.startswith("y")


def test_boxes_do_not_hide_scores() -> None:
    """In one output of box coordinates and class scores, a wrong score fails although it is tiny beside the boxes."""
    scores = RNG.random((80, 100)) * 1e-2
    output = np.concatenate([RNG.random((4, 100)) * 640, scores]).astype(np.float32)
    wrong = output.copy()
    wrong[50, 50] *= 1.1
    assert not one(output, wrong).passed


def test_noise_raises_the_tolerance_of_its_own_output_only() -> None:
    """An error inside eight times the noise passes, beyond it fails, and another output is judged as before."""
    y, y_again = with_error(NORMAL, 1e-4)
    _, inside = with_error(NORMAL, 4e-4)
    _, beyond = with_error(NORMAL, 4e-3)
    noise = float_noise([{"y": y, "z": y}], [{"y": y_again, "z": y}])
    assert 0.5e-4 < noise.errors["y"] < 2e-4
    assert noise.errors["z"] == 0.0
    assert not one(y, inside).passed
    assert one(y, inside, noise).passed
    assert not one(y, beyond, noise).passed
    found = compare([{"y": y, "z": y}], [{"y": inside, "z": inside}], noise)
    assert (found.passed, found.worst_output) == (False, "z")


def test_flips_are_allowed_as_often_as_noise_flips() -> None:
    """Where optimisation alone moves one class in 400, a few more may move; where it moves none, none may."""
    classes = np.zeros(400, np.int64)
    flipped = {n: np.where(np.arange(400) < n, 1, 0) for n in (1, 5, 40)}
    noise = float_noise([{"y": classes}], [{"y": flipped[1]}])
    assert noise.shares == {"y": 1 / 400}
    assert one(classes, flipped[5], noise).passed
    assert not one(classes, flipped[40], noise).passed
    assert not one(classes, flipped[1]).passed


@pytest.mark.parametrize("again", [f32(5, -1, 3), f32(NAN, 1, 2), f32(1, 2)])
def test_an_unstable_model_does_not_pass_everything(again: np.ndarray) -> None:
    """However different its two runs are, noise excuses no more than the ceiling."""
    first = f32(1, 2, -4)
    noise = float_noise([{"y": first}], [{"y": again}])
    assert one(first, first, noise).passed
    assert not one(first, first + np.float32(4 * CEILING), noise).passed


def test_the_worst_of_all_samples_counts() -> None:
    """One bad sample among good ones fails, and the largest error of all is reported."""
    good, bad = {"y": f32(1, 1)}, {"y": f32(1, 2)}
    found = compare([good, good, good], [good, bad, good])
    assert (found.passed, found.max_error, found.worst_output) == (False, 1.0, "y")


def test_a_missing_output_fails() -> None:
    """An output that only one side has is a difference."""
    assert not compare([{"y": f32(1), "z": f32(1)}], [{"y": f32(1)}]).passed
    assert not compare([{"y": f32(1)}], [{"y": f32(1), "z": f32(1)}]).passed


def test_nothing_is_not_compared() -> None:
    """No samples, or a different number of them, is a mistake of the caller and never a pass."""
    for count in (0, 1):
        with pytest.raises(ValueError, match="cannot compare"):
            compare([{"y": f32(1)}] * count, [])


def test_the_error_is_the_same_at_every_scale() -> None:
    """Multiplying both sides changes nothing, because the scale is the output's own."""
    a, b = with_error(NORMAL, 1e-3, np.float64)
    errors = [one(a * s, b * s).max_error for s in (1e-30, 1.0, 1e30)]
    np.testing.assert_allclose(errors, errors[0], rtol=1e-6)


def test_floors_are_above_rounding() -> None:
    """Every floor leaves room for several units in the last place of its dtype."""
    for name, floor in FLOORS.items():
        dtype: Any = ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name)
        assert floor > 5 * float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]
