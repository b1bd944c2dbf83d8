"""Where a model's time goes, as costs that allocators can count with."""

from onnxprune.latency.model import LatencyModel, latency_model

__all__ = ["LatencyModel", "latency_model"]
