"""Shapes through control flow: what goes into the body of an If, Loop or Scan, and what comes out of it.

A value that a Loop or Scan carries has one shape if the body, given that shape, gives it back: then every round does.
If it does not, the value's shape is not known, and the body is inferred again without it.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, TensorProto, TypeProto, helper

from onnxprune.model.nesting import bodies, domain_of, graphs

__all__ = ["Known", "flow"]

Visit = Callable[[GraphProto], None]
LONGEST = 2**20  # rounds; a larger trip count is there to be cut short


class Known(Protocol):
    """What inference knows so far, by name; `idle` is what branches make that are not taken."""

    types: dict[str, TypeProto]
    shape: dict[str, tuple[int, ...] | None]
    number: dict[str, npt.NDArray[Any]]
    data: dict[str, npt.NDArray[Any]]
    idle: set[str]


def flow(known: Known, node: NodeProto, visit: Visit) -> bool:
    """Infer a node that holds graphs, and these with `visit`; False where it is none, or nothing is known of it."""
    held = dict(bodies(node))
    if not held:
        return False
    step = {"If": _if, "Loop": _loop, "Scan": _scan}.get(node.op_type) if domain_of(node.domain) == "" else None
    if step is None or (node.op_type == "Scan" and len(node.input) != len(held["body"].input)):
        for body in held.values():
            visit(body)
        for name in node.output:
            known.shape[name] = None
    else:
        step(known, node, held, visit)
    return True


def _if(known: Known, node: NodeProto, held: dict[str, GraphProto], visit: Visit) -> None:
    for body in held.values():
        visit(body)
    branches = [held["then_branch"], held["else_branch"]]
    condition = known.number.get(node.input[0])
    if condition is not None:
        other = branches.pop(1 if condition.all() else 0)
        known.idle.update(name for graph in graphs(other) for node in graph.node for name in node.output)
    for k, name in enumerate(node.output):
        shapes = {known.shape.get(branch.output[k].name) for branch in branches}
        made = branches[0].output[k].name
        _assign(known, name, made, shapes.pop() if len(shapes) == 1 else None)
        value = known.number.get(made, known.data.get(made))
        if len(branches) == 1 and value is not None:
            known.data[name] = value  # what shapes follow from it is known; a number it is not, as it is not corrected


def _loop(known: Known, node: NodeProto, held: dict[str, GraphProto], visit: Visit) -> None:
    body = held["body"]
    for value, kind in zip(body.input, (TensorProto.INT64, TensorProto.BOOL), strict=False):
        known.types[value.name], known.shape[value.name] = helper.make_tensor_type_proto(kind, ()), ()
    states = len(body.input) - 2
    starts = [known.shape.get(name) for name in node.input[2:]]
    _carry(known, body, node.input[2:], starts, 2, 1, visit)
    trips = _trips(known, node, body)
    for k, name in enumerate(node.output):
        made = body.output[1 + k].name
        shape = known.shape.get(made)
        if k >= states:
            shape = None if shape is None or trips is None else (trips, *shape)
        elif shape != known.shape.get(body.input[2 + k].name):
            shape = None
        _assign(known, name, made, shape)


def _trips(known: Known, node: NodeProto, body: GraphProto) -> int | None:
    """How many rounds a Loop makes; None where a condition may end it, or nobody knows."""
    rounds = known.number.get(node.input[0]) if node.input[0] else None
    if rounds is None or rounds.size != 1 or not 0 <= int(rounds.item()) <= LONGEST:
        return None
    start = known.number.get(node.input[1]) if node.input[1] else np.ones(1)
    makers = {name: inner for inner in body.node for name in inner.output}
    goes_on = body.output[0].name
    while goes_on in makers and makers[goes_on].op_type == "Identity":
        goes_on = makers[goes_on].input[0]
    stays = start if goes_on == body.input[1].name else known.number.get(goes_on)
    if start is None or stays is None or not (start.all() and stays.all()):
        return None
    return int(rounds.item())


def _scan(known: Known, node: NodeProto, held: dict[str, GraphProto], visit: Visit) -> None:
    body = held["body"]
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name != "body"}
    states = len(node.input) - given["num_scan_inputs"]
    axes = given.get("scan_input_axes", [0] * (len(node.input) - states))
    starts = [known.shape.get(name) for name in node.input[:states]]
    length = None
    for name, axis in zip(node.input[states:], axes, strict=True):
        shape = known.shape.get(name)
        starts.append(None if shape is None else tuple(np.delete(shape, axis).tolist()))
        length = length if shape is None else shape[axis]
    _carry(known, body, node.input, starts, 0, 0, visit, states)
    axes = given.get("scan_output_axes", [0] * (len(node.output) - states))
    for k, name in enumerate(node.output):
        made = body.output[k].name
        shape = known.shape.get(made)
        if k >= states and shape is not None:
            axis = axes[k - states] % (len(shape) + 1)
            shape = None if length is None else (*shape[:axis], length, *shape[axis:])
        elif k < states and shape != known.shape.get(body.input[k].name):
            shape = None
        _assign(known, name, made, shape)


def _carry(
    known: Known, body: GraphProto, sources: Sequence[str], starts: list[tuple[int, ...] | None], inputs: int,
    outputs: int, visit: Visit, states: int | None = None,
) -> None:  # fmt: skip
    """Infer a body until every carried value has the shape that it starts with, or none."""
    count = len(starts) if states is None else states
    while True:
        for value, source, start in zip(body.input[inputs:], sources, starts, strict=True):
            _assign(known, value.name, source, start)
        visit(body)
        changed = [
            k
            for k in range(count)
            if starts[k] is not None and known.shape.get(body.output[outputs + k].name) != starts[k]
        ]
        if not changed:
            return
        for k in changed:
            starts[k] = None
        for graph in graphs(body):
            for name in (name for node in graph.node for name in node.output):
                for facts in (known.types, known.shape, known.number, known.data):
                    _forget(facts, name)


def _forget(facts: MutableMapping[str, Any], name: str) -> None:
    facts.pop(name, None)


def _assign(known: Known, name: str, like: str, shape: tuple[int, ...] | None) -> None:
    """Give a tensor this shape, and the element type of another."""
    kind = known.types.get(like)
    if kind is not None and kind.WhichOneof("value") == "tensor_type":
        known.types[name] = helper.make_tensor_type_proto(kind.tensor_type.elem_type, shape)
    known.shape[name] = shape
