"""Prunes every graph of the zoo by half and proves it: a table, and what could not be proven.

    python tools/zoo.py [ZOO] [--only REGEX] [--processes 2] [--seed 0] [--write FILE]

ZOO is the folder with INDEX.json, skel/, hydrate.py and REFERENCE.tsv (default: ../shared/zoo). Of each group the
larger half stays, at random. Masked and shrunk models run in a child process on the graph's own inputs and, where the
batch is dynamic, on a batch of three. `ratio` is parameters after over before; `reference` is that of a first trial.
Ends with 1 if a graph was wrong. `--write` puts the summary and all that is not plain success into FILE, as markdown.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune import cut
from onnxprune.dependency import analyse
from onnxprune.errors import OnnxPruneError
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.runtime.comparison import compare, float_noise
from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.isolated import Isolated
from onnxprune.testing import random_keep

ZOO = Path(__file__).resolve().parents[2] / "shared" / "zoo"
MARGIN = 0.02  # how far a ratio may lie above the reference


@dataclass(frozen=True)
class Row:
    """What came of one graph; `verdict` is verified, wrong, refused (nothing to cut) or failed."""

    name: str
    verdict: str
    nodes: int = 0
    groups: int = 0
    ratio: float = math.nan
    reference: float = math.nan
    error: float = math.nan
    analysis_s: float = math.nan
    cut_s: float = math.nan
    detail: str = ""

    @property
    def above(self) -> bool:
        """Whether fewer parameters went than in the first trial."""
        return self.ratio > self.reference + MARGIN

    def __str__(self) -> str:
        return (
            f"{self.name:44} {self.verdict:9} {self.nodes:6} {self.groups:5} {self.ratio:7.3f} {self.reference:7.3f} "
            f"{self.error:8.1e} {self.analysis_s:7.2f} {self.cut_s:6.2f} {'above ' if self.above else ''}{self.detail}"
        )


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


def feeds(hydrate: Any, entry: dict[str, Any], model: Model) -> Iterator[dict[str, Any]]:
    """The graph's own inputs; then a batch of three, where all inputs have a dynamic first axis."""
    yield hydrate.random_inputs(entry)
    if all(info.shape and not isinstance(info.shape[0], int) for info in model.inputs):
        wide = [one | {"shape": [3, *one["shape"][1:]]} for one in entry["inputs"]]
        yield hydrate.random_inputs({"inputs": wide}, seed=1)


def trial(zoo: Path, entry: dict[str, Any], reference: float, seed: int) -> Row:
    """Cut one graph by half and compare."""
    sys.path.insert(0, str(zoo))
    hydrate = __import__("hydrate")
    name = entry["name"]
    try:
        model = Model.from_proto(hydrate.hydrate(hydrate.load_skel(zoo / entry["file"])), source=name)
        start = time.process_time()
        analysis = analyse(model)
        groups = analysis.groups
        middle = time.process_time()
        plan = Plan.of(groups, random_keep(groups, seed))
        shrunk = cut.shrink(analysis, plan)
        end = time.process_time()
        ratio = parameters(shrunk) / max(1, parameters(model))
        known = (len(model.nodes), len(groups), ratio, reference)
        masked = cut.mask(analysis, plan)
        error, detail, verdict = math.nan, "", "verified"
        with Isolated(timeout=300) as worker:
            given = list(feeds(hydrate, entry, model))
            try:
                outputs = worker.run(masked.to_bytes(), given)
            except RunFailed:  # the graph itself holds a batch of one
                given = given[:1]
                outputs = worker.run(masked.to_bytes(), given)
            noise = float_noise(outputs, worker.run(masked.to_bytes(), given, optimise=False))
            try:
                found = compare(outputs, worker.run(shrunk.to_bytes(), given), noise)
                error, detail = found.max_error, "" if found.passed else found.detail
                verdict = "verified" if found.passed else "wrong"
            except RunFailed as failure:
                verdict, detail = "wrong", str(failure)
        verdict = "refused" if verdict == "verified" and not groups else verdict
        return Row(name, verdict, *known, error, middle - start, end - middle, detail)
    except (OnnxPruneError, RunFailed) as failure:
        return Row(name, "failed", reference=reference, detail=str(failure))
    except Exception as failure:  # a bug of ours: told in the table, and the other graphs go on
        return Row(name, "failed", reference=reference, detail=f"{type(failure).__name__}: {failure}")


def summary(rows: list[Row]) -> str:
    """How many graphs ended how."""
    counts = Counter(row.verdict for row in rows)
    above = sum(row.above for row in rows)
    ratio = float(np.nanmean([row.ratio for row in rows])) if rows else math.nan
    parts = [f"{counts[verdict]} {verdict}" for verdict in ("verified", "wrong", "refused", "failed")]
    return f"{len(rows)} graphs: {', '.join(parts)}; {above} above the reference; mean ratio {ratio:.3f}"


def markdown(rows: list[Row]) -> str:
    """The summary, and a table of what is not plain success."""
    odd = [row for row in rows if row.verdict != "verified" or row.above]
    lines = [summary(rows), "", "| graph | verdict | groups | ratio | reference | why |", "|---|---|---|---|---|---|"]
    lines += [f"| {r.name} | {r.verdict} | {r.groups} | {r.ratio:.3f} | {r.reference:.3f} | {r.detail} |" for r in odd]
    return "\n".join(lines) + "\n"


def main() -> int:
    """0 if nothing was wrong or failed, 1 otherwise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("zoo", nargs="?", type=Path, default=ZOO)
    parser.add_argument("--only", default="", help="regular expression that a name must hold")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    known = references(options.zoo)
    entries = [entry for entry in index(options.zoo) if re.search(options.only, entry["name"])]
    rows = []
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(trial, options.zoo, e, known.get(e["name"], math.nan), options.seed) for e in entries]
        for job in as_completed(jobs):
            rows.append(job.result())
            print(rows[-1], flush=True)
    rows.sort(key=lambda row: row.name)
    print(summary(rows))
    if options.write:
        options.write.write_text(markdown(rows), encoding="utf-8")
    return 1 if any(row.verdict in ("wrong", "failed") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
