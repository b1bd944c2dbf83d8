"""What a pruned model is worth after repair, over several draws of the calibration samples: tables in Markdown.

    python -m tools.recovery [--sheet NAME] [--only REGEX] [--results FILE] [--seeds 3] [--write docs/benchmarks.md]

A sheet (`SHEETS`) is a table. Each row is a model and how much of it goes, each column a recipe: options of `onnxprune
prune`. A cell is the mean over `--seeds` draws of 256 unlabelled training samples (all of them, in another order, where
there are fewer), with their standard deviation; a recipe that names its own calibration, or none, gets none. Each run
is a process of its own, so that its seconds and its peak memory are its own; what it found is put into FILE (JSON, a
line each) at once and not measured again.

Data and metrics are those of `tools/subjects.py`; a metric stands in the row's second column. KL is to the original, in
nats for each decision (an image, a token, a byte), and empty where the outputs are no chances.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import onnxprune
from onnxprune.runtime.machine import this_machine
from tools.page import written
from tools.results import append, read
from tools.subjects import METRICS, SAMPLES, subject

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT.parent / "shared" / "assets"

AMOUNTS: Mapping[str, Mapping[str, Any]] = {
    "1.5x MACs": {"target": "macs=0.6667"},
    "2x MACs": {"target": "macs=0.5"},
    "1.3x MACs": {"target": "macs=0.7692"},
    "1.1x MACs": {"target": "macs=0.9091"},
    "2:4": {"granularity": "2:4"},
    "1:4": {"granularity": "1:4"},
    "70%": {"granularity": "element", "sparsity": 0.7},
    "80%": {"granularity": "element", "sparsity": 0.8},
    "90%": {"granularity": "element", "sparsity": 0.9},
    "0.65x latency": {"target": "latency=0.65"},
    "0.75x latency": {"target": "latency=0.75"},
    "0.65x latency, by depth": {"target": "latency=0.65", "granularity": "branch"},
    "0.75x latency, by depth": {"target": "latency=0.75", "granularity": "branch"},
}
"""What goes."""

MASKS = ("2:4", "1:4", "70%", "80%", "90%")
DEPTH = ("0.65x latency, by depth", "0.75x latency, by depth")
UNROUNDED = ("1.1x MACs", "1.3x MACs", "1.5x MACs", "2x MACs")
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "l2, nothing": {"criterion": "l2", "allocation": "uniform", "recover": "none"},
    "l2, repaired": {"criterion": "l2", "allocation": "uniform", "recover": "reconstruct"},
    "default": {},
}
"""How it is chosen and repaired; masks have no uniform allocation to speak of, so theirs is left to the default."""

CANDIDATES: Mapping[str, Mapping[str, Any]] = {
    name: {"criterion": name, "recover": "reconstruct"}
    for name in ("l2", "wanda", "sparsegpt", "obd", "obs", "obc", "activation-variance", "chip", "lasso")
}
"""What the default could be."""

WEIGHTS: Mapping[str, Mapping[str, Any]] = {
    f"{allocation}, {how}": {"criterion": "l2", "allocation": allocation, "recover": how, "calibration": ""}
    for allocation in ("uniform", "global")
    for how in ("none", "merge")
}
"""What can be done with weights alone."""

INPUTS: Mapping[str, Mapping[str, Any]] = {
    "none": {"criterion": "l2", "recover": "none", "calibration": ""},
    "merge": {"criterion": "l2", "recover": "merge", "calibration": ""},
    "noise": {"criterion": "l2", "recover": "reconstruct", "calibration": f"random:{SAMPLES}", "from_noise": True},
    "synthetic": {"criterion": "l2", "recover": "reconstruct", "calibration": f"synthetic:{SAMPLES}"},
    "images": {"criterion": "l2", "recover": "reconstruct"},
    "synthetic, default": {"calibration": f"synthetic:{SAMPLES}"},
    "images, default": {},
}
"""What a repair may be fitted to."""

STEPS: Mapping[str, Mapping[str, Any]] = {
    f"{criterion}, {name}": {"criterion": criterion, "allocation": "global", "recover": "reconstruct", **how}
    for criterion in ("l2", "obd")
    for name, how in (("1 step", {}), ("3 steps", {"steps": 3}), ("3 steps, regrow", {"steps": 3, "regrow": True}))
}
"""Whether to prune in steps, and whether what is gone may come back."""


@dataclass(frozen=True)
class Row:
    """A model and an amount, and what is asked of the default recipe."""

    model: str
    amount: str
    asked: float | None = None


ROWS = (
    Row("cifar10_resnet56", "2x MACs", 91.0),
    Row("cifar10_resnet56", "1.5x MACs", 92.0),
    Row("cifar10_resnet20", "1.5x MACs", 89.0),
    Row("cifar10_resnet20", "2x MACs", 84.0),
    Row("cifar10_resnet20", "2:4", 91.1),
    Row("cifar10_resnet20", "1:4", 87.5),
    Row("cifar10_resnet20", "70%", 91.0),
    Row("cifar10_resnet20", "80%", 88.5),
    Row("cifar10_resnet20", "90%", 65.0),
    Row("cifar10_resnet56", "0.65x latency", 91.5),
    Row("cifar10_resnet56", "0.65x latency, by depth", 91.5),
    Row("cifar10_resnet56", "0.75x latency, by depth"),
    *(
        Row(model, amount)
        for model in (
            "mobilenet_v1_0.5_160",
            "mobilenet_v2_1.0_224",
            "squeezenet1.0_deepcompression",
            "fastestdet",
            "stories260k_llama",
            "byte_sb_bidi_lstm",
        )
        for amount in ("2:4", "1.3x MACs", "1.5x MACs", "0.75x latency")
    ),
)


@dataclass(frozen=True)
class Sheet:
    """A table: models and amounts by recipes."""

    rows: tuple[Row, ...]
    recipes: Mapping[str, Mapping[str, Any]]


SHEETS: Mapping[str, Sheet] = {
    "recovery": Sheet(ROWS, RECIPES),
    "candidates": Sheet(ROWS, CANDIDATES),
    "weights": Sheet(
        tuple(
            Row(model, amount)
            for model in (
                "cifar10_resnet20",
                "cifar10_resnet56",
                "mobilenet_v1_0.5_160",
                "squeezenet1.0_deepcompression",
            )
            for amount in ("1.1x MACs", "1.3x MACs", "1.5x MACs")
        ),
        WEIGHTS,
    ),
    "steps": Sheet(tuple(Row("cifar10_resnet20", amount) for amount in ("2x MACs", "1:4", "90%")), STEPS),
    "inputs": Sheet(
        tuple(
            Row(model, amount)
            for model in ("cifar10_resnet20_bn", "cifar10_resnet56_bn")
            for amount in ("1.5x MACs", "2x MACs")
        ),
        INPUTS,
    ),
}


@dataclass(frozen=True)
class Cell:
    """One run: the metric of the original and of what became of it, KL divergence to the original (nats; -1 where the
    outputs are no chances), what the target came to, wall seconds, peak memory in GiB.
    """

    model: str
    amount: str
    recipe: str
    seed: int
    after: float = 0.0
    before: float = 0.0
    kl: float = 0.0
    reached: float = 0.0
    seconds: float = 0.0
    memory: float = 0.0
    metric: str = "top-1"

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What it is a measurement of."""
        return self.model, self.amount, self.recipe, self.seed


