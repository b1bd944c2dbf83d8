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

    def run(self, unit: Unit) -> Unit:
        """Analyse the model as it was read."""
        from onnxprune.dependency import analyse

        sizes: dict[str, int] = {}
        for text in self.size:
            name, _, number = text.partition("=")
            if not number.isdigit() or int(number) < 1:
                raise UsageError(f"--size {text!r}: expected NAME=N with a positive number")
            sizes[name] = int(number)
        return replace(unit, analysis=analyse(unit.source, sizes))
