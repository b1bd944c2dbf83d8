"""The one room that touches onnx: reading, shapes, edits and writing of models."""

from onnxprune.model.edit import Edit
from onnxprune.model.inference import Shapes, infer, recompute
from onnxprune.model.inputs import input_shapes, parse_sizes, symbols, vocabulary
from onnxprune.model.model import Model
from onnxprune.model.node import Array, Body, Node, TensorInfo, WeightInfo

__all__ = [
    "Array",
    "Body",
    "Edit",
    "Model",
    "Node",
    "Shapes",
    "TensorInfo",
    "WeightInfo",
    "infer",
    "input_shapes",
    "parse_sizes",
    "recompute",
    "symbols",
    "vocabulary",
]
