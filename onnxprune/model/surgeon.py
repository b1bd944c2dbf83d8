"""Models from onnx-graphsurgeon, for pipelines that edit graphs with it and call onnxprune as one step."""

from __future__ import annotations

from typing import Any

from onnxprune.model.model import Model

__all__ = ["from_graph", "is_graph"]


def is_graph(value: object) -> bool:
    """Whether `value` is an `onnx_graphsurgeon.Graph`; does not import that package to find out."""
    return any(k.__module__.startswith("onnx_graphsurgeon.") and k.__name__ == "Graph" for k in type(value).__mro__)


def from_graph(graph: Any) -> Model:
    """The model that an `onnx_graphsurgeon.Graph` stands for; the graph itself is not changed."""
    import onnx_graphsurgeon as gs

    return Model.from_proto(gs.export_onnx(graph), source=f"<graph {graph.name}>")
