"""Every solver against the same thing solved anew: inverses, losses of single removals, greedy orders, SparseGPT."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pytest

from onnxprune.solvers import (
    Reader,
    damped,
    damped_inverse,
    leave_one_out,
    masked_least_squares,
    obd,
    obs,
    sequential,
    sparsegpt,
    structured_obs,
    trace,
    upper_factor,
)
from tests.solvers.layer import Float, correlated, error, random, resolved

Mask = npt.NDArray[np.bool_]


@pytest.mark.parametrize("size", [1, 5, 64, 65, 200])
def test_the_inverse_is_the_inverse(size: int) -> None:
    """Of the damped matrix, and the factor is upper triangular and multiplies to it."""
    x = correlated(2 * size, size)
    gram = x.T @ x
    inverse, factor = damped_inverse(gram), upper_factor(gram)
    np.testing.assert_allclose(inverse @ damped(gram), np.eye(size), atol=1e-8)
    np.testing.assert_allclose(factor.T @ factor, inverse, rtol=1e-9, atol=1e-12)
    assert np.array_equal(factor, np.triu(factor))


def test_what_no_sample_speaks_of_stays_harmless() -> None:
    """Fewer samples than columns, a dead column, no samples at all, an eigenvalue below zero: finite and symmetric."""
    x = correlated(4, 12)
    x[:, 3] = 0
    for gram in (x.T @ x, np.zeros((12, 12)), -1e-3 * np.eye(12) + np.ones((12, 12))):
        inverse = damped_inverse(gram)
        assert np.isfinite(inverse).all()
        assert (np.linalg.eigvalsh(inverse) > 0).all()
    assert damped_inverse(np.stack([x.T @ x] * 2)).shape == (2, 12, 12)


def test_saliencies_are_errors_of_removals() -> None:
    """OBD: without repair. OBS: with all others of the row. SparseGPT's: with those behind it in the row alone."""
    x, weights = correlated(50, 6), random(3, 6)
    gram = damped(x.T @ x)
    for j in range(6):
        alone = weights.copy()
        alone[:, j] = 0
        kept = np.ones((3, 6), np.bool_)
        kept[:, j] = False
        best = resolved(weights, gram, kept)
        behind = np.zeros((3, 6), np.bool_)
        behind[:, j + 1 :] = True
        moved = np.zeros((3, 6))
        moved[:, j] = weights[:, j]
        repair = resolved(moved, gram, behind)
        for row in range(3):
            one = slice(row, row + 1)
            assert obd(weights, gram)[row, j] == pytest.approx(error(weights[one], alone[one], gram))
            assert obs(weights, damped_inverse(gram, 0))[row, j] == pytest.approx(
                error(weights[one], best[one], gram), rel=1e-6
            )
            assert sequential(weights, gram, 0)[row, j] == pytest.approx(error(moved[one], repair[one], gram), rel=1e-6)


def half(importance: Float, sparsity: float) -> Mask:
    """The published rule: what is not above the threshold of the slice goes."""
    flat = np.sort(importance.ravel())
    return np.asarray(importance > flat[int(flat.size * sparsity)]) if sparsity > 0 else np.ones(importance.shape, bool)


def two_of_four(importance: Float, sparsity: float) -> Mask:
    places = np.argsort(importance, axis=2)[:, :, :2]
    kept = np.ones(importance.shape, np.bool_)
    np.put_along_axis(kept, places, False, axis=2)
    return kept


