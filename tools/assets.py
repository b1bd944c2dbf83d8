"""Prunes every real model of a folder by half, on the command line, and proves it: a table.

    python tools/assets.py [FOLDER] [--only REGEX] [--processes 2] [--write FILE] [--repair]

FOLDER holds trained models as .onnx files (default: ../shared/assets/models). Each goes through `onnxprune prune MODEL
-o OUT --sparsity 0.5 --rounds 0` twice, rounded to 1 and as it is rounded by default. `ratio` is parameters after over
before, `error` the largest relative error of the proof, `seconds` the time of the first command on the wall. Where more
than `MUCH` of the parameters stay, the reasons that hold most of them follow. Ends with 1 if a model was not pruned for
another reason than that all of it is fixed. `--write` puts the table into FILE, as markdown; where FILE has a line
`<!-- assets -->`, in place of all that stands between it and `<!-- /assets -->`.

With `--repair` each goes through `onnxprune prune MODEL -o OUT --target macs=0.7 --recover reconstruct --from-noise
--calibration random:40` and `onnxprune verify MODEL OUT`. Random samples say nothing of accuracy: this is about what a
repair reaches, what it cannot, and that what comes of it is proven. `layers` were fitted and `kept` of them taken,
`left` cannot be fitted; `before` and `after` are the relative error of the outputs on samples held out.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxprune
from onnxprune.model import Model

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tools.page import reasons, written

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "assets" / "models"
TOO_LONG = 900  # seconds
MUCH = 0.45  # half of both axes of a matrix is a quarter of it


@dataclass(frozen=True)
class Row:
    """What came of one model; `code` is the exit code, and 1 with no groups means that all of it is fixed."""

    name: str
    code: int
    groups: int = 0
    params: int = 0
    ratio: float = math.nan
    rounded: float = math.nan
    error: float = math.nan
    seconds: float = math.nan
    why: str = ""

    @property
    def failed(self) -> bool:
        """Whether it was not pruned although there was something to prune, or not proven."""
        return self.code != 0 and not (self.code == 1 and self.groups == 0)

    def __str__(self) -> str:
        sizes = f"{self.groups:4} {self.params:10,} {self.ratio:6.3f} {self.rounded:6.3f} {self.error:8.1e}"
        return f"{self.name:40} {self.code} {sizes} {self.seconds:6.1f} {self.why}"


def pruned(
    path: Path, folder: Path, *options: str, amount: tuple[str, ...] = ("--sparsity", "0.5", "--rounds", "0")
) -> tuple[int, dict[str, Any], str, float]:
    """The exit code (124 after `TOO_LONG`), the report, the last line of the error stream, and seconds."""
    report = folder / f"{path.stem}.json"
    command = [sys.executable, "-m", "onnxprune", "prune", str(path), "-o", str(folder / path.name), "--quiet"]
    start = time.perf_counter()
    try:
        ran = subprocess.run(
            [*command, *amount, "--json", str(report), *options],
            capture_output=True, text=True, check=False, timeout=TOO_LONG,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 124, {}, f"not done in {TOO_LONG} s", time.perf_counter() - start
    spent = time.perf_counter() - start
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8")) if ran.returncode == 0 else {}
    return ran.returncode, found, ran.stderr.strip().rpartition("\n")[2], spent


def trial(path: Path) -> Row:
    """Prune one model by half, as a user would, twice."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        code, report, said, spent = pruned(path, folder, "--round-to", "1")
        model = Model.load(path)
        if code:
            groups = len(onnxprune.inspect(model).groups)
            why = said if groups else reasons(onnxprune.inspect(model).fixed, model)
            return Row(path.stem, code, groups, seconds=spent, why=why, ratio=1.0, rounded=1.0)
        ratio = report["params_after"] / report["params_before"]
        why = reasons(onnxprune.inspect(model).fixed, Model.load(folder / path.name)) if ratio > MUCH else ""
        code, rounded, said, _ = pruned(path, folder)
        return Row(
            path.stem, code, len(report["groups"]), report["params_before"], ratio,
            rounded["params_after"] / rounded["params_before"] if rounded else math.nan,
            max(report["max_error"], rounded.get("max_error", math.inf)), spent, said or why,
        )  # fmt: skip


