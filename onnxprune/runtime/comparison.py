"""Whether two runs gave the same outputs, judged by how much one model differs from itself when optimised differently.

Floats. An element's error is |a - b| over its own magnitude or the output's typical one, whichever is larger. Typical
is the root mean square of the values up to a thousand times the median magnitude. Neither the largest value nor the
plain root mean square would do: one masked score of -3e38, or the box coordinates beside the class scores of a
detector, set them so high that anything passes. An element's own magnitude alone would do as little: what cancels to
almost nothing carries the rounding of what cancelled. The tolerance is the larger of a floor for the dtype and a
multiple of the noise: the same error between two runs of one model with and without the runtime's optimisations.

Everything else (integers, booleans, strings) is equal but for the same multiple of the share of elements that differed
in the noise, where an argmax between near equals falls the other way.

1. Shapes, dtypes, lengths of sequences and keys of maps are equal.
2. NaN and infinities stand at the same positions, infinities with the same sign.
3. An output that is zero throughout is judged on the scale of 1.
4. Noise never excuses more than `CEILING`: a model that is that unstable cannot be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["CEILING", "FLOORS", "NOISE_FACTOR", "Comparison", "Noise", "compare", "float_noise"]

FLOORS: Mapping[str, float] = {
    "float32": 2e-5,
    "float64": 2e-5,  # what is stored in double may have been computed in single
    "complex64": 2e-5,
    "complex128": 2e-5,
    "float16": 1e-2,
    "bfloat16": 5e-2,
}
"""The relative error that is always allowed: about 170 units in the last place of float32, 10 of the half types."""

_COARSEST_FLOOR = 0.3
"""For the 8-bit floats, whose neighbouring values are up to a quarter apart."""

NOISE_FACTOR = 8.0
"""How many times the error seen in the noise is allowed: two runs on a few inputs do not show the largest."""

CEILING = 0.05
"""The most that noise can raise a tolerance to."""

_OUTLIER = 1e3


@dataclass(frozen=True, slots=True)
class Noise:
    """What one model differs by from itself, per tensor in its outputs: `errors` of floats, `shares` of others."""

    errors: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of a comparison.

    `max_error` is the largest error of any float output, relative to the output's own scale (inf for a difference of
    shape, of kind or of where NaN stands). `worst_output` is the output closest to its tolerance or furthest beyond;
    `detail` says in one sentence what was found there.
    """

    max_error: float
    passed: bool
    worst_output: str
    detail: str


@dataclass(slots=True)
class _Found:
    """What is known about one tensor of the outputs, over all samples."""

    floor: float = 0.0
    is_float: bool = False
    error: float = 0.0
    differing: int = 0
    elements: int = 0
    mismatch: str = ""

    @property
    def share(self) -> float:
        return self.differing / self.elements if self.elements else 0.0

    @property
    def amount(self) -> float:
        return self.error if self.is_float else self.share


def float_noise(outputs_a: Sequence[Mapping[str, Any]], outputs_b: Sequence[Mapping[str, Any]]) -> Noise:
    """The noise of a model whose runs on the same inputs at two optimisation levels gave these outputs."""
    found = _gather(outputs_a, outputs_b)
    return Noise(
        errors={name: np.inf if f.mismatch else f.error for name, f in found.items() if f.is_float or f.mismatch},
        shares={name: 1.0 if f.mismatch else f.share for name, f in found.items() if not f.is_float},
    )


def compare(
    reference: Sequence[Mapping[str, Any]], candidate: Sequence[Mapping[str, Any]], noise: Noise | None = None
) -> Comparison:
    """Whether `candidate` has the outputs of `reference`, one mapping from output name to value per sample in both.

    Without `noise` the floors alone decide, and whatever is not a float must be equal.
    Raises ValueError where there is nothing to compare: no samples, or not the same number of them.
    """
    noise = noise or Noise()
    found = _gather(reference, candidate)
    tolerances = {name: _tolerance(name, one, noise) for name, one in found.items()}
    worst = max(found, key=lambda name: _severity(found[name], tolerances[name]), default="")
    if not worst:
        return Comparison(0.0, True, "", "the model has no outputs")
    return Comparison(
        max_error=max((np.inf if f.mismatch else f.error for f in found.values()), default=0.0),
        passed=_severity(found[worst], tolerances[worst]) <= 1.0,
        worst_output=worst,
        detail=_describe(worst, found[worst], tolerances[worst]),
    )


def _tolerance(name: str, found: _Found, noise: Noise) -> float:
    learnt = noise.errors.get(name, 0.0) if found.is_float else noise.shares.get(name, 0.0)
    return max(found.floor, min(NOISE_FACTOR * learnt, CEILING))


