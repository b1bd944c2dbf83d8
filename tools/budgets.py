"""What every allocation keeps at equal measured latency, before and after repair: a table in Markdown.

    python -m tools.budgets [--models NAME,...] [--only REGEX] [--results FILE] [--write docs/benchmarks.md]

Each cell is one call of `onnxprune prune --target latency=F --allocation NAME` with 256 calibration images (ImageNet
models: 250), and one without repair. `reached` is the latency as the run measured it at its end, `tried` counts the
models that an allocation ran to decide, `seconds` is the wall time of the whole call. What was found is put into FILE
(JSON, a line each) at once and not measured again. Data as in tools/recovery.py.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import onnxprune
from onnxprune.errors import GateNotMet
from onnxprune.runtime.machine import this_machine
from tools.page import written
from tools.recovery import ASSETS
from tools.results import append, read
from tools.subjects import subject

MODELS = ("cifar10_resnet20", "cifar10_resnet56", "mobilenet_v1_0.5_160", "squeezenet1.0_deepcompression")
SHARES = (0.75, 0.5)
ALLOCATIONS = ("uniform", "erk", "lamp", "global", "sensitivity", "knapsack", "netadapt", "amc")


@dataclass(frozen=True)
class Cell:
    """One allocation at one share of a model's latency; top-1 in percent."""

    model: str
    share: float
    allocation: str
    top1: float = 0.0
    bare: float = 0.0
    before: float = 0.0
    reached: float = 0.0
    tried: int = 0
    seconds: float = 0.0

    @property
    def key(self) -> tuple[str, float, str]:
        """What it is a measurement of."""
        return self.model, self.share, self.allocation


def measured(cell: Cell, assets: Path) -> Cell:
    """Prune twice, with repair and without."""
    who = subject(cell.model, assets)
    assert who.test.labels is not None
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "train.npz"), x=who.drawn(0))
        np.savez(Path(folder, "test.npz"), x=next(iter(who.test.arrays.values())), labels=who.test.labels)
        found = []
        for recover in ("auto", "none"):
            start = time.perf_counter()
            report = onnxprune.prune(
                who.path, target=f"latency={cell.share}", allocation=cell.allocation, recover=recover, best_effort=True,
                calibration=str(Path(folder, "train.npz")), evaluate=str(Path(folder, "test.npz")),
            ).report  # fmt: skip
            found.append((report, time.perf_counter() - start))
    (report, seconds), (bare, _) = found
    assert report.metric_after is not None
    assert report.metric_before is not None
    assert bare.metric_after is not None
    told = next((m for note in report.notes if (m := re.search(r"tried (\d+) cuts", note))), None)
    return Cell(*cell.key, 100 * report.metric_after, 100 * bare.metric_after, 100 * report.metric_before,
                report.targets["latency"][1], int(told[1]) if told else 0, seconds)  # fmt: skip


def table(cells: Sequence[Cell]) -> str:
    """One row for each allocation, one table for each model and share."""
    known = {cell.key: cell for cell in cells}
    lines = [f"{this_machine()}. Top-1 in percent; one run each."]
    for model in MODELS:
        for share in SHARES:
            rows = [known[model, share, a] for a in ALLOCATIONS if (model, share, a) in known]
            if not rows:
                continue
            lines += ["", f"**{model}** ({rows[0].before:.1f} %), latency={share}", ""]
            lines += [
                "| allocation | without repair | repaired | reached | tried | seconds |",
                "|---|---|---|---|---|---|",
            ]
            lines += [
                f"| `{c.allocation}` | {c.bare:.1f} | {c.top1:.1f} | {c.reached:.3f} | {c.tried} | {c.seconds:.0f} |"
                for c in rows
            ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--only", default="", help="measure only 'model share allocation' that match")
    parser.add_argument("--results", type=Path, default=Path("budgets.jsonl"))
    parser.add_argument("--assets", type=Path, default=ASSETS)
    parser.add_argument("--write", type=Path, help="a page whose table 'budgets' is written anew")
    arguments = parser.parse_args()
    known = {cell.key: cell for cell in read(arguments.results, Cell)}
    cells = [Cell(m, s, a) for m in arguments.models.split(",") for s in SHARES for a in ALLOCATIONS]
    for cell in cells:
        if cell.key in known or not re.search(arguments.only, f"{cell.model} {cell.share} {cell.allocation}"):
            continue
        try:
            known[cell.key] = measured(cell, arguments.assets)
        except GateNotMet as failure:
            print(f"{cell.key}: {failure}", file=sys.stderr)
            continue
        append(arguments.results, known[cell.key])
        print(known[cell.key], file=sys.stderr, flush=True)
    text = table(list(known.values()))
    if arguments.write:
        arguments.write.write_text(written(arguments.write.read_text(), "budgets", text))
    print(text)


if __name__ == "__main__":
    main()