# -- one run ----------------------------------------------------------------------------------------------------------


def measure(cell: Cell, assets: Path) -> Cell:
    """Prune once and judge."""
    recipe = next(sheet.recipes[cell.recipe] for sheet in SHEETS.values() if cell.recipe in sheet.recipes)
    options: dict[str, Any] = {**AMOUNTS[cell.amount], **recipe}
    if cell.amount in (*MASKS, *DEPTH):
        options.pop("allocation", None)
    if cell.amount in DEPTH:
        options.pop("criterion", None)  # branches are judged by what the outputs lose
    if cell.amount in UNROUNDED:
        options["round_to"] = 1
    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder, "train.npz")
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:  # so that its memory is none of what is measured
            path = apart.submit(_draw, cell, assets, train).result()
        start = time.perf_counter()
        options.setdefault("calibration", str(train))
        found = onnxprune.prune(path, rounds=0, seed=cell.seed, best_effort=True, **options)
        seconds = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    reached = next(iter(found.report.targets.values()), (0.0, 0.0))[1]
    who = subject(cell.model, assets)
    judged = who.judge(found.model)
    return replace(cell, metric=who.metric.name, before=judged.before, after=judged.after, kl=judged.kl,
                   reached=reached, seconds=seconds, memory=memory)  # fmt: skip