def published(weights: Float, gram: Float, sparsity: float, block: int, n_of_m: bool) -> tuple[Float, Mask]:
    """SparseGPT as its authors wrote it down (algorithm 1 and their code), with a plain inverse and plain loops."""
    w = weights.copy()
    factor = np.linalg.cholesky(np.linalg.inv(damped(gram))).T  # upper: H^-1 = U^T U
    columns = w.shape[1]
    mask = np.zeros(w.shape, np.bool_)  # True goes, as there
    for i1 in range(0, columns, block):
        i2 = min(i1 + block, columns)
        if not n_of_m:
            tmp = w[:, i1:i2] ** 2 / np.diag(factor)[i1:i2] ** 2
            mask[:, i1:i2] = tmp <= np.sort(tmp.ravel())[int(tmp.size * sparsity)]
        errors = np.zeros((len(w), i2 - i1))
        for i in range(i1, i2):
            if n_of_m and i % 4 == 0:
                tmp = w[:, i : i + 4] ** 2 / np.diag(factor)[i : i + 4] ** 2
                np.put_along_axis(mask[:, i : i + 4], np.argsort(tmp, axis=1)[:, :2], True, axis=1)
            q = np.where(mask[:, i], 0, w[:, i])
            err = (w[:, i] - q) / factor[i, i]
            w[:, i:i2] -= np.outer(err, factor[i, i:i2])
            errors[:, i - i1] = err
        w[:, i2:] -= errors @ factor[i1:i2, i2:]
    w[mask] = 0
    return w, ~mask


@pytest.mark.parametrize(("n_of_m", "span"), [(False, 8), (True, 4)])
def test_sparsegpt_is_the_published_algorithm(n_of_m: bool, span: int) -> None:
    """Masks and weights agree with the plain one, for unstructured and for 2:4, and a last block that is smaller."""
    x, weights = correlated(100, 20), random(6, 20)
    expected, mask = published(weights, x.T @ x, 0.5, 8, n_of_m)
    found, kept = sparsegpt(
        weights[None, :, :, None], (x.T @ x)[None], two_of_four if n_of_m else half, 0.5, span=span, block=8
    )
    np.testing.assert_array_equal(kept[0, :, :, 0], mask)
    np.testing.assert_allclose(found[0, :, :, 0], expected, atol=1e-8)
    magnitude = np.where(kept, weights[None, :, :, None], 0)[0, :, :, 0]
    assert error(weights, expected, x.T @ x) < error(weights, magnitude, x.T @ x)


@pytest.mark.parametrize(("n_of_m", "span"), [(False, 128), (True, 4)])
@pytest.mark.parametrize("columns", [256, 300])
def test_sparsegpt_decides_in_blocks_of_128_columns(n_of_m: bool, span: int, columns: int) -> None:
    """By default, as its authors do: a layer wider than a block, also by less than one, against the plain algorithm.

    Another block gives another mask, so the size of the block is seen in what is found.
    """
    x, weights = correlated(400, columns), random(5, columns)
    select, matrix, gram = two_of_four if n_of_m else half, weights[None, :, :, None], (x.T @ x)[None]
    expected, mask = published(weights, gram[0], 0.5, 128, n_of_m)
    found, kept = sparsegpt(matrix, gram, select, 0.5, span=span)
    np.testing.assert_array_equal(kept[0, :, :, 0], mask)
    np.testing.assert_allclose(found[0, :, :, 0], expected, atol=1e-8)
    other = sparsegpt(matrix, gram, select, 0.5, span=span if n_of_m else 64, block=64)
    assert np.array_equal(other[1], kept) == n_of_m  # what N:M decides does not depend on it


def test_sparsegpt_of_groups_and_positions() -> None:
    """Groups are solved as layers of their own; N:M runs over inputs, at every position of the kernel."""
    weights = random(3, 4, 8, 2)
    grams = np.stack([x.T @ x for x in (correlated(60, 16, seed) for seed in range(3))])
    found, kept = sparsegpt(weights, grams, two_of_four, span=4)
    for group in range(3):
        one, mask = sparsegpt(weights[group][None], grams[group][None], two_of_four, span=4)
        np.testing.assert_array_equal(kept[group], mask[0])
        np.testing.assert_allclose(found[group], one[0], atol=1e-10)
    assert (kept.reshape(3, 4, 2, 4, 2).sum(axis=3) == 2).all()
    assert not found[~kept].any()
    again, same = sparsegpt(weights, grams, None, mask=kept, span=4)
    np.testing.assert_array_equal(same, kept)
    assert not again[~kept].any()


def test_sparsegpt_is_quick() -> None:
    """A 384 x 1024 layer takes well below a second where nothing else runs; one of 768 x 3072 takes five."""
    x, weights = np.random.default_rng(0).normal(size=(256, 1024)), random(1, 384, 1024, 1)
    begun = time.perf_counter()
    sparsegpt(weights, (x.T @ x)[None], two_of_four, span=4)
    assert time.perf_counter() - begun < 30


