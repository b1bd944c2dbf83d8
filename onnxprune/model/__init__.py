"""The one room that touches onnx: reading, shapes, edits and writing of models."""

from onnxprune.model.alone import Alone, Operand, Probed, Prober, apart
from onnxprune.model.assembly import Assembly
from onnxprune.model.edit import Edit
from onnxprune.model.inference import Shapes, example_sizes, infer, recompute
from onnxprune.model.inputs import input_shapes, parse_sizes, switches, symbols, vocabulary
from onnxprune.model.model import Model
from onnxprune.model.node import Array, Body, Node, TensorInfo, WeightInfo
from onnxprune.model.numbers import evaluate
from onnxprune.model.surgeon import from_graph, is_graph
from onnxprune.model.sweep import swept

__all__ = [
    "Alone",
    "Array",
    "Assembly",
    "Body",
    "Edit",
    "Model",
    "Node",
    "Operand",
    "Probed",
    "Prober",
    "Shapes",
    "TensorInfo",
    "WeightInfo",
    "apart",
    "evaluate",
    "example_sizes",
    "from_graph",
    "infer",
    "input_shapes",
    "is_graph",
    "parse_sizes",
    "recompute",
    "swept",
    "switches",
    "symbols",
    "vocabulary",
]
