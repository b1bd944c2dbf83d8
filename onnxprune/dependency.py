"""From facts to types: what belongs together, what is fixed and why.

`analyse` asks every node's rule for its facts and unifies them. The same facts make a `networkx` multigraph whose nodes
are (tensor, axis) and whose edges name the ONNX node that stated them; see `explanation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property, partial
from math import prod

from onnxprune.analysis import GRAPH, Analysis, Cause, ProbedNode, Refusal, Statement
from onnxprune.centring import added_back
from onnxprune.dimensions import Atom, Dimension, atoms
from onnxprune.families import Families
from onnxprune.groups import Group, Site
from onnxprune.model import Model, Node, Probed, Prober, Shapes, WeightInfo, apart, infer
from onnxprune.rules import Registry, Rule, registry
from onnxprune.rules.call import Body, Call, Tensor
from onnxprune.rules.facts import Counts, Fact, Fixed, Reads, Same
from onnxprune.rules.probed import probed_facts
from onnxprune.unification import Unification
from onnxprune.weights import is_parameter

__all__ = ["Analysis", "Cause", "Group", "ProbedNode", "Refusal", "Site", "Statement", "analyse"]

# what gives back some of its input's numbers as they are: if those depend on a dynamic size, so does the result
_PICKS = frozenset({"Shape", "Size", "Gather", "Slice", "Squeeze", "Unsqueeze", "Reshape", "Concat", "Identity"})


def analyse(
    model: Model,
    sizes: Mapping[str, int] | None = None,
    rules: Registry = registry,
    allow: frozenset[str] = frozenset(),
    prober: Prober | None = None,
) -> Analysis:
    """The types of all dimensions of `model`; `sizes` gives example sizes of symbolic dimensions by name.

    `allow` names kinds of fixed dimensions that are left open (see `rules.facts.INEXACT`): cutting them makes a model
    that is not the masked one. A `prober` infers what nodes without a rule carry (see `onnxprune.probing`).
    """
    shapes = infer(model, sizes, prober)
    analysis = _Analyser(model, shapes, rules, allow, prober).run()
    wanted = worth_folding(analysis)
    while wanted:
        stored = model.fold(wanted)
        if stored.apart != wanted.keys():
            wanted = {name: info for name, info in wanted.items() if name in stored.apart}
            continue
        folded = _Analyser(stored, shapes, rules, allow, prober).run()
        freed = {name: info for name, info in wanted.items() if any(map(folded.is_free, folded.dims(name)))}
        if freed == wanted:
            return folded
        wanted = freed
    return analysis


class _Analyser:
    """One walk over the nodes: facts are collected and unified as they come."""

    def __init__(
        self, model: Model, shapes: Shapes, rules: Registry, allow: frozenset[str], prober: Prober | None
    ) -> None:
        self.model, self.shapes, self.rules, self.prober = model, shapes, rules, prober
        self.probed: dict[int, Probed] = {}
        self.types: Unification[Cause] = Unification()
        self.statements: list[Statement] = []
        self.allow = allow
        self.opened: list[Statement] = []
        self.next_id = 0
        self.told_apart = False
        self.axes: dict[str, tuple[Atom, ...]] = {}
        self.tensors: dict[str, Tensor | None] = {}
        self.live, self.readers = _live(model, shapes), _readers(model)
        self.dead: set[tuple[int, str]] = set()  # (node, body) that never runs

    @cached_property
    def makers(self) -> dict[str, Node]:
        """The node that makes a tensor."""
        return {name: node for node in self.model.nodes for name in node.outputs}

    def run(self) -> Analysis:
        for info in self.model.inputs:
            self.fix_all(info.name, GRAPH, "a graph input")
        for node in self.model.nodes:
            if node.index not in self.model.spent:
                self.visit(node)
        for info in self.model.outputs:
            self.fix_all(info.name, GRAPH, "a graph output")
        for name in sorted(self.model.kept & self.shapes.number.keys() - self.model.weights.keys()):
            self.fix_counted(name)
        self.fix_dynamic()
        return Analysis(self.model, self.shapes, self.axes,
                        tuple(self.statements), self.types, self.families(),
                        self.allow, tuple(self.opened), self.probed, self.prober)  # fmt: skip

    @cached_property
    def read(self) -> frozenset[str]:
        """Every tensor that somebody reads: what is made and never read needs no shape."""
        used = {info.name for info in self.model.outputs}
        for node in self.model.nodes:
            used.update(node.inputs, *(body.outputs for body in node.bodies.values()))
        return frozenset(used)

    def new_atom(self, size: int) -> Atom:
        atom = Atom(self.next_id, size)
        self.next_id += 1
        return atom

    def new_units(self, size: int) -> list[Atom]:
        self.told_apart = True
        return [self.new_atom(1) for _ in range(size)]

    def families(self) -> Families | None:
        """What the units that rules told apart make together again; None where no rule did."""
        if not self.told_apart:
            return None
        dropped = self.types.dropped()
        dims = (self.types.resolve(axis) for axes in self.axes.values() for axis in axes)
        return Families(dims, lambda unit: unit.id not in dropped and self.types.cause_of(unit) is None)

    def tensor(self, name: str) -> Tensor | None:
        """The tensor as rules see it; None where its shape is not known."""
        if name not in self.tensors:
            info = self.model.weights.get(name)
            shape = self.shapes.shape.get(name) if info is None else info.shape
            if shape is None:
                self.tensors[name] = None
            else:
                dims = self.axes[name] = tuple(self.new_atom(size) for size in shape)
                dynamic = self.shapes.dynamic.get(name, (False,) * len(dims))
                number, varies = self.shapes.number.get(name), self.shapes.dynamic_number.get(name)
                live = name in self.live
                self.tensors[name] = Tensor(name, dims, dynamic, number, varies, info is not None, live)
        return self.tensors[name]

    def visit(self, node: Node) -> None:
        """Ask the node's rule; without one, or without shapes, everything that it touches is fixed."""
        if node.op_type == "Constant" and node.domain == "":
            return
        bodies = self.bodies(node) if node.bodies else {}
        if node.within in self.dead:
            self.dead.update((node.index, name) for name in bodies)
        if node.outputs and all(name in self.shapes.number or not name for name in node.outputs):
            return  # shape arithmetic: its numbers are corrected where they are used
        inputs = tuple(self.tensor(name) if name else None for name in node.inputs)
        outputs = tuple(self.tensor(name) if name else None for name in node.outputs)
        for name in node.inputs:
            if name in self.shapes.number and name not in self.model.weights:
                self.fix_all(name, node.index, "its values are computed from shapes")
        opset = self.model.opsets.get(node.domain, 1)
        rule = self.rules.find(node.domain, node.op_type, opset) or self.probe(node, opset)
        if rule is None:
            self.fix_node(node, f"no rule for {node.domain or 'ai.onnx'}::{node.op_type}")
            return
        read = (name for name in node.outputs if name in self.read or name == node.outputs[0])
        for name in (*node.inputs, *read) if not bodies else ():
            if name and self.tensors[name] is None:
                if node.within not in self.dead:
                    unknown = f"the shape of {name!r} is not known"
                    self.fix_node(node, f"{node.op_type} {rule.nature}" if rule.nature else unknown)
                return
        call = Call(node.op_type, opset, inputs, outputs, dict(node.attributes), self.new_atom, self.new_units,
                    bodies, frozenset(name for name in bodies if (node.index, name) in self.dead),
                    lambda name: added_back(name, self.readers, self.shapes.shape, self.live))  # fmt: skip
        spoken: set[int] = set()
        for fact in rule.function(call):
            self.state(node.index, fact)
            if isinstance(fact, Same):
                spoken.update(_ids(fact.left), _ids(fact.right))
            elif isinstance(fact, Reads):
                spoken.add(self.axes[node.inputs[fact.operand]][fact.axis].id)
            elif isinstance(fact, Counts):
                spoken.update(atom for dim in fact.dims if dim is not None for atom in _ids(dim))
            elif isinstance(fact, Fixed):
                spoken.update(_ids(fact.dim))
        for tensor in (*inputs, *outputs):
            for dim in tensor.dims if tensor is not None else ():
                if dim.size > 1 and dim.id not in spoken:
                    self.state(node.index, Fixed(dim, f"{node.op_type} does not carry it"))

    def probe(self, node: Node, opset: int) -> Rule | None:
        """What a run of the node alone teaches, as a rule; None without a prober, or where nothing is to be run."""
        if self.prober is None:
            return None
        alone = apart(self.model, self.model.protos[node.index], self.shapes.shape, self.shapes.dtype,
                      self.shapes.number)  # fmt: skip
        if alone is None:
            return None
        found = self.probed[node.index] = self.prober.carried(alone)
        nature = f"has no rule: {found.reason}" if found.reason else ""
        return Rule(node.domain, node.op_type, opset, None, partial(probed_facts, found), nature)

    def bodies(self, node: Node) -> dict[str, Body]:
        """The bodies of a node as rules see them; which of them never run is noted."""
        if node.op_type == "If" and node.inputs[0] in self.shapes.number and self.is_constant(node.inputs[0]):
            taken = self.shapes.number[node.inputs[0]].all()
            self.dead.add((node.index, "else_branch" if taken else "then_branch"))
        return {
            name: Body(tuple(map(self.tensor, body.inputs)), tuple(map(self.tensor, body.outputs)))
            for name, body in node.bodies.items()
        }

    def is_constant(self, name: str) -> bool:
        """Whether a number is the same for all sizes, and not just for those that were tried."""
        work = [name]
        while work:
            current = work.pop()
            if self.shapes.dynamic_number[current].any():
                return False
            node = self.makers.get(current)
            if node is not None and node.op_type not in _PICKS:
                work.extend(i for i in node.inputs if i in self.shapes.number)
        return True

    def state(self, node: int, fact: Fact) -> None:
        if isinstance(fact, Fixed) and fact.kind in self.allow:
            self.opened.append(Statement(node, fact))
            return
        self.statements.append(Statement(node, fact))
        if isinstance(fact, Same):
            self.types.same(fact.left, fact.right, Cause(node, "its two sides have no common refinement"))
        elif isinstance(fact, Fixed):
            self.types.fix(fact.dim, Cause(node, fact.reason))

    def fix_dynamic(self) -> None:
        """A dynamic axis is fixed where it is one atom; in batch x heads, the batch is, which has its own axis."""
        for tensor in self.tensors.values():
            for dim, is_dynamic in zip(tensor.dims, tensor.dynamic, strict=True) if tensor is not None else ():
                if is_dynamic and isinstance(self.types.resolve(dim), Atom):
                    self.state(GRAPH, Fixed(dim, "a dynamic axis"))

    def fix_counted(self, name: str) -> None:
        """A number that leaves a graph keeps its value: nothing may go from the sizes that it is computed from."""
        work, seen = [name], set()
        while work:
            node = self.makers.get(work.pop())
            if node is None or node.index in seen:
                continue
            seen.add(node.index)
            if node.op_type in ("Shape", "Size"):
                self.fix_all(node.inputs[0], node.index, f"{name!r} is computed from its size")
            else:
                work.extend(node.inputs)

    def fix_node(self, node: Node, reason: str) -> None:
        inner = (name for body in node.bodies.values() for name in (*body.inputs, *body.outputs))
        for name in (*node.inputs, *node.outputs, *inner):
            self.fix_all(name, node.index, reason)

    def fix_all(self, name: str, node: int, reason: str) -> None:
        tensor = self.tensor(name) if name else None
        for dim in tensor.dims if tensor is not None else ():
            self.state(node, Fixed(dim, reason))


