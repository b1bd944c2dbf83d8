"""What each granularity keeps, against counting by hand; how much of each layer goes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxprune.errors import UsageError
from onnxprune.model import Array
from onnxprune.sparsity import granularity_of
from onnxprune.sparsity.allocation import Share, allocated

SHAPES = [(1, 8, 8, 9), (1, 6, 5, 1), (2, 3, 7, 4), (4, 1, 1, 9)]
# rows and columns of what lives and dies together, by (outputs, inputs, positions)
TILES: dict[str, Callable[[int, int, int], tuple[int, int]]] = {
    "element": lambda o, i, k: (1, 1),
    "kernel": lambda o, i, k: (1, k),
    "vector:4": lambda o, i, k: (4, k),
    "block:2x3": lambda o, i, k: (2, 3),
    "stripe": lambda o, i, k: (o, 1),
}


def importance(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng(seed).random(shape) ** 4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("text", TILES)
def test_boxes_go_whole_and_the_least_go_first(text: str, shape: tuple[int, int, int, int]) -> None:
    """Counted tile by tile: all of one fate, none that goes more important than one that stays, as many as asked."""
    form, values = granularity_of(text), importance(shape)
    if form.why_not(shape):
        assert all(n <= t for n, t in zip((shape[1], shape[2] * shape[3]), TILES[text](*shape[1:]), strict=True))
        return
    keep = form.select(values, 0.5)
    rows, columns = TILES[text](*shape[1:])
    flat, matrix = keep.reshape(shape[0], shape[1], -1), values.reshape(shape[0], shape[1], -1)
    stay: list[float] = []
    go: list[float] = []
    largest = 0
    for g in range(shape[0]):
        for r in range(0, shape[1], rows):
            for c in range(0, flat.shape[2], columns):
                box = flat[g, r : r + rows, c : c + columns]
                assert box.all() or not box.any()
                (stay if box.all() else go).append(matrix[g, r : r + rows, c : c + columns].mean())
                largest = max(largest, box.size)
    assert max(go, default=0) <= min(stay)
    assert abs(keep.size / 2 - keep.sum()) <= largest
    sums, sizes = form.units(values)
    assert (sums.sum(), sizes.sum()) == (pytest.approx(values.sum()), values.size)


@pytest.mark.parametrize("sparsity", [0.0, 0.25, 0.5, 0.9, 0.999])
def test_the_sparsity_is_met_to_the_weight(sparsity: float) -> None:
    """And something always stays."""
    keep = granularity_of("element").select(importance((1, 10, 10, 1)), sparsity)
    assert int(keep.sum()) == max(1, round(100 * (1 - sparsity)))


def test_each_output_gives_up_its_own_share() -> None:
    values = importance((2, 5, 8, 1)) * np.arange(1, 6)[None, :, None, None]
    keep = granularity_of("element").select(values, 0.5, per_output=True)
    assert (keep.sum(axis=(2, 3)) == 4).all()
    assert not (granularity_of("element").select(values, 0.5).sum(axis=(2, 3)) == 4).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("text", "n", "m"), [("2:4", 2, 4), ("1:4", 1, 4), ("4:8", 4, 8), ("1:16", 1, 16)])
def test_n_of_m_inputs_stay(text: str, n: int, m: int, shape: tuple[int, int, int, int]) -> None:
    """The largest N of every group along the inputs, the last group as if filled up with zeros."""
    form, values = granularity_of(text), importance(shape)
    keep = form.select(values, 0.123)
    for start in range(0, shape[2], m):
        part, kept = values[:, :, start : start + m], keep[:, :, start : start + m]
        count = min(n, part.shape[2])
        assert (kept.sum(axis=2) == count).all()
        best = np.sort(part, axis=2)[:, :, -count:].sum(axis=2)
        assert np.allclose((part * kept).sum(axis=2), best)
    assert form.holds(keep)
    assert form.stated(shape) == pytest.approx(1 - keep.mean())
    if shape[2] > n:
        assert not form.holds(np.ones(shape, np.bool_))
        assert form.why_not(shape) == ""


def test_the_letter_n_leaves_it_to_the_sparsity() -> None:
    form, values = granularity_of("N:8"), importance((1, 4, 16, 1))
    assert form.stated((1, 4, 16, 1)) is None
    assert [int(form.select(values, s).sum()) for s in (0.75, 0.5, 0.99)] == [16, 32, 8]
    sums, sizes = form.units(values)
    assert sizes.tolist() == [8.0] * 8
    assert np.all(np.diff(sums) > 0)
    assert sums.sum() == pytest.approx(values.sum())


def test_patterns_are_few_and_each_kernel_has_its_best() -> None:
    form, values = granularity_of("pattern:4"), importance((1, 32, 16, 9))
    keep = form.select(values, 0.0).reshape(-1, 9)
    patterns = np.unique(keep, axis=0)
    assert len(patterns) == 8
    assert (keep.sum(axis=1) == 4).all()
    kernels = values.reshape(-1, 9)
    assert np.allclose((kernels * keep).sum(axis=1), (kernels @ patterns.T).max(axis=1))
    assert form.stated((1, 1, 1, 9)) == pytest.approx(5 / 9)
    assert granularity_of("pattern").select(values, 2 / 3).reshape(-1, 9).sum(axis=1).max() == 3
    assert form.why_not((1, 8, 8, 1)) == "a kernel of 1 has no pattern of 4"


@pytest.mark.parametrize("text", ["2:2", "4:2", "0:4", "2:0", "vector", "vector:0", "block:4", "block:0x4", ""])
def test_what_is_none_is_said_to_be_none(text: str) -> None:
    with pytest.raises(UsageError, match="--granularity"):
        granularity_of(text)


def test_small_layers_stay_denser_with_erk() -> None:
    """By hand: raw densities (sum of sizes / product of sizes), scaled to the budget, no more than dense."""
    shares = [Share((4, 3, 3, 3)), Share((64, 64, 3, 3)), Share((128, 64))]
    found = allocated("erk", shares, 0.8)
    numbers = [share.numbers for share in shares]
    raw = np.array([sum(share.dims) / share.numbers for share in shares])
    assert found[0] == 0.0
    assert (1 - found[1]) / (1 - found[2]) == pytest.approx(raw[1] / raw[2])
    assert np.dot(found, numbers) == pytest.approx(0.8 * sum(numbers))
    assert allocated("uniform", shares, 0.3) == [0.3] * 3


def test_global_takes_the_least_wherever_it_is_and_empties_no_layer() -> None:
    shares = [
        Share((4, 1), np.array([0.1, 0.2, 0.3, 0.4]), np.ones(4)),
        Share((4, 1), np.array([1.0, 2.0, 0.15, 0.05]), np.ones(4)),
    ]
    assert allocated("global", shares, 0.5) == [0.5, 0.5]
    assert allocated("global", shares, 0.875) == [0.75, 0.75]
    with pytest.raises(UsageError, match="expected one of uniform, global, erk, loss"):
        allocated("even", shares, 0.5)


def test_loss_gives_every_layer_the_n_that_lose_least_together() -> None:
    """Against all 4^3 choices of N of 4: none with as many zeros loses a smaller share of its layers in sum."""
    form = granularity_of("N:4")
    layers = [importance((1, 8, 16, 1), seed) ** power for seed, power in ((0, 1), (1, 2), (2, 0.2))]
    lost, gone = np.zeros((3, 4)), np.zeros((3, 4))
    shares = []
    for k, values in enumerate(layers):
        sums, sizes = form.units(values)
        shares.append(Share((8, 16), sums / sizes, sizes))
        for n in range(4):
            away = ~form.select(values, n / 4)
            lost[k, n], gone[k, n] = values[away].sum() / values.sum(), away.sum()
    for sparsity in (1 / 12, 0.25, 0.5, 7 / 12, 0.75):
        found = [round(4 * share) for share in allocated("loss", shares, sparsity)]
        assert sum(found) == round(12 * sparsity)
        cost = sum(lost[k, n] for k, n in enumerate(found))
        others = [choice for choice in np.ndindex(4, 4, 4) if sum(choice) >= sum(found)]
        assert cost <= min(sum(lost[k, n] for k, n in enumerate(choice)) for choice in others) + 1e-9
    assert len(set(allocated("loss", shares, 7 / 12))) > 1


def test_what_a_large_piece_would_overshoot_smaller_ones_fill() -> None:
    """A layer of ten times the weights has the least piece, and would go past what was asked."""
    shares = [Share((10, 40), np.array([1.0, 5, 6, 7]), np.full(4, 100.0)),
              Share((10, 4), np.array([20.0, 30, 40, 50]), np.full(4, 10.0))]  # fmt: skip
    assert allocated("loss", shares, 20 / 440) == [0.0, 0.5]
    assert allocated("loss", shares, 120 / 440) == [0.25, 0.5]
    assert allocated("global", shares, 110 / 440) == [0.25, 0.25]
