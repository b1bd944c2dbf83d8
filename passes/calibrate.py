"""calibrate: real inputs, for whatever needs them; without any, later passes make random ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from onnxprune.passmanager import option
from onnxprune.unit import Unit

__all__ = ["Calibrate"]


@dataclass(frozen=True)
class Calibrate:
    """Reads calibration samples. Verification and timing run on them, and criteria that judge by activations."""

    name: ClassVar[str] = "calibrate"
    needs: ClassVar[frozenset[str]] = frozenset({"source", "analysis"})
    gives: ClassVar[frozenset[str]] = frozenset()

    calibration: str = option(
        "", "Real inputs: .npz, .npy, a folder of images, module:function, or random[:N].", "PATH"
    )
    samples: int = option(256, "How many calibration samples to use at most.", "N", minimum=1)
    preprocess: str = option("", "A TOML file that says how to preprocess stored images.", "FILE")
    seed: int = option(0, "Seed of everything that is random.", "N", minimum=0)

    def run(self, unit: Unit) -> Unit:
        """Load and check the samples, if any were named."""
        if not self.calibration:
            return unit
        from onnxprune.data import load
        from onnxprune.noise import NOTE, asked_for, random_samples
        from onnxprune.preprocess import Preprocess

        spec = Path(self.preprocess) if self.preprocess else None
        count = asked_for(self.calibration, self.samples)
        if count is None:
            found = load(self.calibration, unit.source.inputs, spec, self.samples, self.seed)
            return replace(unit, samples=found.take(self.samples, self.seed))
        assert unit.analysis is not None
        sizes, convert = unit.analysis.shapes.sizes, None if spec is None else Preprocess.load(spec)
        samples = random_samples(unit.source, sizes, count, self.seed, convert)
        return replace(unit, samples=samples, notes=(*unit.notes, NOTE))
