"""Prunes every graph of the zoo by half and proves it: a table, and what could not be proven.

    python tools/zoo.py [ZOO] [--only REGEX] [--processes 2] [--criterion random] [--seed 0] [--write FILE]

ZOO is the folder with INDEX.json, skel/, hydrate.py and REFERENCE.tsv (default: ../shared/zoo). Each graph goes through
`prune` as a user would call it, with `--sparsity 0.5 --round-to 1`, verification included. `ratio` is parameters after
over before; `reference` is that of a first trial. The last three columns are seconds: analysis, all but verification,
the whole run. Where a ratio lies above the reference, or nothing was pruned, the two reasons that hold most parameters
follow. Ends with 1 if a graph failed or a group of it did not verify. `--write` puts the summary and all that is not
plain success into FILE, as markdown, in place of what stands between `<!-- zoo -->` and `<!-- /zoo -->`.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import onnxprune
from onnxprune.errors import OnnxPruneError
from onnxprune.model import Model

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.page import reasons, written

ZOO = Path(__file__).resolve().parents[2] / "shared" / "zoo"
MARGIN = 1e-4  # the reference is written to four digits


@dataclass(frozen=True)
class Row:
    """What came of one graph; `verdict` is verified, partly (groups were left), refused (nothing to cut) or failed."""

    name: str
    verdict: str
    nodes: int = 0
    groups: int = 0
    ratio: float = math.nan
    reference: float = math.nan
    error: float = math.nan
    analysis_s: float = math.nan
    work_s: float = math.nan
    total_s: float = math.nan
    detail: str = ""

    @property
    def above(self) -> bool:
        """Whether fewer parameters went than in the first trial."""
        return self.ratio > self.reference + MARGIN

    def __str__(self) -> str:
        sizes = f"{self.nodes:6} {self.groups:5} {self.ratio:7.3f} {self.reference:7.3f} {self.error:8.1e}"
        spent = f"{self.analysis_s:7.2f} {self.work_s:6.2f} {self.total_s:7.2f}"
        return f"{self.name:44} {self.verdict:9} {sizes} {spent} {'above: ' if self.above else ''}{self.detail}"


def index(zoo: Path) -> list[dict[str, Any]]:
    """The entries of the zoo."""
    entries: list[dict[str, Any]] = json.loads((zoo / "INDEX.json").read_text(encoding="utf-8"))
    return entries


def references(zoo: Path) -> dict[str, float]:
    """The ratio that the first trial reached, by name; NaN where it failed."""
    lines = (zoo / "REFERENCE.tsv").read_text(encoding="utf-8").splitlines()
    column = lines[0].split("\t").index("ratio")
    rows = (line.split("\t") for line in lines[1:])
    return {row[0]: math.nan if row[column] == "-" else float(row[column]) for row in rows}


def parameters(model: Model) -> int:
    """Elements of all initializers that are floats, as the reference counts them."""
    weights = (info for info in model.weights.values() if info.constant_node is None)
    return sum(math.prod(info.shape) for info in weights if info.dtype.kind in "fV")


def trial(zoo: Path, entry: dict[str, Any], reference: float, criterion: str, seed: int) -> Row:
    """Prune one graph by half, as a user would."""
    sys.path.insert(0, str(zoo))
    hydrate = __import__("hydrate")
    name = entry["name"]
    try:
        model = Model.from_proto(hydrate.hydrate(hydrate.load_skel(zoo / entry["file"])), source=name)
        result = onnxprune.prune(
            model, sparsity=0.5, round_to="1", rounds=0, seed=seed, criterion=criterion, best_effort=True
        )
        report, spent = result.report, result.report.seconds
        total = sum(spent.values())
        ratio = parameters(result.model) / max(1, parameters(model))
        left = sorted({f"{f.tensor}[{f.axis}]" for f in report.fixed if f.reason == "verification"})
        whole = not report.groups or ratio > reference + MARGIN
        held = reasons(report.fixed, result.model) if whole else ""
        verdict = "partly" if left else "verified" if report.groups else "refused"
        error = math.nan if report.max_error is None else report.max_error
        detail = f"left whole: {', '.join(left[:3])}" if left else held
        return Row(name, verdict, len(model.nodes), len(report.groups), ratio, reference, error, spent["analyse"],
                   total - spent["verify"], total, detail)  # fmt: skip
    except OnnxPruneError as failure:
        return Row(name, "failed", reference=reference, detail=str(failure))
    except Exception as failure:  # a bug of ours: told in the table, and the other graphs go on
        return Row(name, "failed", reference=reference, detail=f"{type(failure).__name__}: {failure}")


def summary(rows: list[Row]) -> str:
    """How many graphs ended how."""
    counts = Counter(row.verdict for row in rows)
    above, below = sum(row.above for row in rows), sum(row.ratio < row.reference - MARGIN for row in rows)
    quick = sum(row.work_s < 1 for row in rows)
    ratio = float(np.nanmean([row.ratio for row in rows])) if rows else math.nan
    parts = [f"{counts[verdict]} {verdict}" for verdict in ("verified", "partly", "refused", "failed")]
    return (
        f"{len(rows)} graphs: {', '.join(parts)}; {below} below the reference, {above} above; mean ratio {ratio:.3f}; "
        f"{quick} under a second without verification"
    )


def markdown(rows: list[Row]) -> str:
    """The summary, and a table of what is not plain success."""
    odd = [row for row in rows if row.verdict != "verified" or row.above]
    lines = [summary(rows), "", "| graph | verdict | groups | ratio | reference | why |", "|---|---|---|---|---|---|"]
    lines += [f"| {r.name} | {r.verdict} | {r.groups} | {r.ratio:.3f} | {r.reference:.3f} | {r.detail} |" for r in odd]
    return "\n".join(lines) + "\n"


def main() -> int:
    """0 if every graph was verified whole or refused, 1 otherwise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("zoo", nargs="?", type=Path, default=ZOO)
    parser.add_argument("--only", default="", help="regular expression that a name must hold")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--criterion", default="random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    known = references(options.zoo)
    entries = [entry for entry in index(options.zoo) if re.search(options.only, entry["name"])]
    rows = []
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(trial, options.zoo, e, known.get(e["name"], math.nan), options.criterion, options.seed)
            for e in entries
        ]
        for job in as_completed(jobs):
            rows.append(job.result())
            print(rows[-1], flush=True)
    rows.sort(key=lambda row: row.name)
    print(summary(rows))
    if options.write:
        page = options.write.read_text(encoding="utf-8") if options.write.exists() else ""
        options.write.write_text(written(page, "zoo", markdown(rows)), encoding="utf-8")
    return 1 if any(row.verdict in ("partly", "failed") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