def _draw(cell: Cell, assets: Path, file: Path) -> Path:
    """Write the calibration samples of a cell into a file; what the model's is."""
    who = subject(cell.model, assets)
    np.savez(file, x=who.drawn(cell.seed))
    return who.path


# -- all of them ------------------------------------------------------------------------------------------------------


def missing(known: Mapping[tuple[str, str, str, int], Cell], only: str, seeds: int, sheet: Sheet) -> list[Cell]:
    """The cells that are not known yet, the first seeds first."""
    cells = [
        Cell(row.model, row.amount, recipe, seed)
        for seed in range(seeds)
        for row in sheet.rows
        for recipe in sheet.recipes
    ]
    wanted = [c for c in cells if re.search(only, f"{c.model} {c.amount} {c.recipe} {c.seed}")]
    return [c for c in wanted if c.key not in known]


def results(path: Path) -> list[Cell]:
    """What was measured before, by earlier states of this tool, too."""
    return read(path, Cell, {"top1": "after"})


def table(cells: Sequence[Cell], sheet: Sheet) -> str:
    """One row for each model and amount: metric and KL of each recipe, and the cost of the last."""
    recipes = tuple(sheet.recipes)
    found: dict[tuple[str, str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        found[cell.model, cell.amount, cell.recipe].append(cell)
    lines = [
        f"{this_machine()}; {SAMPLES} calibration samples at most; in brackets the metric of the original; top-1, F1 "
        "and relative L2 in percent, KL in nats, over draws of the samples.",
        "",
        f"| model | metric | what goes | asked | {' | '.join(f'{r} | KL' for r in recipes)} | seconds | GiB |",
        "|---" * (6 + 2 * len(recipes)) + "|",
    ]
    for row in sheet.rows:
        parts = [found.get((row.model, row.amount, recipe), []) for recipe in recipes]
        if not any(parts):
            continue
        last = next(part for part in reversed(parts) if part)
        digits = METRICS[last[0].metric].digits
        shown = [
            f"{spread([c.after for c in part], digits)} | {_divergences([c.kl for c in part if c.kl >= 0])}"
            for part in parts
        ]
        cost = f"{statistics.mean(c.seconds for c in last):.0f} | {max(c.memory for c in last):.2f}"
        name = f"{row.model} | {last[0].metric} ({last[0].before:.{digits}f})"
        lines.append(f"| {name} | {row.amount} | {row.asked or ''} | {' | '.join(shown)} | {cost} |")
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and standard deviation, or the one value there is, or nothing."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def _divergences(values: Sequence[float]) -> str:
    return spread(values, 3 if max(values, default=0.0) >= 0.01 else 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sheet", choices=SHEETS, default="recovery", help="the table, and its marks in the page")
    parser.add_argument("--only", default="", help="measure only 'model amount recipe seed' that match")
    parser.add_argument("--results", type=Path, default=Path("recovery.jsonl"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--assets", type=Path, default=ASSETS)
    parser.add_argument("--write", type=Path, help="a page whose table of the sheet is written anew")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        print(json.dumps(asdict(measure(Cell(**json.loads(arguments.cell)), arguments.assets))))
        return
    known = {cell.key: cell for cell in results(arguments.results)}
    sheet = SHEETS[arguments.sheet]
    command = [sys.executable, "-m", "tools.recovery", "--assets", str(arguments.assets), "--cell"]
    for cell in missing(known, arguments.only, arguments.seeds, sheet):
        run = subprocess.run(
            [*command, json.dumps(asdict(cell))], capture_output=True, text=True, check=False, cwd=ROOT
        )
        if run.returncode:
            print(f"{cell.key}: {(run.stderr.strip() or run.stdout).splitlines()[-1]}", file=sys.stderr)
            continue
        known[cell.key] = Cell(**json.loads(run.stdout.splitlines()[-1]))
        append(arguments.results, known[cell.key])
        print(known[cell.key], file=sys.stderr)
    text = table(list(known.values()), sheet)
    if arguments.write:
        arguments.write.write_text(written(arguments.write.read_text(), arguments.sheet, text))
    print(text)


if __name__ == "__main__":
    main()
