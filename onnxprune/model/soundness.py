"""What must hold of a message before anything else can be said about it: it is a model, and whole."""

from __future__ import annotations

import onnx
from onnx import GraphProto, ModelProto

from onnxprune.errors import ModelReadError
from onnxprune.model.nesting import bodies, domain_of

__all__ = ["check", "free_names"]


def free_names(graph: GraphProto) -> set[str]:
    """Names that `graph` reads and does not make itself."""
    made = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    made |= {t.values.name for t in graph.sparse_initializer}
    free: set[str] = set()
    for node in graph.node:
        free |= {name for name in node.input if name and name not in made}
        for _, inner in bodies(node):
            free |= free_names(inner) - made
        made |= set(node.output)
    return free | {v.name for v in graph.output if v.name not in made}


def check(proto: ModelProto, source: str) -> None:
    """What must hold before anything else can be said about a model."""
    if not proto.ir_version and not proto.graph.node:
        raise ModelReadError(f"{source!r} is not an ONNX model: it has neither an IR version nor nodes")
    if not proto.graph.node:
        raise ModelReadError(f"{source!r} holds no nodes: there is nothing to prune, or the file is cut short")
    if not proto.opset_import:
        raise ModelReadError(f"{source!r} declares no opset: expected at least one opset_import entry")
    newest = onnx.defs.onnx_opset_version()
    for opset in proto.opset_import:
        if domain_of(opset.domain) == "" and not 1 <= opset.version <= newest:
            raise ModelReadError(
                f"{source!r} uses opset {opset.version}, the installed onnx {onnx.__version__} knows 1 to {newest}: "
                "upgrade onnx, or export with an older opset"
            )
    known = {v.name for v in proto.graph.input} | {t.name for t in proto.graph.initializer}
    known |= {t.values.name for t in proto.graph.sparse_initializer}
    for index, node in enumerate(proto.graph.node):
        needed = [name for name in node.input if name]
        for _, graph in bodies(node):
            needed.extend(free_names(graph))
        for name in needed:
            if name not in known:
                raise ModelReadError(
                    f"{source!r} is broken: node {index} ({node.op_type} {node.name!r}) reads {name!r}, "
                    "which no earlier node, input or initializer provides"
                )
        known |= set(node.output)
    for value in proto.graph.output:
        if value.name not in known:
            raise ModelReadError(f"{source!r} is broken: nothing provides its output {value.name!r}")