def _live(model: Model, shapes: Shapes) -> frozenset[str]:
    """The tensors that are computed from the inputs of the graph; numbers about shapes are not, bodies always are."""
    live = {info.name for info in model.inputs}
    for node in model.nodes:
        live.update(name for body in node.bodies.values() for name in body.inputs)
    for node in model.nodes:
        if node.bodies or not live.isdisjoint(node.inputs):
            live.update(name for name in node.outputs if name and name not in shapes.number)
    return frozenset(live)


def _readers(model: Model) -> dict[str, list[Node]]:
    readers: dict[str, list[Node]] = {}
    for node in model.nodes:
        for name in dict.fromkeys([*node.inputs, *(n for body in node.bodies.values() for n in body.outputs)]):
            readers.setdefault(name, []).append(node)
    return readers


def _ids(dim: Dimension) -> Iterable[int]:
    return (dim.id,) if isinstance(dim, Atom) else (atom.id for atom in atoms(dim))


def worth_folding(analysis: Analysis) -> dict[str, WeightInfo]:
    """The tensors that are computed from parameters, and of which that computation fixes or contracts an axis."""
    model, shapes = analysis.model, analysis.shapes
    nodes = model.computed(model.weights)
    if not nodes:
        return {}
    fixed = {a for t in analysis.axes for dim in analysis.dims(t) for a in atoms(dim) if a.size > 1
             and (cause := analysis.cause_of(a)) is not None and cause.node in nodes}  # fmt: skip
    for statement in analysis.notes(Reads):
        if statement.node in nodes and isinstance(statement.fact, Reads):
            name = model.nodes[statement.node].inputs[statement.fact.operand]
            fixed.update(atoms(analysis.dims(name)[statement.fact.axis]))
    parameters = {name for name, info in model.weights.items() if is_parameter(info)}
    for node in (model.nodes[index] for index in sorted(nodes)):
        if not parameters.isdisjoint(node.inputs):
            parameters.update(node.outputs)
    made = {name for index in nodes for name in model.nodes[index].outputs} & parameters - model.kept
    read = {name for node in model.nodes if node.index not in nodes for name in node.inputs}
    found: dict[str, WeightInfo] = {}
    for name in sorted(made & read):
        shape, dtype = shapes.shape.get(name), shapes.dtype.get(name)
        if shape and dtype is not None and not fixed.isdisjoint(a for dim in analysis.dims(name) for a in atoms(dim)):
            info = WeightInfo(name, shape, dtype, prod(shape) * dtype.itemsize, None)
            if is_parameter(info):
                found[name] = info
    return found
