"""How long onnxprune itself takes, and what half the MACs are worth in ONNX Runtime: two tables in Markdown.

    python tools/speed.py analysis [--zoo FOLDER]     processor time of reading, analysing, scoring and cutting
    python tools/speed.py half [--rounds N]           speed-up at half the MACs, with and without rounding

Models come from tools/skeletons.py (random weights: only speed is meant). The zoo is optional; see tools/zoo.py.
"""

from __future__ import annotations

import argparse
import gzip
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import onnx

import onnxprune
from onnxprune import cut
from onnxprune.benchmark import bench
from onnxprune.criteria import Evidence, score
from onnxprune.dependency import analyse
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.runtime.machine import this_machine

sys.path.insert(0, str(Path(__file__).parent.parent))
from tools.skeletons import SKELETONS

REPEATS = 7
ZOO_GRAPHS = ("tv_swin_t", "tv_swin3d_t", "tv_densenet121", "tv_full_ssd300_vgg16")
ROUNDINGS = ("auto", "4", "1")


def cpu(function: Callable[[], object]) -> float:
    """The median processor time of several calls, in seconds."""
    spent = []
    for _ in range(REPEATS):
        start = time.process_time()
        function()
        spent.append(time.process_time() - start)
    return median(spent)


def zoo_graphs(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Graph skeletons of the zoo, weights filled by its own script."""
    sys.path.insert(0, str(folder))
    from hydrate import hydrate  # type: ignore[import-not-found]

    for name in ZOO_GRAPHS:
        with gzip.open(folder / "skel" / f"{name}.onnx.gz") as file:
            yield name, hydrate(onnx.load_model_from_string(file.read())).SerializeToString()


def half_of(model: Model) -> Plan:
    """Keep the better half of every group by l2: what `analyse + cut` is timed with."""
    analysis = analyse(model)
    scores = score(Evidence(analysis), "l2")
    keep = {}
    for group in analysis.groups:
        order = np.argsort(scores.values[group.atom.id])
        mask = np.ones(group.size, dtype=np.bool_)
        mask[order[: group.size // 2]] = False
        keep[group.atom.id] = mask
    return Plan.of(analysis.groups, keep)


def analysis_table(zoo: Path | None) -> None:
    """One row a model: reading, analysis with groups, scoring, cutting; seconds of processor time."""
    print(f"Median of {REPEATS}, one process, seconds of processor time; {this_machine()}.\n")
    print("| model | nodes | groups | parse | analyse | score (l2) | shrink | analyse + shrink |")
    print("|---|---|---|---|---|---|---|---|")
    models = [(name, build().SerializeToString()) for name, build in SKELETONS.items()]
    for name, data in [*models, *(zoo_graphs(zoo) if zoo is not None else ())]:
        model = Model.from_bytes(data)
        analysis, plan = analyse(model), half_of(model)
        parse = cpu(lambda data=data: Model.from_bytes(data))  # type: ignore[misc]
        typed = cpu(lambda data=data: len(analyse(Model.from_bytes(data)).groups)) - parse  # type: ignore[misc]
        scored = cpu(lambda analysis=analysis: score(Evidence(analysis), "l2"))  # type: ignore[misc]
        shrunk = cpu(lambda analysis=analysis, plan=plan: cut.shrink(analysis, plan))  # type: ignore[misc]
        print(
            f"| {name} | {len(model.nodes)} | {len(analysis.groups)} | {parse:.3f} | {typed:.3f} | {scored:.3f} "
            f"| {shrunk:.3f} | {typed + shrunk:.3f} |",
            flush=True,
        )
    spent = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "onnxprune", "--help"], check=True, capture_output=True)
        spent.append(time.perf_counter() - start)
    print(f"\n`onnxprune --help`: {median(spent):.3f} s wall ({min(spent):.3f} to {max(spent):.3f}).")


def half_table(rounds: int, names: list[str], allocation: str) -> None:
    """One row a model and rounding: MACs ratio, measured speed-up, and the second as a share of the first."""
    print(
        f"{allocation.capitalize()} l2 pruning to `macs=0.5`, batch 1, one thread, {rounds} interleaved rounds, "
        "3 sessions a model; "
        f"{this_machine()}.\n"
    )
    print("| model | round to | MACs before / after | params before / after | speed-up (95 %) | of the MACs ratio |")
    print("|---|---|---|---|---|---|")
    for name in names:
        original = Model.from_bytes(SKELETONS[name]().SerializeToString(), source=name)
        made = [
            onnxprune.prune(original, target="macs=0.5", round_to=r, allocation=allocation, rounds=0) for r in ROUNDINGS
        ]
        result = bench([original, *(m.model for m in made)], rounds=rounds, memory=False)
        for rounding, pruned, row in zip(ROUNDINGS, made, result.rows[1:], strict=True):
            r = pruned.report
            low, high = row.speedup_ci
            ratio = r.macs_before / r.macs_after
            print(
                f"| {name} | {rounding} | {ratio:.2f} | {r.params_before / r.params_after:.2f} "
                f"| {row.speedup:.2f} ({low:.2f} to {high:.2f}) | {row.speedup / ratio:.2f} |",
                flush=True,
            )
        low, high = result.control_spread
        print(f"| {name} | against itself | 1.00 | 1.00 | {result.control_ratio:.2f} ({low:.2f} to {high:.2f}) | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("table", choices=("analysis", "half"))
    parser.add_argument("--zoo", type=Path, help="folder of the graph zoo")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", action="append", choices=tuple(SKELETONS), help="one model (repeatable)")
    parser.add_argument("--allocation", default="uniform")
    options = parser.parse_args()
    if options.table == "analysis":
        analysis_table(options.zoo)
    else:
        half_table(options.rounds, options.only or list(SKELETONS), options.allocation)


if __name__ == "__main__":
    main()
