"""The criteria by name: one table of our own, and the entry points of others, looked into when a name is not ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Literal

from onnxprune.criteria.activity import ACTIVATION_MEAN, ACTIVATION_VARIANCE, APOZ
from onnxprune.criteria.bn_scale import BN_SCALE
from onnxprune.criteria.chance import RANDOM
from onnxprune.criteria.chip import CHIP
from onnxprune.criteria.criterion import Criterion
from onnxprune.criteria.entropy import ENTROPY
from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.geometric_median import FPGM
from onnxprune.criteria.hrank import HRANK
from onnxprune.criteria.information import MUTUAL_INFORMATION
from onnxprune.criteria.lamp import LAMP
from onnxprune.criteria.loss_based import FISHER, FORWARD, SPSA
from onnxprune.criteria.magnitude import L0, L1, L2, LINF
from onnxprune.criteria.regression import LASSO, LEAST_SQUARES, THINET
from onnxprune.criteria.scores import Scores
from onnxprune.criteria.second_order import OBC, OBD, OBS, SPARSEGPT
from onnxprune.criteria.similarity import CORRELATION, SIMILARITY
from onnxprune.criteria.sites import aggregated
from onnxprune.criteria.wanda import WANDA
from onnxprune.errors import UsageError
from onnxprune.layers import Layer

__all__ = ["CRITERIA", "ENTRY_POINTS", "criterion_of", "resolved", "score"]

ENTRY_POINTS = "onnxprune.criteria"  # the entry-point group in which a package names criteria of its own

_OURS = (
    ACTIVATION_MEAN,
    ACTIVATION_VARIANCE,
    APOZ,
    BN_SCALE,
    CHIP,
    CORRELATION,
    ENTROPY,
    FISHER,
    FORWARD,
    FPGM,
    HRANK,
    L0,
    L1,
    L2,
    LAMP,
    LASSO,
    LEAST_SQUARES,
    LINF,
    MUTUAL_INFORMATION,
    OBC,
    OBD,
    OBS,
    RANDOM,
    SIMILARITY,
    SPARSEGPT,
    SPSA,
    THINET,
    WANDA,
)
CRITERIA: Mapping[str, Criterion] = MappingProxyType({criterion.name: criterion for criterion in _OURS})


BEST = {"channels": "obd", "weights": "sparsegpt"}  # with calibration samples, by our own table (docs/benchmarks.md)
EXACT, EXACT_WORK = "obc", 1e11  # of weights, where it takes no more multiplications: a minute or so on one core
WITHOUT_DATA = "l2"


def resolved(name: str, data: bool, judged: Literal["channels", "weights"], layers: Iterable[Layer] = ()) -> str:
    """What `auto` stands for, with calibration data and without; any other name is itself.

    The weights of `layers` are judged exactly where that is no long work: it grows with the cube of a layer's inputs.
    """
    if name != "auto":
        return name
    if not data:
        return WITHOUT_DATA
    work = sum(layer.shape[0] * layer.shape[1] * float(layer.shape[2] * layer.shape[3]) ** 3 for layer in layers)
    return EXACT if judged == "weights" and 0 < work <= EXACT_WORK else BEST[judged]


def criterion_of(name: str) -> Criterion:
    """The criterion of that name; `UsageError`, with the names there are, where there is none.

    Another package offers a `Criterion`, or a function from `Evidence` to `Scores` or sites that needs weights alone.
    """
    if name in CRITERIA:
        return CRITERIA[name]
    others = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in others:
        raise UsageError(f"there is no criterion {name!r}: choose one of {', '.join(sorted({*CRITERIA, *others}))}")
    found: Criterion | Callable[[Evidence], Scores] = others[name].load()
    return found if isinstance(found, Criterion) else Criterion(name, (found.__doc__ or name).split("\n")[0], found)


def score(evidence: Evidence, criterion: str, *, aggregate: str = "mean", normalise: str = "mean") -> Scores:
    """Score every index of every group by the criterion of that name.

    A criterion that makes scores for the whole model itself has no sites to aggregate or normalise: `UsageError` where
    that is asked for in another way than by default.
    """
    chosen = criterion_of(criterion)
    found = chosen.judge(evidence)
    if isinstance(found, Scores):
        for flag, asked in (("--aggregate", aggregate), ("--normalise", normalise)):
            if asked != "mean":
                raise UsageError(
                    f"{flag} {asked}: the scores of {criterion!r} can be compared over the whole model as they are: "
                    "they are not made of sites that could be aggregated or normalised; leave the option out"
                )
        return found
    values = {atom: aggregated(sites, aggregate, normalise) for atom, sites in found.items() if sites}
    return Scores.of(chosen.name, evidence.groups, values)
