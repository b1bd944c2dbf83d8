"""Writes docs/criteria.md: every criterion that onnxprune has, with its source, what it needs and what it can judge.

    python tools/criteria_table.py [--check]

With `--check` nothing is written, and it ends with 1 if the page is not current.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from onnxprune.criteria import CRITERIA, Criterion

__all__ = ["PAGE", "page", "rows"]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "criteria.md"

HEAD = """\
# Criteria

What `--criterion` takes (`criterion=` in Python). Each is one small function in
[`onnxprune/criteria/`](../onnxprune/criteria), with its paper in the docstring and a test against an independent
computation. Written by `python tools/criteria_table.py`; a test keeps it current. See
[adding a criterion](adding-a-criterion.md).

* **data**: what it takes beyond the model: `samples` and `labels` come with `--calibration`; `runs` runs the model on
  the samples, many times; `weights, samples` says more where samples are given, and does without.
* **judges**: `indices` are those of groups: channels, heads, neurons, widths; `weights` are single numbers, for every
  granularity below.
"""

TAIL = """
## What a score is of

* A group's index is scored from all its *sites*. Where a criterion judges weights, a site is an axis of a weight of
  rank two or more; biases and norms have no say. Where it judges activations, a site is a tensor that carries the group
  in front of a consumer: a layer that multiplies it, or a product of two activations that adds it up. It is found by
  type, so behind the nonlinearity, and in front of pools that leave one number of a map.
* Where several indices of an axis go with an index of the group (heads x width, a concatenation, what a Flatten made),
  weights are taken together: the norm of all of them, the vector of all of them. Of activations, which are fractions,
  means, entropies and ranks, the mean counts.
* `--normalise` says what each site's scores are divided by, `--aggregate` how the sites of a group become one score. By
  default each site is divided by its mean, and the mean over sites counts, so that a group scores one in the mean and
  neither a layer of large numbers nor a group of many sites weighs more. `bn-scale`, `lamp`, `random`, `similarity`,
  `correlation` and `mutual-information` (without labels) make scores that can be compared over the whole model as they
  are: the two options are refused with them.
* Twins: `similarity`, `correlation` and `mutual-information` let the indices of a group leave one by one, so that of
  two that say the same one stays. To say what another says is not to matter little, though: what goes is removed, not
  merged into its twin. One-shot on ResNet-20 and ResNet-56 for CIFAR-10 (inner channels, uniformly, to 75 % of MACs,
  no recovery), `similarity` is no better than `random` on either, and `correlation` on ResNet-56. They are for models
  with real twins, or before a recovery that moves a twin's share to the one that stays.
* Which filters of one layer are small says little of what a trained network needs: with uniform allocation `l1`, `l2`
  and `linf` are at chance on ResNet-20 and ResNet-56. Which layers can spare filters they say well: with the
  global allocation the norms keep 83 % of ResNet-56 at 1.5x, where chance keeps 18 % and `lamp` 48 %, whose scores
  say how far a layer is used up.
* Top-1 stops at chance: with 90 % of weights gone, or at 1:4, most criteria that repair nothing all guess. The
  correlation with the original's scores, which the tables have beside it, still tells many of them from `random`.
* `l0` tells nothing of a dense model: all its indices score alike.
* `bn-scale` is a measure after training with a penalty on the scales, as network slimming does; of an ordinary model,
  folded or not, it tells hardly more than chance. `mutual-information` without labels, and with labels where every
  channel tells of many classes, likewise.
* `apoz` and `entropy` are made for ReLU: behind SiLU or GELU next to nothing is zero, all indices score alike, and the
  choice is no better than chance. `hrank` likewise where maps have full rank, as a sequence's do.
* `fisher` takes the slopes of the loss, which are next to nothing on training images that the model has learnt: give
  images that it has not seen, or prefer `forward`.
* `obs` and `obc` rank channels by what is lost after the layers behind are solved anew: pair them with a recovery
  that does so. Of single weights they bring the new weights themselves, as `sparsegpt` does.
* Weights of inputs that were never anything but zero on the samples go first (`obd`, `obs`, `obc`, `sparsegpt`), as
  in SparseGPT's own code.
* `wanda` weighs single weights against those of the same output, as its paper does; the norms against all of their
  layer (`--compare` changes it).
* [benchmarks](benchmarks.md) has what every criterion keeps of real models before recovery.
* A group of which a criterion can say nothing is scored by l2, and the report names it.
"""


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Name, what it says, data and what it judges, of every criterion, by name."""
    for name, criterion in sorted(CRITERIA.items()):
        judges = "indices" if criterion.elements is None else "indices, weights"
        yield name, criterion.about.replace("|", "\\|"), _data(criterion), judges


def _data(criterion: Criterion) -> str:
    optional = criterion.data == "weights" and criterion.needs is not Criterion.needs
    return "weights, samples" if optional else criterion.data


def page() -> str:
    """The text of docs/criteria.md."""
    table = ["| criterion | what it says of an index or a weight | data | judges |\n|---|---|---|---|"]
    table += [f"| `{name}` | {about} | {data} | {judges} |" for name, about, data, judges in rows()]
    return "\n".join([HEAD, *table, TAIL])


def main() -> int:
    """0 if the page is current, or was written."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, end with 1 if the page is not current")
    if parser.parse_args().check:
        return int(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