def _severity(found: _Found, tolerance: float) -> float:
    """How far along its tolerance a tensor is: above 1 it fails."""
    if found.mismatch:
        return np.inf
    if tolerance == 0.0:
        return np.inf if found.amount > 0.0 else 0.0
    return found.amount / tolerance


def _describe(name: str, found: _Found, tolerance: float) -> str:
    if found.mismatch:
        return f"output '{name}': {found.mismatch}"
    if found.is_float:
        return f"output '{name}': relative error {found.error:.2g}, tolerance {tolerance:.2g}"
    allowed = f"{tolerance * found.elements:.3g}" if tolerance else "none"
    return f"output '{name}': {found.differing} of {found.elements} elements differ, {allowed} may"


def _gather(left: Sequence[Mapping[str, Any]], right: Sequence[Mapping[str, Any]]) -> dict[str, _Found]:
    if len(left) != len(right) or not left:
        raise ValueError(f"cannot compare the outputs of {len(left)} runs with those of {len(right)}")
    found: dict[str, _Found] = {}
    for a, b in zip(left, right, strict=True):
        for name in dict.fromkeys((*a, *b)):
            if name not in a or name not in b:
                found.setdefault(name, _Found()).mismatch = "only one of the two has it"
            else:
                for part, x, y in _tensors(name, a[name], b[name]):
                    _merge(found.setdefault(part, _Found()), x, y)
    return found


def _tensors(name: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
    """The pairs of tensors in two values: `name`, `name[2]` of a sequence, `name['key']` of a map.

    Where the structures part, the pair that parted is given as it is, and `_merge` finds no tensors in it.
    """
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _tensors(f"{name}[{index}]", x, y)
    elif isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key in a:
            yield from _tensors(f"{name}[{key!r}]", a[key], b[key])
    else:
        yield name, a, b


def _merge(found: _Found, a: Any, b: Any) -> None:
    """Add what is seen in one pair of tensors to what was seen in earlier samples."""
    kinds = _kind(a), _kind(b)
    if kinds[0] != kinds[1]:
        found.mismatch = found.mismatch or f"{kinds[0]} against {kinds[1]}"
        return
    if a is None or isinstance(a, list | dict):
        return  # two empty optionals, or two empty sequences
    x, y = np.asarray(a), np.asarray(b)
    found.elements += x.size
    if not _is_float(x.dtype):
        found.differing += int(np.count_nonzero(x != y))
        return
    found.is_float = True
    found.floor = max(found.floor, FLOORS.get(x.dtype.name, _COARSEST_FLOOR))
    error = _float_error(x, y)
    if np.isinf(error):
        found.mismatch = found.mismatch or "NaN or infinity stand at different positions"
    found.error = max(found.error, error)


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list):
        return f"a sequence of {len(value)}"
    if isinstance(value, dict):
        return f"a map of {len(value)} keys, {', '.join(map(repr, list(value)[:4]))}"
    array = np.asarray(value)
    return f"{'string' if array.dtype.kind in 'OSUT' else array.dtype.name} of shape {array.shape}"


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "fc" or "float" in dtype.name  # numpy sees the floats of ml_dtypes as raw bytes


def _float_error(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """The largest error of an element of `b`, on the scale of `a`; inf where case 2 is broken."""
    wide: Any = np.complex128 if a.dtype.kind == "c" else np.float64
    smallest = float(np.finfo(a.dtype).tiny) if a.dtype.kind in "fc" else 0.0
    a, b = a.astype(wide).ravel(), b.astype(wide).ravel()
    finite = np.isfinite(a)
    special_a, special_b = a[~finite], b[~finite]
    same = (special_a == special_b) | (np.isnan(special_a) & np.isnan(special_b))
    if not np.array_equal(finite, np.isfinite(b)) or not same.all():
        return np.inf
    a, b = a[finite], b[finite]
    if not a.size:
        return 0.0
    magnitude = np.abs(a)
    scale = np.maximum(magnitude, max(_typical(magnitude), smallest))
    # halves, so that the difference of two values near the largest does not overflow
    return float(np.max(np.abs(a / 2 - b / 2) / (scale / 2)))


def _typical(magnitude: npt.NDArray[np.float64]) -> float:
    """The root mean square of the values that are not outliers; 1 where all are zero (case 3)."""
    nonzero = magnitude[magnitude > 0]
    if not nonzero.size:
        return 1.0
    limit = _OUTLIER * float(np.median(nonzero))
    usual = magnitude[magnitude <= limit]
    largest = float(usual.max())
    return largest * float(np.sqrt(np.mean(np.square(usual / largest))))
