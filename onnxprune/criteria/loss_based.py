"""Loss-based criteria: the model is run with indices damped, and what its outputs make of it is measured.

No training framework and no gradient is needed: slopes are differences. That costs runs, and how many there may be is
bounded (`MOST` passes over the samples). Where a model has more indices, those of a group that are neighbours in L2
magnitude are damped together, and share what was measured equally; `forward` and `fisher` are coarser then.

Groups that are read as integers have no gates (see `gating`), and are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from onnxprune.criteria.criterion import Criterion
from onnxprune.criteria.evidence import Divergence, Evidence
from onnxprune.criteria.magnitude import L2
from onnxprune.criteria.scores import Scores
from onnxprune.criteria.sites import aggregated
from onnxprune.dependency import Group
from onnxprune.dimensions import Vector
from onnxprune.errors import UsageError
from onnxprune.model import Array

__all__ = ["DIRECTIONS", "FISHER", "FORWARD", "MOST", "SPSA"]

MOST = 4096  # runs over all samples
DIRECTIONS = 16  # of SPSA for each group and part, a power of two
PARTS = 4  # of the samples, in which different indices share a column
STEP = 0.05  # how far a gate is moved for a difference


def _runs(evidence: Evidence) -> tuple[Divergence, list[Group]]:
    """What measures, and the groups that it can measure."""
    if evidence.divergence is None:
        raise UsageError("this criterion runs the model on samples: give --calibration")
    return evidence.divergence, [group for group in evidence.groups if group.atom.id in evidence.divergence.gated]


def _scores(evidence: Evidence, name: str, values: Mapping[int, Vector]) -> Scores:
    """The values of all groups divided by one number, their mean over the model."""
    mean = float(np.concatenate(list(values.values())).mean()) if values else 1.0
    return Scores.of(name, evidence.groups, {atom: found / (mean or 1.0) for atom, found in values.items()})


def _by_index(
    evidence: Evidence, groups: list[Group], each: int, measure: Callable[[int, Vector], float]
) -> dict[int, Vector]:
    """`measure(atom, which)` for every index alone, at `each` runs; for a few together where that is too much.

    `which`, shape (size,), is 1 where an index is damped and 0 elsewhere.
    """
    together = -(-sum(group.size for group in groups) * each // MOST)
    magnitudes = L2.judge(evidence) if together > 1 else {}
    assert not isinstance(magnitudes, Scores)
    found: dict[int, Vector] = {}
    for group in groups:
        sites = magnitudes.get(group.atom.id, ())
        order = np.argsort(aggregated(sites), kind="stable") if sites else np.arange(group.size)
        values = found[group.atom.id] = np.zeros(group.size)
        for start in range(0, group.size, max(1, together)):
            chosen = order[start : start + max(1, together)]
            which = np.zeros(group.size)
            which[chosen] = 1.0
            values[chosen] = measure(group.atom.id, which) / len(chosen)
    return found


def _forward(evidence: Evidence) -> Scores:
    """The divergence of the outputs without an index."""
    run, groups = _runs(evidence)

    def lost(atom: int, which: Vector) -> float:
        return max(0.0, run({atom: 1 - which}))

    return _scores(evidence, "forward", _by_index(evidence, groups, 1, lost))


def _fisher(evidence: Evidence) -> Scores:
    """The mean squared slope of each sample's loss along the gate of an index.

    With labels, of their cross-entropy: the empirical Fisher information. Without, labels are drawn from the outputs.
    """
    run, groups = _runs(evidence)
    signs = np.random.default_rng(evidence.seed)

    def squared(atom: int, which: Vector) -> float:
        step = STEP * which * signs.choice((-1.0, 1.0), size=len(which))
        slopes = (run.losses({atom: 1 + step}) - run.losses({atom: 1 - step})) / (2 * STEP)
        return float(np.square(slopes).mean())

    return _scores(evidence, "fisher", _by_index(evidence, groups, 2, squared))


def _spsa(evidence: Evidence) -> Scores:
    """The same at a cost that does not grow with the width of a group: differences along a few directions of signs.

    A sample's slope along a direction, times the sign of an index, is its slope along that index and those of all
    others with signs. Directions are rows of a Hadamard matrix: over all of them the others cancel, but for those that
    share a column where a group has more indices than directions. Every few samples have indices share columns anew.
    (Along random directions of the whole model at once nothing cancels: a few hundred of them rank no better than
    chance on a small residual network.)
    """
    run, groups = _runs(evidence)
    generator = np.random.default_rng(evidence.seed)
    size = -(-len(run) // PARTS)
    signs = _hadamard(DIRECTIONS)
    totals = {}
    for group in groups:
        total = totals[group.atom.id] = np.zeros(group.size)
        for start in range(0, len(run), size):
            part = slice(start, min(start + size, len(run)))
            shared = generator.permutation(group.size) % DIRECTIONS
            codes = signs[:, shared] * generator.choice((-1.0, 1.0), size=group.size)
            along = [
                (run.losses({group.atom.id: 1 + STEP * c}, part) - run.losses({group.atom.id: 1 - STEP * c}, part))
                for c in codes
            ]
            slopes = np.asarray(along).T @ codes / (2 * STEP * DIRECTIONS)
            total += np.square(slopes).sum(axis=0) / len(run)
    return _scores(evidence, "spsa", totals)


def _hadamard(size: int) -> Array:
    """Signs (size, size), a power of two, whose columns are orthogonal."""
    signs = np.ones((1, 1))
    while len(signs) < size:
        signs = np.block([[signs, signs], [signs, -signs]])
    return signs


FORWARD = Criterion(
    "forward", "what the outputs lose without an index: one run for each, as Mozer & Smolensky, NIPS 1988, define "
    "relevance", _forward, data="runs",
)  # fmt: skip
FISHER = Criterion(
    "fisher", "the mean squared slope of the loss along a gate: Theis et al. (arXiv 1801.05787), by differences",
    _fisher, data="runs",
)  # fmt: skip
SPSA = Criterion(
    "spsa", "first-order Taylor (Molchanov et al., CVPR 2019, arXiv 1906.10771), estimated along directions of "
    "signs: Spall, 1992", _spsa, data="runs",
)  # fmt: skip
