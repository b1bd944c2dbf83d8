"""What a linear map brings back is not lost, and what a row is predicted from does not include itself."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.unexplained import MOST, RIDGE, unexplained


@pytest.mark.parametrize("shape", [(40, 3, 5), (20, 30, 2)])
def test_each_row_is_predicted_from_the_others(shape: tuple[int, int, int]) -> None:
    """The closed form is what a ridge regression without that row predicts, for few outputs and for many."""
    rows, m, n = shape
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(rows, m)), rng.normal(size=(rows, n))
    y[:, 0] += 3 * x[:, 0]
    weight = RIDGE * np.square(x - x.mean(axis=0)).sum() / m
    left = 0.0
    for row in range(rows):
        others = np.arange(rows) != row
        xs, ys = x[others], y[others]
        centred = xs - xs.mean(axis=0)
        found = np.linalg.solve(centred.T @ centred + weight * np.eye(m), centred.T @ (ys - ys.mean(axis=0)))
        left += float(np.square(y[row] - ys.mean(axis=0) - (x[row] - xs.mean(axis=0)) @ found).sum())
    assert unexplained(y, x) == pytest.approx(left / np.square(y - y.mean(axis=0)).sum())


def test_shift_scale_and_mixture_lose_nothing() -> None:
    """Noise does, the more the stronger; and a constant tells nothing."""
    rng = np.random.default_rng(2)
    y = rng.normal(size=(200, 4))
    mixed = 3 * y @ np.linalg.qr(rng.normal(size=(4, 4)))[0] + 7
    assert unexplained(y, mixed) < 0.01
    losses = [unexplained(y, mixed + sigma * rng.normal(size=y.shape)) for sigma in (0.3, 1.0, 3.0)]
    assert losses == sorted(losses)
    assert unexplained(y, np.full_like(y, 3.0)) == pytest.approx((200 / 199) ** 2)
    assert unexplained(y, rng.normal(size=(200, 150))) > 1
    assert unexplained(np.ones((9, 2)), y[:9]) == 0
    assert unexplained(np.tile(y, (20, 1)), np.tile(mixed, (20, 1))) < 0.01 < MOST
