"""What is dead in a model, and the model without it: nothing that it computes is changed."""

from onnxprune.lossless.shrinking import Shrunk, shrink

__all__ = ["Shrunk", "shrink"]
