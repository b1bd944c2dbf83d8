"""Prune ONNX models: typed dimensions, exact cuts, every run proven in ONNX Runtime.

    import onnxprune
    result = onnxprune.prune("model.onnx", sparsity=0.5)
    result.model.save("smaller.onnx")

Names are imported when they are first used, so that `import onnxprune` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxprune.api import Result, bench, explain, inspect, prune, search, sensitivity, shrink, verify
    from onnxprune.benchmark import Bench
    from onnxprune.curves import Sensitivity
    from onnxprune.errors import (
        GateNotMet,
        ModelReadError,
        OnnxPruneError,
        OutputNotWritten,
        PassFailed,
        UsageError,
        VerificationFailed,
    )
    from onnxprune.explanation import Explanation
    from onnxprune.front import Front
    from onnxprune.model import Model
    from onnxprune.passmanager import Pipeline
    from onnxprune.report import Inspection, Report
    from onnxprune.verification import Verdict

__all__ = [
    "Bench",
    "Explanation",
    "Front",
    "GateNotMet",
    "Inspection",
    "Model",
    "ModelReadError",
    "OnnxPruneError",
    "OutputNotWritten",
    "PassFailed",
    "Pipeline",
    "Report",
    "Result",
    "Sensitivity",
    "UsageError",
    "Verdict",
    "VerificationFailed",
    "bench",
    "explain",
    "inspect",
    "prune",
    "search",
    "sensitivity",
    "shrink",
    "verify",
]

_PLACES = {
    "Bench": "benchmark",
    "Explanation": "explanation",
    "Front": "front",
    "Inspection": "report",
    "Model": "model",
    "Pipeline": "passmanager",
    "Report": "report",
    "Sensitivity": "curves",
    "Verdict": "verification",
} | dict.fromkeys(
    ("Result", "bench", "explain", "inspect", "prune", "search", "sensitivity", "shrink", "verify"), "api"
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'onnxprune' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"onnxprune.{_PLACES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
