"""gemm: write products with a constant matrix as Gemm, which TensorRT's sparse kernels take, on request."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from onnxprune.passmanager import option
from onnxprune.unit import Unit

__all__ = ["Gemm"]


@dataclass(frozen=True)
class Gemm:
    """Rewrites every MatMul with a constant matrix, and the Add of a bias behind it, in the model that was made.

    `verify` runs it against the one that was not rewritten.
    """

    name: ClassVar[str] = "gemm"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis", "model"})
    gives: ClassVar[frozenset[str]] = frozenset({"model"})

    matmul_to_gemm: bool = option(False, "Write MatMul with a constant matrix as Gemm, for TensorRT's sparse kernels.")

    def run(self, unit: Unit) -> Unit:
        """Rewrite, and say what was left."""
        from onnxprune.dependency import analyse
        from onnxprune.gemm import with_gemms

        if not self.matmul_to_gemm:
            return unit
        assert unit.model is not None
        assert unit.analysis is not None
        known = unit.analysis
        found = with_gemms(analyse(unit.model, known.shapes.sizes, prober=known.prober))
        notes = [f"{len(found.made)} MatMul became Gemm"]
        for reason in dict.fromkeys(found.left.values()):
            names = [name for name, why in found.left.items() if why == reason]
            notes.append(f"{len(names)} MatMul stayed, because {reason}: {', '.join(names[:4])}")
        return replace(unit, model=found.model, notes=(*unit.notes, *notes))
