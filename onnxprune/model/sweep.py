"""What no output of a model depends on: nodes, initializers, optional outputs that nobody reads, Identity nodes.

The nodes of bodies (If, Loop, Scan) are left as they are; what they read is read.

1. A node is reached when an output of it is a graph output, or is read by a node that is reached or its subgraphs.
2. An initializer that nothing reads goes, unless the graph lists it among its inputs.
3. An optional output that nothing reads is left out, as an exporter would have done (the indices of a MaxPool).
4. An Identity goes and its readers read what it read, unless it gives a graph output its name or a subgraph reads it.

Graph inputs stay, whether anything reads them or not: whoever feeds them need not notice.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from onnxprune.model.model import Model
from onnxprune.model.nesting import bodies, domain_of, rebuild
from onnxprune.model.soundness import free_names

__all__ = ["swept"]

UNREACHED, ORPHANS, OUTPUTS, IDENTITIES = "nodes", "initializers", "outputs", "identities"


def swept(model: Model) -> tuple[Model, Mapping[str, int]]:
    """The model without what no output depends on, and how many `nodes`, `initializers`, `outputs` and `identities`
    went; the model itself where there is nothing to sweep."""
    graph = model.frame.graph
    aliases = _aliases(model)
    reached = _reached(graph, aliases)
    read = _read(graph, reached, aliases)
    unused = {i: found for i in reached if (found := _unused_outputs(model, graph.node[i], read))}
    listed = {value.name for value in graph.input}
    orphans = [name for name in model.tensors if name not in read and name not in listed]
    counts = {
        UNREACHED: len(graph.node) - len(reached) - len(aliases),
        ORPHANS: len(orphans),
        OUTPUTS: sum(map(len, unused.values())),
        IDENTITIES: len(aliases),
    }
    if not any(counts.values()):
        return model, counts
    frame = ModelProto()
    frame.CopyFrom(model.frame)
    _rewrite(frame.graph, reached, aliases, unused)
    tensors: dict[str, TensorProto] = {n: t for n, t in model.tensors.items() if n not in set(orphans)}
    return Model(frame, tensors, model.folder, model.source, model.outside), counts


def _aliases(model: Model) -> dict[str, str]:
    """Case 4: the output of every Identity that can go, and the name that its readers will read."""
    graph = model.frame.graph
    named = {value.name for value in graph.output}
    named |= {name for node in graph.node for _, body in bodies(node) for name in free_names(body)}
    found: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "Identity" and domain_of(node.domain) == "" and node.output[0] not in named:
            found[node.output[0]] = found.get(node.input[0], node.input[0])
    return found


def _inputs(node: NodeProto, aliases: Mapping[str, str]) -> set[str]:
    """Every name of the main graph that a node or its subgraphs read."""
    names = {aliases.get(name, name) for name in node.input}
    for _, body in bodies(node):
        names |= free_names(body)
    return names


def _reached(graph: GraphProto, aliases: Mapping[str, str]) -> list[int]:
    """Case 1: the indices of the nodes that stay, in order."""
    wanted = {value.name for value in graph.output}
    kept = []
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if any(name in wanted for name in node.output) and node.output[0] not in aliases:
            kept.append(index)
            wanted |= _inputs(node, aliases)
    return kept[::-1]


def _read(graph: GraphProto, reached: list[int], aliases: Mapping[str, str]) -> set[str]:
    names = {value.name for value in graph.output}
    for index in reached:
        names |= _inputs(graph.node[index], aliases)
    return names


def _unused_outputs(model: Model, node: NodeProto, read: set[str]) -> list[int]:
    """Case 3: the positions of optional outputs that nobody reads; those of a BatchNormalization say how it works."""
    if node.op_type == "BatchNormalization":
        return []
    unread = [k for k, name in enumerate(node.output) if name and name not in read]
    opset = model.opsets.get(domain_of(node.domain), 1)
    if not unread or not onnx.defs.has(node.op_type, opset, domain_of(node.domain)):
        return []
    formal = onnx.defs.get_schema(node.op_type, opset, domain_of(node.domain)).outputs
    optional = onnx.defs.OpSchema.FormalParameterOption.Optional
    return [k for k in unread if k < len(formal) and formal[k].option == optional]


def _rewrite(
    graph: GraphProto, reached: list[int], aliases: Mapping[str, str], unused: Mapping[int, list[int]]
) -> None:
    nodes = []
    for index in reached:
        node = NodeProto.FromString(graph.node[index].SerializeToString())
        for k, name in enumerate(node.input):
            if name in aliases:
                node.input[k] = aliases[name]
        for k in unused.get(index, ()):
            node.output[k] = ""
        while len(node.output) > 1 and not node.output[-1]:
            del node.output[-1]
        nodes.append(node)
    before = {name for node in graph.node for name in node.output}
    gone = before - {name for node in nodes for name in node.output}
    rebuild(graph, nodes)
    for position in reversed(range(len(graph.value_info))):
        if graph.value_info[position].name in gone:
            del graph.value_info[position]
