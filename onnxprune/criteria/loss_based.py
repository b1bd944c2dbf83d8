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

__all__ = ["DIRECTIONS", "FISHER", "FORWARD", "MOST", "SPSA"]

MOST = 4096  # runs over all samples
DIRECTIONS = 256  # of SPSA
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
    """The mean squared slope of each sample's loss along the gate of an index."""
    run, groups = _runs(evidence)
    signs = np.random.default_rng(evidence.seed)

    def squared(atom: int, which: Vector) -> float:
        step = STEP * which * signs.choice((-1.0, 1.0), size=len(which))
        slopes = (run.losses({atom: 1 + step}) - run.losses({atom: 1 - step})) / (2 * STEP)
        return float(np.square(slopes).mean())

    return _scores(evidence, "fisher", _by_index(evidence, groups, 2, squared))


def _spsa(evidence: Evidence) -> Scores:
    """The same for all indices at once, from differences along random directions.

    A sample's slope along a direction of random signs, times the sign of an index, is on average its slope along that
    index. After n directions the mean is squared, and that over samples is taken. What is left of all other indices
    adds the same to every one of them: it lifts scores, and does not reorder them.
    """
    run, groups = _runs(evidence)
    generator = np.random.default_rng(evidence.seed)
    slopes: dict[int, Vector] = {}
    for _ in range(DIRECTIONS):
        signs = {group.atom.id: generator.choice((-1.0, 1.0), size=group.size) for group in groups}
        ahead, behind = (run.losses({atom: 1 + step * sign for atom, sign in signs.items()}) for step in (STEP, -STEP))
        along = (ahead - behind) / (2 * STEP * DIRECTIONS)
        for atom, sign in signs.items():
            share = np.outer(along, sign)
            slopes[atom] = slopes[atom] + share if atom in slopes else share
    return _scores(evidence, "spsa", {atom: np.square(each).mean(axis=0) for atom, each in slopes.items()})


FORWARD = Criterion(
    "forward", "what the outputs lose without an index: one run for each, as Mozer & Smolensky, NIPS 1988, define "
    "relevance", _forward, data="runs",
)  # fmt: skip
FISHER = Criterion(
    "fisher", "the mean squared slope of the loss along a gate: Theis et al. (arXiv 1801.05787), by differences",
    _fisher, data="labels",
)  # fmt: skip
SPSA = Criterion(
    "spsa", "first-order Taylor (Molchanov et al., CVPR 2019, arXiv 1906.10771), estimated along random directions: "
    "Spall, 1992", _spsa, data="runs",
)  # fmt: skip