@dataclass(frozen=True)
class Mended:
    """What came of pruning and repairing one model; `code` is the exit code of the first command that failed, or 0."""

    name: str
    code: int
    layers: int = 0
    kept: int = 0
    left: int = 0
    before: float = math.nan
    after: float = math.nan
    seconds: float = math.nan
    why: str = ""
    fixed: bool = False

    @property
    def failed(self) -> bool:
        """Whether it was not pruned, repaired and proven although there was something to prune."""
        return self.code != 0 and not self.fixed

    def __str__(self) -> str:
        counts = f"{self.layers:4} {self.kept:4} {self.left:4} {self.before:9.3g} {self.after:9.3g}"
        return f"{self.name:40} {self.code} {counts} {self.seconds:6.1f} {self.why}"


def mended(path: Path) -> Mended:
    """Prune one model, repair it on random samples, and prove what was written."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = ("--recover", "reconstruct", "--from-noise", "--calibration", "random:40", "--best-effort")
        code, report, said, spent = pruned(path, folder, *options, amount=("--target", "macs=0.7"))
        if code:
            fixed = code != 124 and not onnxprune.inspect(Model.load(path)).groups
            return Mended(path.stem, code, seconds=spent, why=said, fixed=fixed)
        command = [sys.executable, "-m", "onnxprune", "verify", str(path), str(folder / path.name)]
        proof = subprocess.run(command, capture_output=True, text=True, check=False)
        repairs, left = report["repairs"], report["unrepaired"]
        if proof.returncode:
            said = proof.stderr.strip().rpartition("\n")[2]
        elif not report["recovery"]:
            said = next((note for note in report["notes"] if "repaired" in note), "nothing repaired")
        else:
            said = "; ".join(sorted({one["reason"] for one in left}))
        return Mended(
            path.stem, proof.returncode, len(repairs), sum(one["kept"] for one in repairs), len(left),
            before=report["reconstruction_error_before"] or math.nan,
            after=report["reconstruction_error"] or math.nan, seconds=spent, why=said,
        )  # fmt: skip


def summary(rows: list[Row]) -> str:
    """How many models ended how."""
    whole, failed = sum(row.groups == 0 for row in rows), sum(row.failed for row in rows)
    ratio = sum(row.ratio for row in rows) / max(1, len(rows))
    return (
        f"{len(rows)} models: {len(rows) - whole - failed} pruned and verified, {whole} wholly fixed, {failed} failed; "
        f"mean ratio {ratio:.3f}"
    )


def markdown(rows: list[Row]) -> str:
    """The summary and the table."""
    lines = [f"{summary(rows)}.", "", "| model | groups | ratio | rounded | error | seconds | what holds the rest |"]
    lines.append("|---|---|---|---|---|---|---|")
    for r in rows:
        error = "" if math.isnan(r.error) else f"{r.error:.0e}"
        lines.append(
            f"| {r.name} | {r.groups} | {r.ratio:.3f} | {r.rounded:.3f} | {error} | {r.seconds:.1f} | {r.why} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """0 if every model was pruned and verified, or is wholly fixed; 1 otherwise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--only", default="", help="regular expression that a name must hold")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--repair", action="store_true", help="repair what was pruned, too")
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.glob("*.onnx") if re.search(options.only, path.stem))
    rows = []
    with ThreadPoolExecutor(options.processes) as pool:
        if options.repair:
            failed = []
            for mend in pool.map(mended, paths):
                failed += [mend.name] * mend.failed
                print(mend, flush=True)
            print(f"{len(paths)} models, {len(failed)} failed{': ' if failed else ''}{', '.join(failed)}")
            return int(bool(failed))
        for row in pool.map(trial, paths):
            rows.append(row)
            print(row, flush=True)
    print(summary(rows))
    if options.write:
        known = options.write.read_text(encoding="utf-8") if options.write.exists() else ""
        options.write.write_text(written(known, "assets", markdown(rows)), encoding="utf-8")
    return int(any(row.failed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