def greedy(readers: list[Reader], count: int) -> tuple[list[int], list[float], list[Float]]:
    """Try every index, solve every reader anew, take the best; again and again."""
    gone: list[int] = []
    losses = []
    before = 0.0
    for _ in range(count):
        best, chosen = np.inf, -1
        for index in range(len(readers[0].columns)):
            if index in gone:
                continue
            total = sum(error(r.weights, without(r, [*gone, index]), damped(r.gram)) for r in readers)
            if total < best:
                best, chosen = total, index
        gone.append(chosen)
        losses.append(best - before)
        before = best
    return gone, losses, [without(r, gone) for r in readers]


def without(reader: Reader, gone: list[int]) -> Float:
    kept = np.ones(reader.weights.shape, np.bool_)
    kept[:, reader.columns[gone].ravel()] = False
    return resolved(reader.weights, damped(reader.gram), kept)


def readers(indices: int = 6) -> list[Reader]:
    """Two layers: one reads the indices at three scattered positions each, beside other columns; one in order."""
    generator = np.random.default_rng(5)
    scattered = generator.permutation(3 * indices + 4)[: 3 * indices].reshape(indices, 3)
    x, z = correlated(80, 3 * indices + 4, 2), correlated(70, indices, 3)
    return [
        Reader(random(5, 3 * indices + 4, seed=6), x.T @ x, scattered),
        Reader(random(4, indices, seed=7), z.T @ z, np.arange(indices)[:, None]),
    ]


@pytest.mark.parametrize("behind", [1, 7, 512])
def test_structured_obs_is_the_greedy_choice_solved_anew(behind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Order, losses and weights, however often the inverse is caught up with."""
    monkeypatch.setattr("onnxprune.solvers.structured._BEHIND", behind)
    for count in (0, 1, 4, 5):
        order, losses, weights = greedy(readers(), count)
        found = structured_obs(readers(), count)
        assert found.order.tolist() == order
        np.testing.assert_allclose(found.losses, losses, rtol=1e-6)
        for one, expected in zip(found.weights, weights, strict=True):
            np.testing.assert_allclose(one, expected, atol=1e-7)
        assert np.isinf(found.left).sum() == count


def test_one_removal_is_leave_one_out() -> None:
    """The first loss is the least of all; nothing that is removed costs as much as everything there is."""
    alone = leave_one_out(readers())
    found = structured_obs(readers(), 1)
    assert found.losses[0] == pytest.approx(alone.min())
    assert found.order[0] == alone.argmin()
    rest = structured_obs(readers())
    assert len(rest.order) == 5
    assert rest.losses.sum() < sum(reader.energy for reader in readers())


def test_obc_is_the_greedy_choice_of_every_row_solved_anew() -> None:
    """Weight by weight the one whose going costs least once the row is solved anew; costs never fall."""
    x, weights = correlated(60, 7), random(3, 7)
    gram = damped(x.T @ x)
    found = trace(weights, gram, 0)
    for row in range(3):
        kept = np.ones((1, 7), np.bool_)
        own, before, least = weights[row : row + 1], 0.0, 0.0
        for index in np.argsort(found[row]):
            losses = {}
            for other in np.flatnonzero(kept[0]):
                trial = kept.copy()
                trial[0, other] = False
                losses[other] = error(own, resolved(own, gram, trial), gram) - before
            assert losses[index] == pytest.approx(min(losses.values()), rel=1e-6)
            least = max(least, losses[index])
            assert found[row, index] == pytest.approx(least, rel=1e-6)
            before += losses[index]
            kept[0, index] = False


def test_masked_least_squares_is_solved_row_by_row() -> None:
    """Rows of one mask together, rows of their own, a row without anything."""
    x, weights = correlated(60, 8), random(5, 8)
    kept = np.random.default_rng(0).random((5, 8)) < 0.5
    kept[1], kept[3] = kept[0], False
    found = masked_least_squares(weights, x.T @ x, kept)
    np.testing.assert_allclose(found, resolved(weights, damped(x.T @ x), kept), atol=1e-10)
