"""repeat: prune in several steps, with scores and repair anew after each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from onnxprune.errors import UsageError
from onnxprune.passmanager import option
from onnxprune.unit import Unit

__all__ = ["Repeat"]


@dataclass(frozen=True)
class Repeat:
    """Sends the run back to `score`, or `mask`, until the last step is made; `allocate` or `mask` says how far it goes.

    What is scored then is the model as it is pruned and repaired so far (Han et al., arXiv 1506.02626); with `regrow`
    also what is gone, as what it would come back as (`regrowth`).
    """

    name: ClassVar[str] = "repeat"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis"})
    gives: ClassVar[frozenset[str]] = frozenset()

    steps: int = option(1, "Prune in so many steps, with scores and repair anew after each.", "N", minimum=1)
    regrow: bool = option(False, "Let what went in an earlier step come back, where it is worth more than what stays.")

    def __post_init__(self) -> None:
        if self.regrow and self.steps < 2:
            raise UsageError(
                "--regrow lets come back what went in an earlier step, and there is one step: give --steps 3"
            )

    def run(self, unit: Unit) -> Unit:
        """Go back, or on after the last step."""
        if unit.step >= self.steps:
            return unit
        unit.watch(f"step {unit.step} of {self.steps} is made", unit.step, self.steps)
        return replace(
            unit, step=unit.step + 1, regrow=self.regrow, statistics=None, redo="mask" if unit.masking else "score"
        )
