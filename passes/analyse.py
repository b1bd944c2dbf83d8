"""analyse: which dimensions are the same, which are fixed and why, which weights belong together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

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

    probe: bool = option(False, "Run nodes that no rule knows alone, to infer which dimensions they carry unchanged.")

    def run(self, unit: Unit) -> Unit:
        """Analyse the model as it was read."""
        from onnxprune.dependency import analyse
        from onnxprune.model import parse_sizes
        from onnxprune.probing import IsolatedProber, said

        analysis = analyse(unit.source, parse_sizes(self.size), prober=IsolatedProber() if self.probe else None)
        return replace(unit, analysis=analysis, notes=(*unit.notes, *said(analysis.probed_nodes)))
