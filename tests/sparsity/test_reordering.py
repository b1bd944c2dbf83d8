"""Channels in another order: the same function, and less is lost to N:M."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

import onnxprune
from onnxprune.dependency import analyse
from onnxprune.model import Array, Model
from onnxprune.permutation import movable, permuted
from onnxprune.runtime.feeds import InputSpec, random_feeds
from onnxprune.runtime.session import Session
from onnxprune.sparsity.reordering import search
from onnxprune.testing import build

SAME = {
    "mlp": "x[N,8] -> y; h = MatMul(x, A[8,12]); b = Add(h, B[12]); r = Relu(b); y = MatMul(r, C[12,4])",
    "residual": """
        x[N,4,5,5] -> y
        a = Conv(x, A[8,4,1,1]); b = Conv(a, B[8,8,1,1], D[8]); s = Add(a, b); y = Conv(s, C[4,8,1,1])
    """,
    "grouped": """
        x[N,4,5,5] -> y
        a = Conv(x, A[8,4,1,1]); b = Conv<group=2>(a, B[8,4,1,1]); y = Conv(b, C[4,8,1,1])
    """,
    "concat": """
        x[N,6] -> y
        a = MatMul(x, A[6,8]); b = MatMul(x, B[6,4]); c = Concat<axis=1>(a, b); y = MatMul(c, C[12,3])
    """,
    "flattened": "x[N,3,4,4] -> y; a = Conv(x, A[8,3,1,1]); f = Flatten(a); y = Gemm(f, C[128,5])",
    "shuffled": """
        x[N,4] -> y
        a = MatMul(x, A[4,6]); g = Gather<axis=1>(a, {5,3,1,0,2,4}); s = Add(a, g); y = MatMul(s, C[6,3])
    """,
    "heads": """
        x[N,5,12] -> y
        q = MatMul(x, Q[12,12]); k = MatMul(x, K[12,12]); v = MatMul(x, V[12,18])
        a = Reshape(q, {0,5,3,4}); b = Reshape(k, {0,5,3,4}); c = Reshape(v, {0,5,3,6})
        d = Transpose<perm=[0,2,1,3]>(a); e = Transpose<perm=[0,2,3,1]>(b); f = Transpose<perm=[0,2,1,3]>(c)
        s = MatMul(d, e); p = Softmax(s); o = MatMul(p, f)
        t = Transpose<perm=[0,2,1,3]>(o); u = Reshape(t, {0,5,18}); y = MatMul(u, O[18,12])
    """,
    "recurrent": """
        x[5,2,4] -> y
        h, s, c = LSTM<hidden_size=6>(x, W[1,24,4], R[1,24,6], B[1,48]); q = Squeeze(h, {1}); y = MatMul(q, C[6,3])
    """,
}


def feeds_of(model: Model) -> dict[str, Array]:
    inputs = [
        InputSpec(i.name, i.dtype, tuple(n if isinstance(n, int) else 3 for n in i.shape or ())) for i in model.inputs
    ]
    return random_feeds(inputs, seed=1)


@pytest.mark.parametrize("name", SAME)
def test_any_order_is_the_same_function(name: str) -> None:
    """Every movable group in a random order, at all its sites at once."""
    model = build(SAME[name])
    analysis, random = analyse(model), np.random.default_rng(0)
    groups = movable(analysis)
    assert bool(groups) == (name != "shuffled")
    changed = permuted(analysis, {g.atom.id: random.permutation(g.size) for g in groups})
    if groups:
        assert any(not np.array_equal(model.array(w), changed.array(w)) for w in model.weights)
    feed = feeds_of(model)
    before, after = (Session(m.to_bytes()).run(feed) for m in (model, changed))
    for output in before:
        np.testing.assert_allclose(after[output], before[output], rtol=1e-4, atol=1e-5)


def kept(matrix: Array, order: Array) -> float:
    """What 2:4 keeps of the columns in an order, by sorting."""
    grouped = np.sort(matrix[:, order].reshape(len(matrix), -1, 4), axis=2)
    return float(grouped[:, :, 2:].sum())


def test_two_groups_are_dealt_in_the_best_of_all_ways() -> None:
    """Against all orders of eight columns."""
    matrix = np.random.default_rng(0).random((5, 8)).astype(np.float32)
    best = max(kept(matrix, np.array(order)) for order in permutations(range(8)) if order[0] == 0)
    found = search(matrix, 2, 4)
    assert sorted(found) == list(range(8))
    assert kept(matrix, found) == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (1, 16)])
def test_what_can_be_kept_whole_is(n: int, m: int) -> None:
    """Columns of which all that is large stands in the same groups, until they are spread."""
    matrix = np.full((32, 4 * m), 0.01, np.float32)
    matrix[:, : 4 * n] = 1.0
    assert (search(matrix, n, m).reshape(4, m) < 4 * n).sum(axis=1).tolist() == [n] * 4
    odd = search(np.random.default_rng(0).random((8, 4 * m + 3)), n, m)
    assert sorted(odd) == list(range(4 * m + 3))


def test_less_is_lost_and_the_file_proves_it(models: Path, tmp_path: Path) -> None:
    source, out = models / "ad01_autoencoder.onnx", tmp_path / "o.onnx"
    found = onnxprune.prune(source, out, granularity="2:4", rounds=0).report
    assert found.verified
    assert found.reordered is not None
    before, after, least = (getattr(found.reordered, f"lost_{k}") for k in ("before", "after", "unstructured"))
    assert least < after < before - 0.2 * (before - least)  # a fifth of what 2:4 loses beyond single weights
    assert onnxprune.verify(source, out).passed
    plain = onnxprune.prune(source, granularity="2:4", permute="off", rounds=0).report
    assert plain.reordered is None


def test_integers_move_with_their_channels(tmp_path: Path) -> None:
    """Biases of 32 bits, scales and zero points of each channel."""
    source, out = tmp_path / "m.onnx", tmp_path / "o.onnx"
    build("""
        x[N,4,5,5]:uint8 -> y
        a = QLinearConv(x, 0.1, 3:uint8, A[8,4,1,1]:int8, S[8], Z{0,0,0,0,0,0,0,0}:int8, 0.2, 5:uint8, B[8]:int32)
        y = QLinearConv(a, 0.2, 5:uint8, C[8,8,1,1]:int8, 0.1, 0:int8, 0.3, 5:uint8)
    """).save(source)
    report = onnxprune.prune(source, out, granularity="2:4", rounds=0).report
    assert report.reordered is not None
    assert report.reordered.groups == 1
    assert onnxprune.verify(source, out).passed
