"""The one room that touches onnx: reading, shapes, edits and writing of models."""

from onnxprune.model.inference import Shapes, infer
from onnxprune.model.model import Array, Model, Node, TensorInfo, WeightInfo

__all__ = ["Array", "Model", "Node", "Shapes", "TensorInfo", "WeightInfo", "infer"]
