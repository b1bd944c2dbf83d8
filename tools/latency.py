"""How near predicted latency is to measured latency, and how near a latency that is asked for is to what comes of it.

    python tools/latency.py predict [--assets FOLDER] [--models NAME,...] [--widths N] [--write PAGE]
    python tools/latency.py targets [--assets FOLDER] [--models NAME,...] [--write PAGE]

`predict`: each model is tabulated afresh, nothing is taken from a cache. Then it is cut at N random widths, unlike
those of the table, and measured interleaved with the original (processor time of one thread). What is compared is
the share of the original's latency: predicted against measured. All of it is measured twice, with fresh sessions, and
the difference of the two says what no prediction can be nearer than.

`targets`: one call of `prune --target latency=F` for each model and share, without data; what it wrote is measured
again, interleaved with the original, in fresh sessions. The table of where time goes is kept from share to share.

With `--write` the table goes into the page between its marks.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

import onnxprune
from onnxprune import cut
from onnxprune.allocators import candidates
from onnxprune.dependency import analyse
from onnxprune.latency import latency_model
from onnxprune.latency.design import design
from onnxprune.model import Array, Model
from onnxprune.plan import Plan
from onnxprune.runtime.machine import conv_block, this_machine
from onnxprune.runtime.timing import measure
from onnxprune.trials import one_feed

sys.path.insert(0, str(Path(__file__).parent.parent))
from tools.page import written
from tools.skeletons import SKELETONS

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT.parent / "shared" / "assets"
MODELS = (
    "cifar10_resnet20", "cifar10_resnet56", "mobilenet_v2_1.0_224", "squeezenet1.0_deepcompression", "yolox_nano",
    "ultraface_rfb_320", "kwt1_speechcommands12", "resnet18", "resnet50",
)  # fmt: skip
PRUNED = (
    "cifar10_resnet20", "cifar10_resnet56", "mobilenet_v1_0.5_160", "mobilenet_v2_1.0_224",
    "squeezenet1.0_deepcompression", "ultraface_rfb_320", "resnet18", "resnet50",
)  # fmt: skip
SHARES = (0.75, 0.5, 0.35)
PREDICTED = (
    "| model | groups | original, ms | seconds (of processor) to tabulate | shares measured | error, mean | worst "
    "| measured again: mean, worst |",
    "|---|---|---|---|---|---|---|---|",
)
MET = (
    "| model | asked | reached | measured again | furthest off | MACs kept | seconds |",
    "|---|---|---|---|---|---|---|",
)
TOGETHER = 4  # models in one measurement, beside the original
UNSEEN = 1000  # the seed of the widths that are judged: no table is made at these


def read(name: str, assets: Path) -> Model | None:
    """A model of the repository, of the assets or of the skeletons; None where the assets are not there."""
    for path in (ROOT / "models" / f"{name}.onnx", assets / "models" / f"{name}.onnx"):
        if path.exists():
            return Model.load(path)
    return Model.from_bytes(SKELETONS[name]().SerializeToString(), source=name) if name in SKELETONS else None


def shares(original: Model, models: list[Model], feed: dict[str, Array], seed: int) -> npt.NDArray[np.float64]:
    """What each model takes, as a share of the original's latency."""
    found: list[float] = []
    for start in range(0, len(models), TOGETHER):
        several = [original, *models[start : start + TOGETHER]]
        timing = measure([model.to_bytes() for model in several], feed, rounds=40, sessions=8, seed=seed + start)
        found += [1 / pair.speedup for pair in timing.pairs]
    return np.asarray(found)


def row(name: str, model: Model, widths: int) -> str:
    """Tabulates a model, then predicts and measures it at random widths."""
    analysis = analyse(model)
    feed = one_feed(model, analysis.shapes.sizes)
    chosen = candidates(analysis, analysis.groups, block=conv_block())
    began = time.perf_counter(), time.process_time()
    latency = latency_model(analysis, chosen, feed)
    wall, spent = time.perf_counter() - began[0], time.process_time() - began[1]
    counts = design(chosen, widths, UNSEEN)
    atoms = {group.atom.id: group.size for group in analysis.groups}
    plans = [Plan.of(analysis.groups, {a: np.arange(atoms[a]) < kept for a, kept in one.items()}) for one in counts]
    cuts = [cut.shrink(analysis, plan) for plan in plans]
    twice = np.stack([shares(model, cuts, feed, seed) for seed in (0, 1)])
    measured = twice.mean(axis=0)
    error = np.abs(np.array([latency.predict(one) / latency.base_ms for one in counts]) / measured - 1)
    itself = np.abs(twice[0] / twice[1] - 1)
    return (
        f"| {name} | {len(chosen)} | {latency.base_ms:.3g} | {wall:.0f} ({spent:.0f}) "
        f"| {measured.min():.2f} to {measured.max():.2f} | {error.mean():.1%} | {error.max():.1%} "
        f"| {itself.mean():.1%}, {itself.max():.1%} |"
    )


def asked(name: str, model: Model, share: float) -> str:
    """Prunes a model to a share of its latency, and measures what came of it twice."""
    began = time.perf_counter()
    found = onnxprune.prune(model, target=f"latency={share}", best_effort=True)
    seconds, report = time.perf_counter() - began, found.report
    feed = one_feed(model, analyse(model).shapes.sizes)
    again = [float(shares(model, [found.model], feed, seed)[0]) for seed in (0, 1)]
    off = max(abs(value / share - 1) for value in again)
    return (
        f"| {name} | {share} | {report.targets['latency'][1]:.3f} | {again[0]:.3f}, {again[1]:.3f} | {off:.1%} "
        f"| {report.macs_after / report.macs_before:.2f} | {seconds:.0f} |{'' if report.targets_met else ' not met'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("table", choices=("predict", "targets"))
    parser.add_argument("--assets", type=Path, default=ASSETS)
    parser.add_argument("--models", default="")
    parser.add_argument("--widths", type=int, default=8)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    predicts = options.table == "predict"
    names = options.models.split(",") if options.models else MODELS if predicts else PRUNED
    lines = [f"Batch 1, one thread; {this_machine()}.", "", *(PREDICTED if predicts else MET)]
    print("\n".join(lines))
    for name in names:
        model = read(name, options.assets)
        if model is None:
            parser.error(f"there is no {name}.onnx in models/ or {options.assets / 'models'}")
        for line in [row(name, model, options.widths)] if predicts else (asked(name, model, s) for s in SHARES):
            lines.append(line)
            print(line, flush=True)
    if options.write is not None:
        text, mark = options.write.read_text(encoding="utf-8"), "latency" if predicts else "latency-targets"
        options.write.write_text(written(text, mark, "\n".join(lines) + "\n"), encoding="utf-8")


if __name__ == "__main__":
    main()
