"""Where a model's time goes, as costs that allocators can count with."""

from dataclasses import dataclass

from onnxprune.cost import Term

__all__ = ["LatencyModel"]


@dataclass(frozen=True)
class LatencyModel:
    """`terms` add up to the milliseconds of a cut model; `base_ms` are those measured of the original."""

    terms: tuple[Term, ...]
    base_ms: float
