"""Statistics of activations, computed by the graph itself while it runs the original model on calibration samples."""

from onnxprune.calibration.cache import Cache
from onnxprune.calibration.collecting import collect
from onnxprune.calibration.gathering import gather

__all__ = ["Cache", "collect", "gather"]
