"""What every criterion keeps of a model before any recovery, at every sparsity, beside `random`: tables in Markdown.

    python tools/criteria.py [--models resnet20 ...] [--only REGEX] [--results FILE] [--write docs/benchmarks.md]

Each row is a criterion, each column a form and an amount of sparsity (`CHANNELS`, `MASKS`). Each number found is put
into FILE (JSON, a line each) at once and not measured again, so a run that was stopped goes on where it was; `--only`
measures again nothing but what it matches of "model criterion column". `--fresh` forgets what it matches first.

Models: the CIFAR-10 ResNets of models/ (top-1 of 1,017 images, 256 others for calibration), and the language model
stories260k of --assets (perplexity of 12 texts, 6 others for calibration). What is random by nature (`SEEDS`) is
the mean over so many seeds, with their standard deviation. A number is `~` where it is not clearly better than that of
`random`: by more than two standard errors, of seeds and of the test set together.

Top-1 says nothing where all is lost: a network that is destroyed guesses, whatever destroyed it. So it has a second
number beside it, the correlation of the scores with the original's, each class with its mean taken off, on the same
images: 1 is the original, 0 is nothing of it, and it does not stop at chance. It is `~` where it is not better by more
than two standard deviations of `random`. The mean Kullback-Leibler divergence from the original is put into FILE as
well (`divergence`), and not shown: a network that is dead (all scores equal) has less of it than one that is wrong.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxprune.criteria import CRITERIA
from onnxprune.data import Samples, load
from onnxprune.evaluation import top1
from onnxprune.model import Model
from onnxprune.passes.allocate import Allocate
from onnxprune.passes.analyse import Analyse
from onnxprune.passes.mask import Mask
from onnxprune.passes.permute import Permute
from onnxprune.passes.score import Score
from onnxprune.passes.select import Select
from onnxprune.passes.shrink import Shrink
from onnxprune.runtime.machine import this_machine
from onnxprune.runtime.session import Options, Session
from onnxprune.unit import Unit
from tools.page import written
from tools.results import append, read, rewrite
from tools.subjects import logarithms, perplexity

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT.parent / "shared" / "assets"
SEEDS = {"random": 20, "spsa": 5}
CHANNELS = {
    f"{times}x {allocation}": (target, allocation)
    for allocation in ("uniform", "global")
    for times, target in (("1.5", 0.667), ("2", 0.5))
}
MASKS: Mapping[str, tuple[str, float | None, str]] = {
    **{f"{share:.0%}": ("element", share, "auto") for share in (0.5, 0.7, 0.9)},
    "90% global": ("element", 0.9, "global"),
    "2:4": ("2:4", None, "auto"),
    "1:4": ("1:4", None, "auto"),
}
Feed: TypeAlias = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Subject:
    """A model, what it is calibrated with, and how it is judged: `better` is 1 where more is better."""

    name: str
    path: Path
    calibration: Samples
    test: Samples
    metric: Literal["top-1", "perplexity"]

    @property
    def better(self) -> int:
        """The sign with which the metric counts."""
        return 1 if self.metric == "top-1" else -1

    def judge(self, cell: Cell, model: Model) -> Cell:
        """The cell with the metric, and where that is top-1 how the scores go with the original's, as above."""
        if self.metric == "perplexity":
            return replace(cell, value=perplexity({"": self._scores(model)}, {}, self.test))
        scores, before = self._scores(model), self._scores_before
        assert self.test.labels is not None
        p, q = (logarithms(values) for values in (before, scores))
        a, b = (values - values.mean(axis=0) for values in (before, scores))
        size = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
        return replace(
            cell,
            value=top1(scores, self.test.labels),
            likeness=float((a * b).sum()) / size if size else 0.0,
            divergence=float(np.sum(np.exp(p) * (p - q), axis=1).mean()),
        )

    @cached_property
    def _scores_before(self) -> npt.NDArray[np.float64]:
        return self._scores(Model.load(self.path))

    def _scores(self, model: Model) -> npt.NDArray[np.float64]:
        run = Session(model.to_bytes(), Options(threads=1)).run
        return np.concatenate([np.asarray(next(iter(run(f).values())), np.float64) for f in self.test.batches(64)])


