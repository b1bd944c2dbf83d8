"""What every allocation keeps of a model at equal cost, before and after repair, and its price: tables in Markdown.

    python -m tools.allocations [--models resnet20 ...] [--only REGEX] [--results FILE] [--write docs/benchmarks.md]

Models are the CIFAR-10 ResNets of models/: top-1 of 1,017 images, 256 others for calibration and repair, counts not
rounded. Each row is an allocation, with the loss of its trials (`--objective`), each column a criterion and a target; a
cell has top-1 without repair and with `--recover auto`. `tried` counts the models that were run to decide, `seconds` is
processor time, of one thread, of the passes `sense` and `allocate` alone. Each number found is put into FILE (JSON, a
line each) at once and not measured again, so a run that was stopped goes on where it was; `--only` measures nothing but
what it matches of "model target criterion allocation".
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from onnxprune.allocators import needs_of
from onnxprune.data import Samples, load
from onnxprune.evaluation import top1_of
from onnxprune.model import Model
from onnxprune.objective import Objective
from onnxprune.passes.allocate import Allocate
from onnxprune.passes.analyse import Analyse
from onnxprune.passes.recover import Recover
from onnxprune.passes.score import Score
from onnxprune.passes.select import Select
from onnxprune.passes.sense import Sense
from onnxprune.passes.shrink import Shrink
from onnxprune.runtime.machine import this_machine
from onnxprune.runtime.session import Options, Session
from onnxprune.unit import Unit
from tools.page import written
from tools.results import append, read

ROOT = Path(__file__).resolve().parent.parent
TARGETS = (0.67, 0.5)
CRITERIA = ("sparsegpt", "wanda", "l2")
LOSSES = ("outputs", "linear")  # of the allocations that try cuts
NAMES = tuple(
    f"{name} {loss}".strip()
    for name in ("uniform", "erk", "lamp", "global", "sensitivity", "knapsack", "netadapt", "amc")
    for loss in (LOSSES if needs_of(name) else ("",))
)


@dataclass(frozen=True)
class Cell:
    """One allocation: shares of images classified rightly, models tried, and processor seconds."""

    model: str
    target: float
    criterion: str
    allocation: str
    before: float = 0.0
    after: float = 0.0
    reached: float = 0.0
    tried: int = 0
    seconds: float = 0.0

    @property
    def key(self) -> tuple[str, float, str, str]:
        """What it is a measurement of."""
        return self.model, self.target, self.criterion, self.allocation


@cache
def subject(name: str) -> tuple[Model, Samples, Samples]:
    """The model of that name, what it is calibrated with and what it is judged by."""
    model = Model.load(ROOT / "models" / f"cifar10_{name}.onnx")
    parts = (load(str(ROOT / "models" / f"cifar10_{part}.npz"), model.inputs) for part in ("calibration", "test"))
    return (model, *parts)  # type: ignore[return-value]


@cache
def scored(name: str, criterion: str) -> Unit:
    """The model analysed and scored."""
    model, samples, _ = subject(name)
    return Score(criterion=criterion).run(Select().run(Analyse().run(Unit(source=model, samples=samples))))


def measured(cell: Cell) -> Cell:
    """Allocate once, and judge without repair and with it."""
    unit, test = scored(cell.model, cell.criterion), subject(cell.model)[2]
    start = time.process_time()
    name, _, loss = cell.allocation.partition(" ")
    unit = Sense(allocation=name, objective=loss or "outputs", round_to="1").run(unit)
    unit = Allocate(allocation=name, target=(f"macs={cell.target}",), round_to="1", best_effort=True).run(unit)
    seconds = time.process_time() - start
    top1 = []
    for made in (unit, Recover(recover="auto").run(unit)):
        model = Shrink().run(made).model
        assert model is not None
        top1.append(top1_of(Session(model.to_bytes(), Options(threads=1)).run, test))
    return replace(
        cell, before=top1[0], after=top1[1], reached=unit.targets["macs"][1], tried=_tried(unit), seconds=seconds
    )


def _tried(unit: Unit) -> int:
    """How many models were run to decide: from the trial, or from what the report says of curves."""
    if isinstance(unit.trial, Objective):
        return unit.trial.trials
    found = (re.match(r"allocation: tried (\d+) cuts", note) for note in unit.notes)
    return next((int(match[1]) for match in found if match), 0)


def wanted(models: Sequence[str], only: str) -> Iterator[Cell]:
    """Every cell there is, if it matches."""
    for model in models:
        for criterion in CRITERIA:
            for target in reversed(TARGETS):
                for name in NAMES:
                    if re.search(only, f"{model} {target} {criterion} {name}"):
                        yield Cell(model, target, criterion, name)


def markdown(cells: Sequence[Cell], models: Sequence[str]) -> str:
    """One table for each model."""
    parts = [
        f"{this_machine()}. Top-1 in percent, without repair | repaired; models tried and seconds at the last target."
    ]
    known = {cell.key: cell for cell in cells}
    for model in models:
        criteria = [c for c in CRITERIA if any(cell.model == model and cell.criterion == c for cell in cells)]
        heads = [f"{criterion} macs={target:g}" for criterion in criteria for target in TARGETS]
        lines = [
            f"**{model}**",
            "",
            f"| allocation | {' | '.join(heads)} | tried | seconds |",
            "|---" * (len(heads) + 3) + "|",
        ]
        for name in NAMES:
            row = [known.get((model, target, criterion, name)) for criterion in criteria for target in TARGETS]
            last = next((cell for cell in reversed(row) if cell is not None), None)
            if last is None:
                continue
            texts = ["" if cell is None else f"{100 * cell.before:.1f} \\| {100 * cell.after:.1f}" for cell in row]
            lines.append(f"| `{name}` | {' | '.join(texts)} | {last.tried} | {last.seconds:.0f} |")
        if criteria:
            parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """0 when every cell that was asked for is measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet20", "resnet56"])
    parser.add_argument(
        "--only", default="", help="regular expression that 'model target criterion allocation' must hold"
    )
    parser.add_argument("--results", type=Path, default=Path("allocations.jsonl"))
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    known = {cell.key for cell in read(options.results, Cell)}
    for cell in wanted(options.models, options.only):
        if cell.key in known:
            continue
        found = measured(cell)
        append(options.results, found)
        print(found, file=sys.stderr, flush=True)
    text = markdown(read(options.results, Cell), options.models)
    if options.write is None:
        print(text)
    else:
        options.write.write_text(
            written(options.write.read_text(encoding="utf-8"), "allocations", text), encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
