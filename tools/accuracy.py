"""What one-shot pruning without any recovery costs: top-1 and speed of the CIFAR-10 models, as a table in Markdown.

    python tools/accuracy.py [--models cifar10_resnet20 ...] [--criteria l1 l2 ...]

Models and the 1,017 test images lie in models/. Speed-ups are interleaved processor-time ratios, batch 1, one thread.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnxprune
from onnxprune.runtime.machine import this_machine

MODELS = Path(__file__).parent.parent / "models"
TARGETS = (0.9, 0.8, 0.7, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=["cifar10_resnet20", "cifar10_resnet56"])
    parser.add_argument("--criteria", nargs="+", default=["l2"])
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    print(f"One run each; standard error of a top-1 near 90 % on 1,017 images 0.9 points; {this_machine()}.\n")
    print("| model | criterion | allocation | round to | MACs kept | top-1 before | top-1 after | speed-up (95 %) |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.models:
        for criterion in options.criteria:
            for allocation in ("uniform", "global"):
                for rounding in ("auto", "1"):
                    for target in TARGETS:
                        report = onnxprune.prune(
                            MODELS / f"{name}.onnx",
                            target=f"macs={target}",
                            criterion=criterion,
                            allocation=allocation,
                            round_to=rounding,
                            rounds=options.rounds,
                            evaluate=str(MODELS / "cifar10_test.npz"),
                            best_effort=True,
                        ).report
                        before, after = report.metric_before or 0.0, report.metric_after or 0.0
                        low, high = report.speedup_ci or (0.0, 0.0)
                        print(
                            f"| {name} | {criterion} | {allocation} | {rounding} "
                            f"| {report.macs_after / report.macs_before:.3f} | {before:.4f} | {after:.4f} "
                            f"| {report.speedup:.2f} ({low:.2f} to {high:.2f}) |",
                            flush=True,
                        )


if __name__ == "__main__":
    main()
