"""evaluate: how well the model does its task, before and after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from onnxprune.passmanager import option
from onnxprune.unit import Evaluation, Unit

__all__ = ["Evaluate"]


@dataclass(frozen=True)
class Evaluate:
    """Measures the original and the pruned model with the same data or function."""

    name: ClassVar[str] = "evaluate"
    needs: ClassVar[frozenset[str]] = frozenset({"source", "model"})
    gives: ClassVar[frozenset[str]] = frozenset()

    evaluate: str = option("", "Labelled data for top-1 accuracy, or module:function that measures.", "PATH")
    preprocess: str = option("", "A TOML file that says how to preprocess stored images.", "FILE")
    threads: int = option(1, "Threads of ONNX Runtime.", "N")

    def run(self, unit: Unit) -> Unit:
        """Evaluate both models, if an evaluation was named."""
        if not self.evaluate:
            return unit
        from onnxprune.evaluation import evaluation
        from onnxprune.runtime.session import Options, Session

        assert unit.model is not None
        measure = evaluation(self.evaluate, unit.source.inputs, Path(self.preprocess) if self.preprocess else None)
        options = Options(threads=self.threads)
        before = measure(Session(unit.source.to_bytes(), options).run)
        after = measure(Session(unit.model.to_bytes(), options).run)
        return replace(unit, evaluation=Evaluation(before, after))
