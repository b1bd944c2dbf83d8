from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest

from onnxprune.runtime.layers import NodeLike, attribute, interleaved_layer_times, layer_times, origin
from onnxprune.testing import build
from tests.runtime.graphs import network


@dataclass(frozen=True)
class Node:
    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def nodes_of(model: bytes) -> list[Node]:
    graph = onnx.load_from_string(model).graph
    return [Node(n.name, n.op_type, tuple(n.input), tuple(n.output)) for n in graph.node]


NODES = [
    *nodes_of(network()),
    Node("/block/MatMul", "MatMul", ("y", "w"), ("/block/MatMul_output_0",)),
    Node("/block", "Add", ("/block/MatMul_output_0", "b"), ("z",)),
]


@pytest.mark.parametrize(
    ("kernel", "operator", "node"),
    [
        ("flat", "Flatten", "flat"),
        ("c1_nchwc", "Conv", "conv1"),
        ("r1_nchwc", "Conv", "conv1"),
        ("r2_nchwc", "Conv", "conv2"),
        ("g_nchwc", "GlobalAveragePool", "gap"),
        ("mm/MatMulAddFusion", "Gemm", "mm"),
        ("mm/MatMulAddFusion_token_3", "Gemm", "mm"),
        ("mm/MatMulAddFusion/ActivationFusion/", "FusedGemm", "mm"),
        ("fused conv1", "FusedConv", "conv1"),
        ("conv1_quant", "QLinearConv", "conv1"),
        ("/block/MatMul/MatMulAddFusion", "Gemm", "/block/MatMul"),
        ("/block/LayerNormFusion/", "LayerNormalization", "/block"),
        ("ReorderOutput", "ReorderOutput", None),
        ("ReorderInput_token_4", "ReorderInput", None),
        ("unknown_nchwc", "Conv", None),
        ("", "Transpose", None),
    ],
)
def test_kernels_are_traced_to_their_nodes(kernel: str, operator: str, node: str | None) -> None:
    """What the runtime made of a name is undone; what it invented belongs to no node."""
    assert origin(kernel, operator, NODES) == node


def test_a_kernel_is_not_traced_to_a_node_that_has_its_own() -> None:
    """Of two convolutions that are added, the one that swallowed the addition is the one without a kernel."""
    nodes = [
        Node("main", "Conv", ("x", "w"), ("m",)),
        Node("shortcut", "Conv", ("x", "v"), ("s",)),
        Node("add", "Add", ("m", "s"), ("a",)),
        Node("relu", "Relu", ("a",), ("r",)),
    ]
    assert origin("r_nchwc", "Conv", nodes, ["s_nchwc"]) == "main"
    assert origin("r_nchwc", "Conv", nodes, ["m_nchwc"]) == "shortcut"


def run(ts: int, dur: int) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": ts, "dur": dur, "tid": 1, "args": {}}


def kernel(name: str, operator: str, ts: int, dur: int, tid: int = 1) -> dict[str, Any]:
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "ts": ts,
        "dur": dur,
        "tid": tid,
        "args": {"op_name": operator},
    }


def test_nothing_is_dropped() -> None:
    """Rows, other and overhead add up to the run; warm-up runs are left out, and the mean is per run."""
    events = [run(0, 9000), kernel("conv1", "Conv", 10, 8000)]
    for start in (10_000, 20_000):
        events += [
            kernel("r1_nchwc", "Conv", start + 10, 3000),
            kernel("ReorderOutput", "ReorderOutput", start + 4000, 500),
            kernel("mm/MatMulAddFusion", "Gemm", start + 5000, 1500),
            run(start, 6000 + 1000),
        ]
    found = attribute(events, NODES, warmup=1)
    assert [(r.name, r.op_type, r.kernels) for r in found.rows] == [
        ("conv1", "Conv", ("Conv",)),
        ("mm", "MatMul", ("Gemm",)),
    ]
    assert [r.ms for r in found.rows] == pytest.approx([3.0, 1.5])
    assert [r.share for r in found.rows] == pytest.approx([0.6, 0.3])
    assert found.other == {"ReorderOutput": pytest.approx(0.5)}
    assert found.other_share == pytest.approx(0.1)
    assert (found.run_ms, found.overhead_ms, found.runs) == pytest.approx((7.0, 2.0, 2))


def test_the_body_of_a_loop_is_counted_once() -> None:
    """Kernels inside another kernel's time are part of it, also if they bear the name of an outer node."""
    events = [run(0, 100), kernel("gap", "Loop", 0, 80), kernel("conv1", "Conv", 10, 30), kernel("flat", "X", 80, 10)]
    assert {r.name: r.ms for r in attribute(events, NODES).rows} == pytest.approx({"gap": 0.08, "flat": 0.01})


def test_every_second_run_counts() -> None:
    """The runs between are as if they had not been, and a quantile of the others is what a node takes."""
    events = []
    for start, ms in ((0, 90), (100, 10), (200, 80), (300, 20), (400, 70), (500, 30), (600, 60), (700, 60)):
        events += [run(start, ms + 5), kernel("conv1", "Conv", start + 1, ms)]
    found = attribute(events, NODES, warmup=1, every=2, quantile=0.25)
    assert found.runs == 4
    assert {r.name: r.ms for r in found.rows} == {"conv1": pytest.approx(0.0175)}
    assert found.overhead_ms == pytest.approx(0.005)
    mean = attribute(events, NODES, warmup=1, every=2)
    assert [r.ms for r in mean.rows] == [pytest.approx(0.03)]


def test_models_are_profiled_side_by_side() -> None:
    """Each gets its own rows, from as many runs as were asked for."""
    one, other = network(), build("x[N,3,16,16] -> y; y = Conv(x, A[4,3,1,1])").with_node_names()
    models: list[tuple[bytes, Sequence[NodeLike]]] = [(one, nodes_of(one)), (other.to_bytes(), other.nodes)]
    found = interleaved_layer_times(models, {"x": np.ones((1, 3, 16, 16), np.float32)}, runs=3)
    assert {"conv1", "conv2", "gap", "mm"} <= {row.name for row in found[0].rows}
    assert [row.op_type for row in found[1].rows] == ["Conv"]
    assert [times.runs for times in found] == [3, 3]


def test_only_warm_up_is_no_measurement() -> None:
    """A profile without a counted run is a mistake of the caller."""
    with pytest.raises(ValueError, match="none is left"):
        attribute([run(0, 1)], NODES, warmup=1)


def test_a_real_network_is_attributed() -> None:
    """Of a fused and blocked network every heavy node has its row, and what is left over is small layout work."""
    model = network()
    found = layer_times(model, nodes_of(model), {"x": np.ones((1, 3, 16, 16), np.float32)}, runs=5)
    names = [row.name for row in found.rows]
    assert {"conv1", "conv2", "gap", "mm"} <= set(names)
    assert names == sorted(names, key=[n.name for n in NODES].index)
    assert set(found.other) <= {"ReorderInput", "ReorderOutput"}
    assert sum(r.share for r in found.rows) + found.other_share == pytest.approx(1)
    assert sum(r.ms for r in found.rows) + found.other_ms + found.overhead_ms == pytest.approx(found.run_ms)
    assert found.runs == 5
