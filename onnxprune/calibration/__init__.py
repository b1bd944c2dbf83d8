"""Statistics of activations, computed by the graph itself while it runs the original model on calibration samples."""

from onnxprune.calibration.cache import Cache, fingerprint, samples_print
from onnxprune.calibration.collecting import collect
from onnxprune.calibration.gathering import gather

__all__ = ["Cache", "collect", "fingerprint", "gather", "samples_print"]
