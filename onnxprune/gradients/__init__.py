"""Slopes of an error with respect to weights, computed by ONNX nodes put behind those of the model."""

from onnxprune.gradients.backward import Slopes, slopes_of

__all__ = ["Slopes", "slopes_of"]
