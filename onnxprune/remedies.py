"""What would help a model that pruning made much worse: what the run did not do, ordered by its worth elsewhere.

The figures behind the order are in docs/benchmarks.md. A remedy is named only where it is open to this model and was
not taken already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxprune.branches import branches_of
from onnxprune.unit import Unit

if TYPE_CHECKING:
    from onnxprune.runtime.change import Change

__all__ = ["warned"]

MUCH = 0.3  # a relative change of the outputs above which a user is told
FEW = 128  # calibration samples, below which more of them are worth a point and more
NAMED = 2  # remedies, the best first


def warned(unit: Unit, after: Change | None) -> tuple[str, ...]:
    """A loud sentence where a repaired model is still far from the original on held-out samples, with what may help."""
    if after is None or after.relative <= MUCH:
        return ()
    found = [*_remedies(unit)[:NAMED], "take less away"]
    return (
        f"the pruned model is much worse than the original (relative error {after.relative:.2f} on held-out samples): "
        f"{'; or '.join(found)}",
    )


def _remedies(unit: Unit) -> list[str]:
    """What was not tried and may help, what is worth most first."""
    asked = {key: value for _, options in unit.options for key, value in options.items()}
    masked = unit.masking is not None
    channels = not masked and not unit.branches
    found = []
    if channels and "latency" in unit.targets and unit.analysis is not None:
        number = len(branches_of(unit.analysis))
        if number:
            found.append(f"try --granularity branch, which drops some of {number} residual branches whole: narrower "
                         "layers often save little time")  # fmt: skip
    if channels and "latency" not in unit.targets and asked.get("round_to") == "auto":
        found.append("try --round-to 1, which keeps more at the same work and saves less time")
    if channels and asked.get("allocation") not in ("auto", "best"):
        found.append("try --allocation best")
    if masked and asked.get("criterion") not in ("auto", "obc"):
        found.append("try --criterion obc")
    if channels and asked.get("criterion") not in ("auto", "obd"):
        found.append("try --criterion obd")
    if asked.get("recover") not in ("auto", "joint", "reconstruct"):
        found.append("leave --recover to its default")
    if unit.shift:
        found.append("give --calibration real inputs")
    elif unit.samples is not None and len(unit.samples) < FEW:
        found.append(f"give more calibration samples than {len(unit.samples)}, a few hundred")
    return found
