"""Graphs inside graphs: every node of a model in one row, bodies and called functions included.

A node comes before the nodes of the bodies that it holds, and these before the node that follows it. In the frame
that the row is made of (`flat`) no two tensors share a name, whatever graph they belong to, and every call of a
model-local function is replaced by a copy of the function's nodes. So whoever reads names need not know of scopes.
`restored` goes back: calls whose copy nobody touched are calls again, and tensors have the names that they had.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto

from onnxprune.model.versions import means_the_same

__all__ = ["Flat", "bodies", "domain_of", "flatten", "graphs", "rebuild", "restored", "walk"]

Place = tuple[int, str] | None  # the node (by its number in the row) and attribute that hold a graph; None: the model


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function, the numbers of the nodes that stand for it, and whether functions state any shapes."""

    node: NodeProto
    nodes: frozenset[int]
    stated: bool


@dataclass(frozen=True, slots=True)
class Flat:
    """A frame without calls in which every name is unique; `names` are the former names of those that were not."""

    frame: ModelProto
    calls: tuple[Call, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)


def domain_of(domain: str) -> str:
    """`ai.onnx` is another name of the standard domain."""
    return "" if domain == "ai.onnx" else domain


def bodies(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """The graphs that a node holds, by attribute; of a list of graphs, each under the attribute's name and number."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from ((f"{attribute.name}.{k}", graph) for k, graph in enumerate(attribute.graphs))


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph, and every graph inside it."""
    yield graph
    for node in graph.node:
        for _, body in bodies(node):
            yield from graphs(body)


def walk(graph: GraphProto, place: Place = None, start: int = 0) -> Iterator[tuple[int, Place, GraphProto, NodeProto]]:
    """Every node in its order in the row: its number, where it belongs, the graph that holds it, the node."""
    number = start
    for node in graph.node:
        yield number, place, graph, node
        own, number = number, number + 1
        for name, body in bodies(node):
            for found in walk(body, (own, name), number):
                number = found[0] + 1
                yield found


def flatten(frame: ModelProto) -> Flat:
    """The frame with unique names and without calls; the frame itself where that is what it is already."""
    functions = _functions(frame)
    nested = any(True for node in frame.graph.node for _ in bodies(node))
    called = bool(functions) and any(_key(n) in functions for g in graphs(frame.graph) for n in g.node)
    if not nested and not called:
        return Flat(frame)
    copy = ModelProto()
    copy.CopyFrom(frame)
    names = _Names(copy.graph)
    names.separate(copy.graph, outermost=True)
    calls = _expand(copy.graph, functions, names) if called else ()
    return Flat(copy, calls, names.former)


def _key(node: NodeProto) -> tuple[str, str, str]:
    return domain_of(node.domain), node.op_type, node.overload


def _functions(frame: ModelProto) -> dict[tuple[str, str, str], FunctionProto]:
    """The model's functions that can be written out: their operators mean the same in the graph."""
    opsets = {domain_of(o.domain): o.version for o in frame.opset_import}
    every = {(domain_of(f.domain), f.name, f.overload): f for f in frame.functions}
    found = {key: f for key, f in every.items() if _fits(f, every.keys(), opsets)}
    calls = {key: {_key(n) for n in _all_nodes(function)} & every.keys() for key, function in found.items()}
    ready: set[tuple[str, str, str]] = set()
    while fresh := {key for key, called in calls.items() if key not in ready and called <= ready}:
        ready |= fresh
    return {key: found[key] for key in ready}  # without those that call themselves


def _fits(function: FunctionProto, functions: Collection[tuple[str, str, str]], opsets: Mapping[str, int]) -> bool:
    """Whether each operator of a function is one of the model's opsets, too; calls are no operators."""
    own = {domain_of(o.domain): o.version for o in function.opset_import}
    for node in _all_nodes(function):
        domain = domain_of(node.domain)
        if _key(node) in functions:
            continue
        if domain not in own or domain not in opsets:
            return False
        if not means_the_same(node.op_type, domain, own[domain], opsets[domain]):
            return False
    return True


def _all_nodes(function: FunctionProto) -> Iterator[NodeProto]:
    for node in function.node:
        yield node
        for _, body in bodies(node):
            yield from (inner for graph in graphs(body) for inner in graph.node)


class _Names:
    """Names that are taken, and what renamed ones were called before."""

    def __init__(self, graph: GraphProto) -> None:
        self.taken = {name for inner in graphs(graph) for name in _defined(inner)}
        self.seen: set[str] = set()
        self.former: dict[str, str] = {}

    def unique(self, name: str) -> str:
        candidate, number = name, 1
        while candidate in self.taken:
            number += 1
            candidate = f"{name}_{number}"
        self.taken.add(candidate)
        return candidate

    def separate(self, graph: GraphProto, outermost: bool = False) -> None:
        """Give another name to every tensor of a graph that shares its name with one of another graph."""
        own = dict.fromkeys(_defined(graph))
        if not outermost:
            twice = [name for name in own if name in self.seen]
            renamed = {name: self.unique(name) for name in twice}
            self.former.update((new, old) for old, new in renamed.items())
            rename(graph, renamed)
        self.seen.update(_defined(graph))
        for node in graph.node:
            for _, body in bodies(node):
                self.separate(body)


def _defined(graph: GraphProto) -> Iterator[str]:
    """The names that a graph itself gives to tensors."""
    yield from (value.name for value in graph.input)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)
    yield from (name for node in graph.node for name in node.output if name)


def rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Use other names in a graph, where it defines them, and in all graphs inside it."""
    if not names:
        return
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = names.get(sparse.values.name, sparse.values.name)
    for annotation in graph.quantization_annotation:
        annotation.tensor_name = names.get(annotation.tensor_name, annotation.tensor_name)
    for node in graph.node:
        _rename_node(node, names)


def _rename_node(node: NodeProto, names: Mapping[str, str]) -> None:
    for values in (node.input, node.output):
        for position, name in enumerate(values):
            if name in names:
                values[position] = names[name]
    for _, body in bodies(node):
        rename(body, names)


# -- functions --------------------------------------------------------------------------------------------------------


def _expand(
    graph: GraphProto, functions: Mapping[tuple[str, str, str], FunctionProto], names: _Names
) -> tuple[Call, ...]:
    """Replace every call, in all graphs, by nodes of its own; the calls as they stood in the outermost place."""
    marks: dict[int, NodeProto] = {}  # number of the call -> the call; its nodes carry the number while we count
    _expand_graph(graph, functions, names, marks)
    spans: dict[int, set[int]] = {mark: set() for mark in marks}
    for number, _, _, node in walk(graph):
        mark = _take_mark(node)
        if mark is not None:
            spans[mark].update(range(number, number + 1 + sum(1 for _, b in bodies(node) for _ in walk(b))))
    stated = any(len(function.value_info) for function in functions.values())
    return tuple(Call(marks[mark], frozenset(numbers), stated) for mark, numbers in spans.items())


_MARK = "__call__"


def _take_mark(node: NodeProto) -> int | None:
    if node.attribute and node.attribute[-1].name == _MARK:
        mark = node.attribute.pop().i
        return int(mark)
    return None


def _expand_graph(
    graph: GraphProto,
    functions: Mapping[tuple[str, str, str], FunctionProto],
    names: _Names,
    marks: dict[int, NodeProto] | None,
) -> None:
    made: list[NodeProto] = []
    for node in graph.node:
        for _, body in bodies(node):
            _expand_graph(body, functions, names, marks)
        if _key(node) not in functions:
            made.append(node)
            continue
        for copied in _written_out(node, functions, names):
            if marks is not None:
                copied.attribute.add(name=_MARK, i=len(marks), type=AttributeProto.INT)
            made.append(copied)
        if marks is not None:
            marks[len(marks)] = _copy(node)
    rebuild(graph, made)


def _written_out(
    call: NodeProto, functions: Mapping[tuple[str, str, str], FunctionProto], names: _Names
) -> Iterator[NodeProto]:
    """The nodes of a function with the operands, results and attributes of one call, calls inside it included."""
    function = functions[_key(call)]
    renamed = dict.fromkeys(function.input, "")
    renamed.update(zip(function.input, call.input, strict=False))
    results = dict(zip(function.output, call.output, strict=False))
    prefix = call.name or call.op_type
    given = {a.name: a for a in (*function.attribute_proto, *call.attribute)}
    for inner in function.node:
        node = _copy(inner)
        _bind_attributes(node, given)
        for name in _made_by(node):
            if name not in renamed:
                renamed[name] = results.get(name) or names.unique(f"{prefix}/{name}")
        node.name = f"{prefix}/{node.name}" if node.name else ""
        _rename_node(node, renamed)
        for _, body in bodies(node):
            _expand_graph(body, functions, names, None)
        if _key(node) in functions:
            yield from _written_out(node, functions, names)
        else:
            yield node


def _made_by(node: NodeProto) -> Iterator[str]:
    yield from (name for name in node.output if name)
    for _, body in bodies(node):
        for graph in graphs(body):
            yield from _defined(graph)


def _bind_attributes(node: NodeProto, given: Mapping[str, AttributeProto]) -> None:
    """Attributes that refer to one of the function's get its value, or go where the call does not give it."""
    bound = []
    for attribute in node.attribute:
        value = attribute
        if attribute.ref_attr_name:
            if attribute.ref_attr_name not in given:
                continue
            value = AttributeProto()
            value.CopyFrom(given[attribute.ref_attr_name])
            value.name = attribute.name
        bound.append(AttributeProto.FromString(value.SerializeToString()))
    del node.attribute[:]
    node.attribute.extend(bound)
    for _, body in bodies(node):
        for inner in body.node:
            _bind_attributes(inner, given)


def _copy(node: NodeProto) -> NodeProto:
    copied: NodeProto = NodeProto.FromString(node.SerializeToString())
    return copied


def rebuild(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Give a graph these nodes, some of which may be its own."""
    copies = [_copy(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def restored(frame: ModelProto, flat: Flat, before: ModelProto) -> None:
    """Give tensors their former names back, and drop functions that were called `before` and no longer are."""
    for node in frame.graph.node:
        for _, body in bodies(node):
            rename(body, flat.names)
    if not flat.calls:
        return
    idle = _called(before) - _called(frame)
    kept = [f for f in frame.functions if (domain_of(f.domain), f.name, f.overload) not in idle]
    copies = [FunctionProto.FromString(f.SerializeToString()) for f in kept]
    del frame.functions[:]
    frame.functions.extend(copies)


def _called(frame: ModelProto) -> set[tuple[str, str, str]]:
    """The functions that a run of the model may come to."""
    functions = {(domain_of(f.domain), f.name, f.overload): f for f in frame.functions}
    found: set[tuple[str, str, str]] = set()
    work = [_key(node) for graph in graphs(frame.graph) for node in graph.node]
    while work:
        key = work.pop()
        if key in functions and key not in found:
            found.add(key)
            work.extend(_key(node) for node in _all_nodes(functions[key]))
    return found
