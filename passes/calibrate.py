"""calibrate: real inputs, for whatever needs them; without any, later passes make random ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from onnxprune.errors import PassFailed, UsageError
from onnxprune.passmanager import option
from onnxprune.unit import Unit

__all__ = ["Calibrate"]

BATCH = 32  # samples that are run at once


@dataclass(frozen=True)
class Calibrate:
    """Reads calibration samples. Verification and timing run on them, and criteria that judge by activations.

    Synthetic ones are for models whose norms stored what real inputs are like: see `recovery.standing`.
    """

    name: ClassVar[str] = "calibrate"
    needs: ClassVar[frozenset[str]] = frozenset({"source", "analysis"})
    gives: ClassVar[frozenset[str]] = frozenset()

    calibration: str = option(
        "", "Inputs: .npz, .npy, a folder of images, module:function, synthetic[:N] or random[:N].", "PATH"
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
        asked = asked_for(self.calibration, self.samples)
        if asked is None:
            found = load(self.calibration, unit.source.inputs, spec, self.samples, self.seed)
            return replace(unit, samples=found.take(self.samples, self.seed))
        assert unit.analysis is not None
        sizes, convert = unit.analysis.shapes.sizes, None if spec is None else Preprocess.load(spec)
        samples = random_samples(unit.source, sizes, asked.count, self.seed, convert, asked.kind)
        if asked.kind == "random":
            return replace(unit, samples=samples, notes=(*unit.notes, NOTE))
        return self._standing(replace(unit, samples=samples))

    def _standing(self, unit: Unit) -> Unit:
        """Take the statistics of the norms from the samples, for whatever looks at what the model makes of these."""
        from onnxprune.recovery import norms_of, shift_of
        from onnxprune.runtime.failure import RunFailed

        assert unit.analysis is not None
        assert unit.samples is not None
        norms = len(norms_of(unit.analysis))
        if not norms:
            raise UsageError(
                f"--calibration {self.calibration}: there is nothing to match: {unit.source.source!r} has no "
                "BatchNormalization that stores what real inputs are like (an exporter folds them; export in training "
                "mode to keep them). Give real inputs, or --recover merge without any"
            )
        try:
            shift = shift_of(unit.analysis, list(unit.samples.batches(BATCH)))
        except RunFailed as failure:
            raise PassFailed(f"the model does not run on synthetic inputs: {failure.reason}") from failure
        note = (f"calibrated on {len(unit.samples)} synthetic inputs, for which {norms} batch norms say what real ones "
                "are like: far better than nothing; real ones, unlabelled, keep more")  # fmt: skip
        return replace(unit, shift=shift, notes=(*unit.notes, note))
