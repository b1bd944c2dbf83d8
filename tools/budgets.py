"""What every allocation keeps at equal measured latency, before and after repair: a table in Markdown.

    python -m tools.budgets [--models NAME,...] [--only REGEX] [--results FILE] [--seeds 3] [--write docs/benchmarks.md]

Each cell is the mean over `--seeds` calls of `onnxprune prune --target latency=F --allocation NAME`, each with a draw
of 256 calibration samples of its own (all of them, in another order, where there are fewer), with their standard
deviation, and each run a process of its own. `without repair` is the original cut by the same plan. `reached` is the
latency as the run measured it at its end, `tried` counts the models that an allocation ran to decide, `seconds` is the
wall time of the whole call. What was found is put into FILE (JSON, a line each) at once and not measured again. Data
and metrics are those of `tools/subjects.py`.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import onnxprune
from onnxprune import cut
from onnxprune.dependency import analyse
from onnxprune.model import Model
from onnxprune.runtime.machine import this_machine
from onnxprune.stamp import plan_of
from tools.page import written
from tools.recovery import ASSETS, ROOT, spread
from tools.results import append, read
from tools.subjects import METRICS, subject

MODELS = (
    "cifar10_resnet20",
    "cifar10_resnet56",
    "mobilenet_v1_0.5_160",
    "squeezenet1.0_deepcompression",
    "stories260k_llama",
    "byte_sb_bidi_lstm",
)
SHARES = (0.75, 0.5)
ALLOCATIONS = ("uniform", "erk", "lamp", "global", "sensitivity", "knapsack", "netadapt", "amc", "best")


@dataclass(frozen=True)
class Cell:
    """One allocation at one share of a model's latency, one draw of samples: the model's metric after, without repair,
    and before.
    """

    model: str
    share: float
    allocation: str
    seed: int = 0
    after: float = 0.0
    bare: float = 0.0
    before: float = 0.0
    reached: float = 0.0
    tried: int = 0
    seconds: float = 0.0
    metric: str = "top-1"
    kl: float = 0.0

    @property
    def key(self) -> tuple[str, float, str, int]:
        """What it is a measurement of."""
        return self.model, self.share, self.allocation, self.seed


def measured(cell: Cell, assets: Path) -> Cell:
    """Prune once, and judge what was written and the same cut without repair."""
    who = subject(cell.model, assets)
    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder, "train.npz")
        np.savez(train, x=who.drawn(cell.seed))
        start = time.perf_counter()
        found = onnxprune.prune(
            who.path, target=f"latency={cell.share}", allocation=cell.allocation, calibration=str(train),
            seed=cell.seed, best_effort=True,
        )  # fmt: skip
        seconds = time.perf_counter() - start
    original = analyse(Model.load(who.path))
    bare = who.judge(cut.shrink(original, plan_of(found.model, original)))
    judged = who.judge(found.model)
    tried = sum(int(m[1]) for note in found.report.notes if (m := re.search(r"tried (\d+) cuts", note)))
    return Cell(*cell.key, judged.after, bare.after, judged.before, found.report.targets["latency"][1], tried, seconds,
                who.metric.name, judged.kl)  # fmt: skip


def table(cells: Sequence[Cell]) -> str:
    """One row for each allocation, one table for each model and share."""
    found: dict[tuple[str, float, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        found[cell.model, cell.share, cell.allocation].append(cell)
    lines = [
        f"{this_machine()}. Top-1 and F1 in percent; KL to the original in nats, after repair; mean and standard "
        "deviation over the draws."
    ]
    for model in MODELS:
        for share in SHARES:
            rows = [(a, found[model, share, a]) for a in ALLOCATIONS if (model, share, a) in found]
            if not rows:
                continue
            first = rows[0][1][0]
            digits = METRICS[first.metric].digits
            lines += ["", f"**{model}** ({first.metric} {first.before:.{digits}f}), latency={share}", ""]
            lines += [
                "| allocation | draws | without repair | repaired | KL | reached | tried | seconds |",
                "|---|---|---|---|---|---|---|---|",
            ]
            for name, drawn in rows:
                shown = (
                    str(len(drawn)),
                    spread([c.bare for c in drawn], digits),
                    spread([c.after for c in drawn], digits),
                    spread([c.kl for c in drawn], 3),
                    f"{statistics.mean(c.reached for c in drawn):.3f}",
                    f"{statistics.mean(c.tried for c in drawn):.0f}",
                    f"{statistics.mean(c.seconds for c in drawn):.0f}",
                )
                lines.append(f"| `{name}` | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--only", default="", help="measure only 'model share allocation seed' that match")
    parser.add_argument("--results", type=Path, default=Path("budgets.jsonl"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--assets", type=Path, default=ASSETS)
    parser.add_argument("--write", type=Path, help="a page whose table 'budgets' is written anew")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        print(json.dumps(asdict(measured(Cell(**json.loads(arguments.cell)), arguments.assets))))
        return
    known = {cell.key: cell for cell in read(arguments.results, Cell)}
    command = [sys.executable, "-m", "tools.budgets", "--assets", str(arguments.assets), "--cell"]
    cells = [
        Cell(model, share, allocation, seed)
        for seed in range(arguments.seeds)
        for model in arguments.models.split(",")
        for share in SHARES
        for allocation in ALLOCATIONS
    ]
    for cell in cells:
        if cell.key in known or not re.search(arguments.only, " ".join(map(str, cell.key))):
            continue
        run = subprocess.run(
            [*command, json.dumps(asdict(cell))], capture_output=True, text=True, check=False, cwd=ROOT
        )
        if run.returncode:
            print(f"{cell.key}: {(run.stderr.strip() or run.stdout).splitlines()[-1]}", file=sys.stderr)
            continue
        known[cell.key] = Cell(**json.loads(run.stdout.splitlines()[-1]))
        append(arguments.results, known[cell.key])
        print(known[cell.key], file=sys.stderr, flush=True)
    text = table(list(known.values()))
    if arguments.write:
        arguments.write.write_text(written(arguments.write.read_text(), "budgets", text))
    print(text)


if __name__ == "__main__":
    main()
