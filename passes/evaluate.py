"""evaluate: how well the model does its task, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from onnxprune.errors import PassFailed, UsageError
from onnxprune.passmanager import option
from onnxprune.unit import Evaluation, Unit
from onnxprune.watching import Watch

if TYPE_CHECKING:
    from onnxprune.evaluation import Run

__all__ = ["Evaluate"]


@dataclass(frozen=True)
class Evaluate:
    """Measures the original and the pruned model with the same data or function."""

    name: ClassVar[str] = "evaluate"
    needs: ClassVar[frozenset[str]] = frozenset({"source", "model"})
    gives: ClassVar[frozenset[str]] = frozenset()

    evaluate: str = option("", "Labelled data for top-1 accuracy, or module:function that measures.", "PATH")
    preprocess: str = option("", "A TOML file that says how to preprocess stored images.", "FILE")
    threads: int = option(1, "Threads of ONNX Runtime and of repairs.", "N", minimum=1)

    def run(self, unit: Unit) -> Unit:
        """Evaluate both models, if an evaluation was named."""
        if not self.evaluate:
            return unit
        from onnxprune.evaluation import evaluation
        from onnxprune.runtime.failure import RunFailed
        from onnxprune.runtime.session import Options, Session

        assert unit.model is not None
        measure = evaluation(self.evaluate, unit.source.inputs, Path(self.preprocess) if self.preprocess else None)
        options = Options(threads=self.threads)
        found = []
        for what, model in (("original", unit.source), ("pruned", unit.model)):
            try:
                found.append(measure(_watched(Session(model.to_bytes(), options).run, what, unit.watch)))
            except RunFailed as failure:
                raise PassFailed(f"the {what} model does not run on {self.evaluate}: {failure.reason}") from failure
        before, after = found
        if before.keys() != after.keys():
            raise UsageError(
                f"{self.evaluate}: measured {', '.join(before) or 'nothing'} of the original and "
                f"{', '.join(after) or 'nothing'} of the pruned model; expected the same numbers of both"
            )
        return replace(unit, evaluation=Evaluation(before, after))


def _watched(run: Run, what: str, watch: Watch) -> Run:
    """`run`, telling who watches how often it was called."""
    calls = 0

    def counted(feed: Mapping[str, Any]) -> Mapping[str, Any]:
        nonlocal calls
        calls += 1
        watch(f"evaluate the {what} model (run {calls})", 0, 0)
        return run(feed)

    return counted
