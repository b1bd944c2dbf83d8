"""What a pruned model is worth after repair, over several draws of the calibration samples: tables in Markdown.

    python -m tools.recovery [--sheet NAME] [--only REGEX] [--results FILE] [--seeds 3] [--write docs/benchmarks.md]

A sheet (`SHEETS`) is a table. Each row is a model and how much of it goes, each column a recipe: options of `onnxprune
prune`. A cell is the mean over `--seeds` draws of 256 unlabelled training images, with their standard deviation; a
recipe that names its own calibration, or none, gets no image. Each run is a process of its own, so that its seconds and
its peak memory are its own; what it found is put into FILE (JSON, a line each) at once and not measured again.

Data: CIFAR-10 from `--assets` (lossless training and test images); ImageNet models there are judged on 500 images, of
which every other one calibrates, so 250 calibrate and 250 judge.
"""

from __future__ import annotations

import argparse
import io
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import onnxprune
from onnxprune.data import load
from onnxprune.evaluation import top1_of
from onnxprune.model import Model
from onnxprune.runtime.change import change
from onnxprune.runtime.machine import this_machine
from onnxprune.runtime.session import Options, Session
from tools.page import written
from tools.results import append, read

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT.parent / "shared" / "assets"
SAMPLES = 256
Array = npt.NDArray[Any]

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
        for model in ("mobilenet_v1_0.5_160", "mobilenet_v2_1.0_224", "squeezenet1.0_deepcompression")
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
    """One run: top-1 and KL divergence to the original (nats) on the test images, wall seconds, peak memory in GiB."""

    model: str
    amount: str
    recipe: str
    seed: int
    top1: float = 0.0
    before: float = 0.0
    kl: float = 0.0
    reached: float = 0.0
    seconds: float = 0.0
    memory: float = 0.0

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What it is a measurement of."""
        return self.model, self.amount, self.recipe, self.seed


# -- one run ----------------------------------------------------------------------------------------------------------


def images(model: str, assets: Path) -> tuple[Array, Array, Array, Array]:
    """Inputs and labels to calibrate with, then to judge with, as the model wants them."""
    if model.startswith("cifar10"):
        found = np.load(assets / "data" / "cifar10_lossless.npz")
        mean, std = (np.array(v, np.float32) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        train, test = (
            np.ascontiguousarray(((found[part].astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2))
            for part in ("x_train", "x_test")
        )
        return train, np.zeros(len(train), np.int64), test, found["y_test"].astype(np.int64)
    from PIL import Image

    found = np.load(assets / "data" / "imagenet500.npz")
    shape = Model.load(assets / "models" / f"{model}.onnx").inputs[0].shape
    assert shape is not None
    size = shape[-1]
    assert isinstance(size, int)
    rows = []
    for start, end in zip(found["off"], [*found["off"][1:], len(found["jpg"])], strict=False):
        if start == end:
            continue
        image = Image.open(io.BytesIO(found["jpg"][start:end].tobytes())).convert("RGB").crop((16, 16, 240, 240))
        pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), np.float32)
        if model.startswith("squeezenet"):
            pixels = pixels[..., ::-1] - np.array([104, 117, 123], np.float32)
        else:
            pixels = pixels / 127.5 - 1
        rows.append(pixels.transpose(2, 0, 1))
    x, y = np.stack(rows), found["label"].astype(np.int64)[: len(rows)]
    y = y + 1 if model.startswith("mobilenet") else y  # class 0 is the background there
    return x[::2], y[::2], x[1::2], y[1::2]


def measure(cell: Cell, assets: Path) -> Cell:
    """Prune once and judge."""
    train, _, test, labels = images(cell.model, assets)
    chosen = np.random.default_rng(cell.seed).choice(len(train), min(SAMPLES, len(train)), replace=False)
    path = assets / "models" / f"{cell.model}.onnx"
    recipe = next(sheet.recipes[cell.recipe] for sheet in SHEETS.values() if cell.recipe in sheet.recipes)
    options: dict[str, Any] = {**AMOUNTS[cell.amount], **recipe}
    if cell.amount in (*MASKS, *DEPTH):
        options.pop("allocation", None)
    if cell.amount in DEPTH:
        options.pop("criterion", None)  # branches are judged by what the outputs lose
    if cell.amount in UNROUNDED:
        options["round_to"] = 1
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "train.npz"), x=train[chosen])
        np.savez(Path(folder, "test.npz"), x=test, labels=labels)
        del train
        start = time.perf_counter()
        options.setdefault("calibration", str(Path(folder, "train.npz")))
        found = onnxprune.prune(path, rounds=0, seed=cell.seed, best_effort=True, **options)
        seconds = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        model = Model.load(path)
        samples = load(str(Path(folder, "test.npz")), model.inputs)
        runs = [Session(m.to_bytes(), Options(threads=1)).run for m in (model, found.model)]
        before, after = (top1_of(run, samples) for run in runs)
        outputs = [[_logarithms(run(feed)) for feed in samples.batches(64)] for run in runs]
    kl = change(*outputs).divergence
    reached = next(iter(found.report.targets.values()), (0.0, 0.0))[1]
    return Cell(*cell.key, 100 * after, 100 * before, -1.0 if kl is None else kl, reached, seconds, memory)


def _logarithms(outputs: Mapping[str, Any]) -> dict[str, Array]:
    """The scores of a model; where they are probabilities, their logarithms, which a softmax makes the same again."""
    name, values = next(iter(outputs.items()))
    wide = np.asarray(values, np.float64).reshape(len(values), -1)
    if (wide >= 0).all() and np.abs(wide.sum(axis=1) - 1).max() < 1e-3:
        wide = np.log(np.maximum(wide, 1e-12))
    return {name: wide}


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


def table(cells: Sequence[Cell], sheet: Sheet) -> str:
    """One row for each model and amount: top-1 and KL of each recipe, and the cost of the last."""
    recipes = tuple(sheet.recipes)
    found: dict[tuple[str, str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        found[cell.model, cell.amount, cell.recipe].append(cell)
    lines = [
        f"{this_machine()}; {SAMPLES} calibration images at most; top-1 in percent, KL in nats, over draws of them.",
        "",
        f"| model | what goes | asked | {' | '.join(f'{r}: top-1 | KL' for r in recipes)} | seconds | GiB |",
        "|---" * (5 + 2 * len(recipes)) + "|",
    ]
    for row in sheet.rows:
        parts = [found.get((row.model, row.amount, recipe), []) for recipe in recipes]
        if not any(parts):
            continue
        shown = [f"{_spread([c.top1 for c in part])} | {_spread([c.kl for c in part], 3)}" for part in parts]
        last = next(part for part in reversed(parts) if part)
        cost = f"{statistics.mean(c.seconds for c in last):.0f} | {max(c.memory for c in last):.2f}"
        name = f"{row.model} ({last[0].before:.1f})"
        lines.append(f"| {name} | {row.amount} | {row.asked or ''} | {' | '.join(shown)} | {cost} |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float], digits: int = 1) -> str:
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


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
    known = {cell.key: cell for cell in read(arguments.results, Cell)}
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
