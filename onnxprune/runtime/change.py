"""How far one model's outputs are from another's: what an inexact choice costs, not a comparison that can fail.

* `relative`: the root of the summed squared differences over that of the squared values, of the worst float output;
* `divergence`: the mean Kullback-Leibler divergence of the softmax over the last axis, of the worst float output that
  could be scores of classes or tokens (two or three axes, the last of two indices at least); None where there is none.

Both only where the two are finite; `broken` says in a sentence what makes outputs incomparable, or no numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Change", "broken", "change"]

Array = npt.NDArray[Any]
Outputs = Sequence[Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Change:
    """Zero for equal outputs; `output` is the one with the largest relative change."""

    relative: float
    divergence: float | None
    output: str


def change(before: Outputs, after: Outputs) -> Change:
    """How far the outputs `after` are from those `before`, over all samples."""
    squares: dict[str, tuple[float, float]] = {}
    divergences: dict[str, list[float]] = {}
    for one, other in zip(before, after, strict=True):
        for name, a in one.items():
            b = other.get(name)
            if not (_is_float(a) and _is_float(b)) or a.shape != b.shape:  # type: ignore[attr-defined]
                continue
            x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
            finite = np.isfinite(x) & np.isfinite(y)
            error, size = squares.get(name, (0.0, 0.0))
            squares[name] = (
                error + float(np.square(x - y, where=finite, out=np.zeros_like(x)).sum()),
                size + float(np.square(x, where=finite, out=np.zeros_like(x)).sum()),
            )
            if x.ndim in (2, 3) and x.shape[-1] > 1 and finite.all() and x.size:
                divergences.setdefault(name, []).append(_divergence(x, y))
    relative = {name: (error / size) ** 0.5 if size else float(error > 0) for name, (error, size) in squares.items()}
    worst = max(relative, key=lambda name: relative[name], default="")
    means = [float(np.mean(values)) for values in divergences.values()]
    return Change(relative.get(worst, 0.0), max(means, default=None), worst)


def broken(before: Outputs, after: Outputs) -> str | None:
    """What is wrong with `after` beside other values: an output that is missing, of another shape, or not finite."""
    for one, other in zip(before, after, strict=True):
        for name, a in one.items():
            b = other.get(name)
            if not isinstance(a, np.ndarray):
                if type(a) is not type(b):
                    return f"output {name!r} is no {type(a).__name__} any more"
            elif not isinstance(b, np.ndarray) or a.shape != b.shape or a.dtype != b.dtype:
                found = f"{b.dtype}{b.shape}" if isinstance(b, np.ndarray) else str(b)
                return f"output {name!r} was {a.dtype}{a.shape} and is {found}"
            elif _is_float(a) and np.isfinite(np.asarray(a, np.float64)).all() and not _finite(b):
                return f"output {name!r} was finite and is not any more"
    return None


def _is_float(value: object) -> bool:
    return isinstance(value, np.ndarray) and (value.dtype.kind == "f" or value.dtype.name == "bfloat16")


def _finite(value: Array) -> bool:
    return bool(np.isfinite(np.asarray(value, np.float64)).all())


def _divergence(x: Array, y: Array) -> float:
    p, q = _log_softmax(x), _log_softmax(y)
    return float(np.mean(np.sum(np.exp(p) * (p - q), axis=-1)))


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