@cache
def subject(name: str, assets: Path) -> Subject:
    """The model of that name, with its data."""
    if name == "stories260k":
        path = assets / "models" / "stories260k_llama.onnx"
        ids = np.load(assets / "data" / "stories260k" / "sampled_ids.npy").astype(np.int64)
        (wanted,) = Model.load(path).inputs
        first, second = (Samples(path.name, {wanted.name: part}) for part in (ids[:6], ids[12:]))
        return Subject(name, path, first, second, "perplexity")
    path = ROOT / "models" / f"cifar10_{name}.onnx"
    inputs = Model.load(path).inputs
    first, second = (load(str(ROOT / "models" / f"cifar10_{part}.npz"), inputs) for part in ("calibration", "test"))
    return Subject(name, path, first, second, "top-1")


@dataclass(frozen=True)
class Cell:
    """One measurement: `value` is the metric, `reached` what the budget came to, `seconds` the choosing alone.

    `likeness` and `divergence` are those of the scores from the original's, where the metric is top-1; a result of an
    earlier state of this tool has no likeness.
    """

    model: str
    criterion: str
    column: str
    seed: int
    value: float = 0.0
    reached: float = 0.0
    seconds: float = 0.0
    likeness: float | None = None
    divergence: float = 0.0

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What it is a measurement of."""
        return self.model, self.criterion, self.column, self.seed


@cache
def _ready(name: str, assets: Path, form: str = "") -> Unit:
    """The model with its samples, analysed; for N:M with its channels in the order that suits it."""
    who = subject(name, assets)
    unit = Analyse().run(Unit(source=Model.load(who.path), samples=who.calibration))
    return Permute(granularity=form).run(unit) if ":" in form else unit


def measured(cells: Sequence[Cell], assets: Path) -> Iterator[Cell]:
    """The cells of one model, criterion and seed, one after the other; channels are scored once for all."""
    scored: Unit | None = None
    for cell in cells:
        who, start = subject(cell.model, assets), time.perf_counter()
        if cell.column == "original":
            yield who.judge(cell, Model.load(who.path))
        elif cell.column in CHANNELS:
            target, allocation = CHANNELS[cell.column]
            if scored is None:
                scored = Score(criterion=cell.criterion, seed=cell.seed).run(Select().run(_ready(cell.model, assets)))
            how = Allocate(allocation=allocation, target=(f"macs={target}",), round_to="1", best_effort=True)
            unit = Shrink().run(how.run(scored))
            spent = time.perf_counter() - start
            assert unit.model is not None
            yield who.judge(replace(cell, reached=unit.targets["macs"][1], seconds=spent), unit.model)
        else:
            form, sparsity, allocation = MASKS[cell.column]
            ready, start = _ready(cell.model, assets, form), time.perf_counter()
            how_masked = Mask(form, sparsity, cell.criterion, allocation, seed=cell.seed)
            unit = how_masked.run(ready)
            spent = time.perf_counter() - start
            assert unit.masking is not None
            reached = unit.targets["sparsity"][1]
            yield who.judge(replace(cell, reached=reached, seconds=spent), unit.masking.model)


def _task(cells: Sequence[Cell], assets: Path) -> list[Cell]:
    return list(measured(cells, assets))


def wanted(models: Sequence[str], only: str) -> Iterator[Cell]:
    """Every cell there is, if it matches."""
    for model in models:
        yield Cell(model, "", "original", 0)
        for name, criterion in CRITERIA.items():
            columns = [*CHANNELS, *(MASKS if criterion.elements is not None or criterion.solve is not None else ())]
            for column in columns:
                if re.search(only, f"{model} {name} {column}"):
                    for seed in range(SEEDS.get(name, 1)):
                        yield Cell(model, name, column, seed)


def measure(cells: Sequence[Cell], results: Path, processes: int, assets: Path) -> None:
    """Measure what is not in `results` yet, and put it there."""
    known = {cell.key for cell in read(results, Cell)}
    tasks: dict[tuple[str, str, int, bool], list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.key not in known:
            tasks[cell.model, cell.criterion, cell.seed, cell.column in CHANNELS].append(cell)
    with ProcessPoolExecutor(processes) as pool:
        for done in as_completed([pool.submit(_task, task, assets) for task in tasks.values()]):
            for cell in done.result():
                append(results, cell)
                print(f"{cell.model} {cell.criterion:20} {cell.column:14} {cell.seed} {cell.value:9.4f} "
                      f"{cell.likeness or 0.0:.3f} (reached {cell.reached:.3f}, {cell.seconds:.1f} s)")  # fmt: skip
            sys.stdout.flush()


def clearly(who: Subject, values: Sequence[float], chance: Sequence[float]) -> bool:
    """Whether `values` are better than those of `random`, by more than two standard errors of the difference."""

    def transformed(numbers: Sequence[float]) -> tuple[float, float]:
        inner = [float(np.log(x)) if who.metric == "perplexity" else x for x in numbers]
        mean = statistics.mean(inner)
        sampling = mean * (1 - mean) / len(who.test) if who.metric == "top-1" else 0.0
        seeds = statistics.variance(inner) if len(inner) > 1 else 0.0
        return mean, sampling + seeds

    (mean, variance), (by_chance, of_chance) = transformed(values), transformed(chance)
    return who.better * (mean - by_chance) > 2 * float(np.sqrt(variance + of_chance))


def _text(who: Subject, cells: Sequence[Cell], chance: Sequence[Cell], itself: bool) -> str:
    if not cells:
        return ""
    first = _metric(who, [c.value for c in cells], [c.value for c in chance], itself)
    likeness, by_chance = ([c.likeness for c in found if c.likeness is not None] for found in (cells, chance))
    if who.metric == "perplexity" or not likeness:
        return first
    mean = statistics.mean(likeness)
    text = f"{mean:.2f}" + (f" ± {statistics.stdev(likeness):.2f}" if len(likeness) > 1 else "")
    if itself:
        return f"{first}; {text}"
    far = len(by_chance) > 1 and mean - statistics.mean(by_chance) > 2 * statistics.stdev(by_chance)
    return f"{first}; {text}" if far else f"{first}; ~ {text}"


def _metric(who: Subject, values: Sequence[float], chance: Sequence[float], itself: bool) -> str:
    scale = 100 if who.metric == "top-1" else 1
    mean = statistics.mean(values) * scale
    text = f"{mean:.1f}" if mean < 1000 else f"{mean:.0f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values) * scale:.1f}"
    return text if itself or (chance and clearly(who, values, chance)) else f"~ {text}"


def table(who: Subject, cells: Sequence[Cell], columns: Sequence[str]) -> str:
    """One table of a model, `random` first."""
    found: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in sorted(cells, key=lambda cell: cell.seed):
        if cell.model == who.name:
            found[cell.criterion, cell.column].append(cell)
    names = [name for name in sorted(CRITERIA, key=lambda name: (name != "random", name))
             if any((name, column) in found for column in columns)]  # fmt: skip
    lines = [f"| criterion | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        texts = (_text(who, found[name, c], found["random", c], name == "random") for c in columns)
        lines.append(f"| `{name}` | {' | '.join(texts)} |")
    return "\n".join(lines)


def markdown(cells: Sequence[Cell], models: Sequence[str], assets: Path) -> str:
    """All tables, with what is measured."""
    there = {cell.criterion for cell in cells}
    seeds = ", ".join(f"{count} seeds of `{name}`" for name, count in SEEDS.items() if name in there)
    parts = [f"{this_machine()}; {seeds}, one of the others."]
    for name in models:
        who = subject(name, assets)
        original = next((cell.value for cell in cells if cell.model == name and cell.column == "original"), 0.0)
        both = f"top-1 {original * 100:.1f} % and, behind it, a correlation of the scores with the original's of 1.00"
        unit = both if who.better > 0 else f"perplexity {original:.2f}, less is better"
        parts.append(f"**{name}**, {unit} before. Channels go, to 1/1.5 and 1/2 of the MACs:")
        parts.append(table(who, cells, tuple(CHANNELS)))
        parts.append(f"**{name}**, weights become zero (ERK over layers where not global; N:M with `--permute`):")
        parts.append(table(who, cells, tuple(MASKS)))
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """0 when every cell that was asked for is measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet20", "resnet56", "stories260k"])
    parser.add_argument("--only", default="", help="regular expression that 'model criterion column' must hold")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured before")
    parser.add_argument("--results", type=Path, default=Path("criteria.jsonl"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--assets", type=Path, default=ASSETS)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    cells = list(wanted(options.models, options.only))
    if options.fresh:
        keys = {cell.key for cell in cells}
        rewrite(options.results, [cell for cell in read(options.results, Cell) if cell.key not in keys])
    measure(cells, options.results, options.processes, options.assets)
    found = markdown(read(options.results, Cell), options.models, options.assets)
    if options.write is None:
        print(found)
    else:
        text = options.write.read_text(encoding="utf-8")
        options.write.write_text(written(text, "criteria", found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
