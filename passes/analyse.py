"""analyse: which dimensions are the same, which are fixed and why, which weights belong together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from onnxprune.errors import UsageError
from onnxprune.passmanager import option
from onnxprune.unit import Unit

__all__ = ["Analyse"]


@dataclass(frozen=True)
class Analyse:
    """Types every dimension of the model and finds its groups."""

    name: ClassVar[str] = "analyse"
    needs: ClassVar[frozenset[str]] = frozenset({"source"})
    gives: ClassVar[frozenset[str]] = frozenset({"analysis"})

    size: tuple[str, ...] = option((), "Example size of a symbolic dimension, such as height=320.", "NAME=N")

    allow_inexact: tuple[str, ...] = option(
        (), "Open dimensions under norms, reductions or softmax: norm, reduce, softmax. Not exact.", "KIND[,KIND]"
    )

    def __post_init__(self) -> None:
        from onnxprune.rules.facts import INEXACT

        for kind in self._kinds:
            if kind not in INEXACT:
                raise UsageError(f"--allow-inexact {kind!r}: expected one or several of {', '.join(INEXACT)}")

    def run(self, unit: Unit) -> Unit:
        """Analyse the model as it was read."""
        from onnxprune.dependency import analyse
        from onnxprune.model import parse_sizes

        return replace(unit, analysis=analyse(unit.source, parse_sizes(self.size), allow=self._kinds))

    @property
    def _kinds(self) -> frozenset[str]:
        return frozenset(kind.strip() for text in self.allow_inexact for kind in text.split(","))
