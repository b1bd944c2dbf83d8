"""Pipelines that edit graphs with onnx-graphsurgeon can call onnxprune as one step."""

from __future__ import annotations

import onnx_graphsurgeon as gs

import onnxprune
from onnxprune.testing import build

TEXT = """
    x[N,3,8,8] -> y
    h = Conv<pads=[1,1,1,1]>(x, W[8,3,3,3], B[8])
    r = Relu(h)
    y = Conv(r, V[4,8,1,1])
"""


def test_a_graph_goes_in_and_comes_out() -> None:
    """A graphsurgeon graph is pruned like a file, is not changed by it, and the result is a graph again."""
    graph = gs.import_onnx(build(TEXT).to_proto())
    result = onnxprune.prune(graph, sparsity=0.5, round_to=1, rounds=0)
    smaller = result.model.to_graph()
    assert result.report.verified
    assert smaller.tensors()["W"].shape == [4, 3, 3, 3] or tuple(smaller.tensors()["W"].shape) == (4, 3, 3, 3)
    assert tuple(graph.tensors()["W"].shape) == (8, 3, 3, 3)
