"""The model and, behind it, what every weight should do about the error of tensors inside: one graph.

The error is the sum over *taps*, tensors of the model with targets, of c |t - target|^2 / N, N being the samples of a
batch. Slopes go back node by node (reverse accumulation: Linnainmaa 1970; Griewank and Walther, 2008). Where an
operator has no rule they stop: what lies before it learns from nearer taps only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from onnxprune.gradients.rules import RULES
from onnxprune.gradients.tape import NoSlope, Tape
from onnxprune.model import Model, Node

__all__ = ["Slopes", "slopes_of"]


@dataclass(frozen=True)
class Slopes:
    """A model that computes slopes.

    Its inputs are those of the original, the values of `weights` under their own names, and of each tap what it should
    be, under the name in `targets`. It makes of each tap the sum of its squared distances, c / N times it, under the
    name in `errors`, and of each weight the slope of their sum, under the name in `slopes`. `stopped` are the operators
    that slopes did not get through.
    """

    model: bytes
    weights: tuple[str, ...]
    targets: Mapping[str, str]
    errors: Mapping[str, str]
    slopes: Mapping[str, str]
    stopped: tuple[str, ...]


def slopes_of(
    model: Model,
    shapes: Mapping[str, tuple[int, ...] | None],
    weights: Collection[str],
    taps: Mapping[str, float],
) -> Slopes:
    """Put the way back behind a model; `taps` gives c by tensor.

    `weights` are float32 initializers, `shapes` those of the tensors at the sizes that the result will run at; the
    batch, their first axis, may be another.
    """
    main = [node for node in model.nodes if node.within is None]
    used = _leading(main, weights)
    tape = Tape(model, shapes, used)
    slopes: dict[str, str] = {}
    targets, errors = {}, {}
    for name, factor in taps.items():
        targets[name] = tape.assembly.name(f"{name}__target")
        away = tape.add("Sub", name, targets[name])
        over = tape.add("Div", tape.number(factor), _samples(tape, name))
        errors[name] = tape.add("Mul", tape.add("ReduceSumSquare", away, keepdims=0), over)
        slopes[name] = tape.add("Mul", away, tape.add("Mul", over, tape.number(2)))
    stopped: dict[str, None] = {}
    for node in reversed(main):
        if not node.outputs or node.outputs[0] not in slopes or used.isdisjoint(node.inputs):
            continue
        rule = RULES.get(node.op_type) if node.domain == "" else None
        try:
            found = {} if rule is None else rule(tape, node, slopes[node.outputs[0]])
        except NoSlope:
            found = {}
        if not found:
            stopped[node.op_type] = None
        for position, slope in found.items():
            name = node.inputs[position]
            slopes[name] = tape.add("Add", slopes[name], slope) if name in slopes else slope
    own = {name: slopes[name] for name in weights if name in slopes}
    single = np.dtype(np.float32)
    inputs = {info.name: info.dtype for info in model.inputs} | dict.fromkeys((*own, *targets.values()), single)
    outputs = dict.fromkeys((*errors.values(), *own.values()), single)
    return Slopes(tape.assembly.done(inputs, outputs), tuple(own), targets, errors, own, tuple(stopped))


def _samples(tape: Tape, name: str) -> str:
    """The size of the first axis, as a float."""
    first = tape.assembly.slice(tape.add("Shape", name), [0], [0], [1], [1])
    return tape.add("Cast", tape.add("Reshape", first, tape.assembly.constant(np.zeros(0, np.int64))), to=1)


def _leading(nodes: Collection[Node], weights: Collection[str]) -> frozenset[str]:
    """The weights, and every tensor that depends on one."""
    found = set(weights)
    for node in nodes:
        if not found.isdisjoint(node.inputs):
            found.update(node.outputs)
    return frozenset(found)
