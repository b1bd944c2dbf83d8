"""What has no kernel on a CPU is proven on what it says it does: each node is made a call of a function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import helper, parser

from onnxprune import cut
from onnxprune.dependency import analyse
from onnxprune.model import Array, Model
from onnxprune.plan import Plan
from onnxprune.runtime.session import Session
from onnxprune.testing import build, cut_sizes, random_keep, reasons

DOMAIN = "com.microsoft"


def prove_written_out(text: str, sizes: Mapping[str, int], bodies: Sequence[str], opset: int = 17) -> None:
    """The groups of `text` are `sizes`, and removing is silencing where operators are what `bodies` write.

    A body is `Name <attributes> (inputs) => (outputs) { nodes }`; the model is analysed and cut as it is, and its
    nodes are called in the functions' place only to be run.
    """
    model = build(text, opset=opset)
    assert cut_sizes(model) == sizes, reasons(model)
    analysis = analyse(model)
    for keep in ({}, {"*": 1}):
        plan = Plan.of(analysis.groups, random_keep(analysis.groups, keep=keep))
        masked, shrunk = cut.mask(analysis, plan), cut.shrink(analysis, plan)
        for batch in (1, 4):
            one, other = (_run(found, bodies, batch, opset) for found in (masked, shrunk))
            np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-5)


def _run(model: Model, bodies: Sequence[str], batch: int, opset: int) -> Array:
    proto = model.to_proto()
    head = f'<domain: "written.out", opset_import: ["": {opset}, "{DOMAIN}": 1]>'
    functions = [parser.parse_function(f"{head} {body}") for body in bodies]
    proto.functions.extend(functions)
    proto.opset_import.append(helper.make_opsetid("written.out", 1))
    for node in proto.graph.node:
        if node.domain == DOMAIN and node.op_type in {function.name for function in functions}:
            node.domain = "written.out"
    random = np.random.default_rng(0)
    feeds = {
        info.name: random.standard_normal([s if isinstance(s, int) else batch for s in info.shape or ()])
        for info in model.inputs
    }
    made = Session(proto.SerializeToString()).run({name: value.astype(np.float32) for name, value in feeds.items()})
    return np.asarray(made["y"])
