"""What channel permutation is worth before N:M, and how long second-order masks take: tables in Markdown.

    python tools/sparsity.py permutation [--assets FOLDER] [--write docs/benchmarks.md]
    python tools/sparsity.py bound [--assets FOLDER] [--write docs/benchmarks.md]
    python tools/sparsity.py speed [--write docs/benchmarks.md]

`permutation`, no data and seed 0: the share of all magnitude that the mask takes, without and with `--permute`, and
what as many single weights of each layer would take, below which nothing can go. `of the gap` is what permutation wins
back of what N:M loses beyond that (Pool & Yu's efficacy); `alone` is what it would be if every layer had an order of
its own, as it cannot where the same channels are read by several layers.

`bound`, how much of that gap any order could win back at 2:4, every layer by itself: `found` by the search; `optimum`,
the best of all orders, where a layer has at most 16 inputs, beside `found` of the same layers; `noise`, what the search
finds if each row is shuffled by itself, so that no order is better than another but by chance; `row by row`, if every
row (an output at a position) had an order of its own. Layers of more than `ROWS` rows are searched on as many of them.

`speed`, seconds with nothing cached: SparseGPT of one 768 x 3072 layer at 50 % and 2:4, and 2:4 of all layers of
ResNet-50 (random weights, 128 samples of 224 x 224, two threads), the Gram matrices included.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from onnxprune.data import Samples
from onnxprune.model import Model
from onnxprune.passes.analyse import Analyse
from onnxprune.passes.mask import Mask
from onnxprune.passes.permute import Permute
from onnxprune.runtime.machine import this_machine
from onnxprune.solvers import sparsegpt
from onnxprune.sparsity import Lanes, chosen, granularity_of
from onnxprune.sparsity.reordering import search
from onnxprune.unit import Unit
from onnxprune.weights import Weights
from tools.criteria import ASSETS
from tools.page import written
from tools.skeletons import resnet50

MODELS = ("cifar10_resnet20", "cifar10_resnet56", "mobilenet_v2_1.0_224", "ad01_autoencoder",
          "kwt1_speechcommands12", "stories260k_llama")  # fmt: skip
ROWS = 1024


def alone(unit: Unit, form: Lanes) -> tuple[float, float]:
    """What the mask takes if no two layers share an order: without any order, and with the best found for each."""
    assert unit.analysis is not None
    weights, random, before, after = Weights(unit.source), np.random.default_rng(0), 0.0, 0.0
    for target in chosen(unit.analysis):
        layer = target.layer
        matrix = np.abs(layer.matrix(weights.real(target.weight)))
        if form.why_not(matrix.shape):
            continue
        rows = np.moveaxis(matrix, 2, -1).reshape(-1, matrix.shape[2])
        some = rows if len(rows) <= ROWS else rows[random.choice(len(rows), ROWS, replace=False)]
        lost = [float(np.sum(m, where=~form.select(m, 0.5), dtype=np.float64))
                for m in (matrix, matrix[:, :, search(some, form.count(0.5), form.of)])]  # fmt: skip
        before, after = before + lost[0], after + min(lost)
    return before, after


def bound(assets: Path) -> Iterator[str]:
    """A row for each model."""
    yield "| model | found | of 16 inputs: found | optimum | noise | row by row |"
    yield "|---|---|---|---|---|---|"
    form = granularity_of("2:4")
    assert isinstance(form, Lanes)
    for name in MODELS:
        unit = Analyse().run(Unit(source=Model.load(assets / "models" / f"{name}.onnx")))
        assert unit.analysis is not None
        weights, random = Weights(unit.source), np.random.default_rng(0)
        gap, won, small = 0.0, np.zeros(3), np.zeros(3)
        for target in chosen(unit.analysis):
            matrix = np.abs(target.layer.matrix(weights.real(target.weight)))
            inputs = matrix.shape[2]
            if form.why_not(matrix.shape) or inputs % 4:
                continue
            rows = np.moveaxis(matrix, 2, -1).reshape(-1, inputs).astype(np.float64)
            kept = np.sort(rows.ravel())[rows.size // 2 :].sum() - _kept(rows)
            gap += kept
            some = rows if len(rows) <= ROWS else rows[random.choice(len(rows), ROWS, replace=False)]
            found = max(0.0, _kept(rows[:, search(some, 2, 4)]) - _kept(rows))
            noise = random.permuted(rows, axis=1)
            shuffled = noise if len(rows) <= ROWS else noise[:ROWS]
            by_row = np.sort(rows, axis=1)[:, inputs // 2 :].sum() - _kept(rows)
            won += (found, max(0.0, _kept(noise[:, search(shuffled, 2, 4)]) - _kept(noise)), by_row)
            if inputs <= 16:
                small += (kept, found, _optimum(rows) - _kept(rows))
        exact = [f"{share:.1%}" for share in small[1:] / small[0]] if small[0] else ["", ""]
        texts = [f"{won[0] / gap:.1%}", *exact, *(f"{share:.1%}" for share in won[1:] / gap)]
        yield f"| {name} | {' | '.join(texts)} |"


def _kept(rows: npt.NDArray[np.float64]) -> float:
    """What 2:4 keeps of these rows."""
    return float(np.sort(rows.reshape(len(rows), -1, 4), axis=2)[:, :, 2:].sum())


def _optimum(rows: npt.NDArray[np.float64]) -> float:
    """What 2:4 keeps in the best of all orders of few columns: of sets of columns, by the group of the first."""
    columns = rows.shape[1]
    groups = {sum(1 << k for k in four): float(np.sort(rows[:, four], axis=1)[:, 2:].sum())
              for four in combinations(range(columns), 4)}  # fmt: skip
    by_first: dict[int, list[tuple[int, float]]] = {}
    for group, value in groups.items():
        by_first.setdefault(group & -group, []).append((group, value))

    @cache
    def best(left: int) -> float:
        return max((value + best(left ^ group) for group, value in by_first[left & -left] if group & left == group),
                   default=0.0) if left else 0.0  # fmt: skip

    return best((1 << columns) - 1)


def permutation(assets: Path) -> Iterator[str]:
    """A row for each model and form."""
    yield "| model | form | lost | permuted | single weights | of the gap | alone | seconds |"
    yield "|---|---|---|---|---|---|---|---|"
    for name in MODELS:
        for text in ("2:4", "1:4"):
            form = granularity_of(text)
            assert isinstance(form, Lanes)
            unit = Analyse().run(Unit(source=Model.load(assets / "models" / f"{name}.onnx")))
            start = time.perf_counter()
            found = Permute(granularity=text).run(unit).reordering
            spent = time.perf_counter() - start
            assert found is not None
            gap = found.lost_before - found.unstructured
            before, after = alone(unit, form)
            shares = (x / found.magnitude for x in (found.lost_before, found.lost_after, found.unstructured))
            texts = " | ".join(f"{share:.3f}" for share in shares)
            won = (found.lost_before - found.lost_after) / gap
            yield f"| {name} | {text} | {texts} | {won:.0%} | {(before - after) / gap:.0%} | {spent:.0f} |"


def speed() -> Iterator[str]:
    """A row for each problem."""
    os.environ["ONNXPRUNE_CACHE"] = ""
    yield "| what | seconds (wall) | processor time |"
    yield "|---|---|---|"
    random = np.random.default_rng(0)
    weights, data = random.normal(size=(1, 768, 3072, 1)), random.normal(size=(4096, 3072))
    gram = (data.T @ data)[None]
    for text in ("element", "2:4"):
        form = granularity_of(text)
        start = time.perf_counter(), time.process_time()
        sparsegpt(weights, gram, form.select, 0.5, span=form.span(weights.shape))
        yield f"| SparseGPT, one layer of 768 x 3072, {text} | {_since(start)} |"
    model = Model.from_bytes(resnet50().SerializeToString())
    (wanted,) = model.inputs
    samples = Samples("noise", {wanted.name: random.normal(size=(128, 3, 224, 224)).astype(np.float32)})
    start = time.perf_counter(), time.process_time()
    unit = Mask(granularity="2:4", criterion="sparsegpt", threads=2).run(
        Analyse().run(Unit(source=model, samples=samples))
    )
    spent = _since(start)
    assert unit.masking is not None
    yield f"| ResNet-50, 2:4 by SparseGPT, {len(unit.masking.weights)} layers, Gram matrices included | {spent} |"


def _since(start: tuple[float, float]) -> str:
    return f"{time.perf_counter() - start[0]:.1f} | {time.process_time() - start[1]:.1f}"


def main() -> int:
    """0 when the table was made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=("permutation", "bound", "speed"))
    parser.add_argument("--assets", type=Path, default=ASSETS)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    lines = [f"{this_machine()}.", ""]
    parts: dict[str, Callable[[], Iterator[str]]] = {
        "permutation": lambda: permutation(options.assets), "bound": lambda: bound(options.assets), "speed": speed,
    }  # fmt: skip
    for line in parts[options.part]():
        print(line, flush=True)
        lines.append(line)
    if options.write is not None:
        text = options.write.read_text(encoding="utf-8")
        options.write.write_text(written(text, options.part, "\n".join(lines) + "\n"), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
