"""How a slope goes back through an operator: from that of its output to those of what it reads.

A rule gets the node and the name of the slope of its output, adds nodes, and returns the slopes of the inputs that
anyone wants, by position. An operator without a rule, and one for which a rule raises `NoSlope` because something is
not known, stops slopes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from onnxprune.gradients.convolution import conv, conv_transpose
from onnxprune.gradients.tape import NoSlope, Tape
from onnxprune.model import Node

__all__ = ["RULES", "Rule"]

Rule: TypeAlias = Callable[[Tape, Node, str], Mapping[int, str]]


def _gemm(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    """y = alpha A' B' + beta C."""
    left, right = node.inputs[:2]
    turned = [int(node.attributes.get(key, 0)) for key in ("transA", "transB")]
    alpha, beta = (float(node.attributes.get(key, 1.0)) for key in ("alpha", "beta"))
    found = {}
    if tape.wants(left):
        pair = (right, slope) if turned[0] else (slope, right)
        flags = (turned[1], 1) if turned[0] else (0, 1 - turned[1])
        found[0] = _product(tape, pair, flags, alpha)
    if tape.wants(right):
        pair = (slope, left) if turned[1] else (left, slope)
        flags = (1, turned[0]) if turned[1] else (1 - turned[0], 0)
        found[1] = _product(tape, pair, flags, alpha)
    if len(node.inputs) > 2 and tape.wants(node.inputs[2]):
        part = slope if beta == 1 else tape.add("Mul", slope, tape.number(beta))
        found[2] = tape.summed_to(part, node.outputs[0], node.inputs[2])
    return found


def _product(tape: Tape, pair: tuple[str, str], turned: tuple[int, int], alpha: float = 1.0) -> str:
    """The product of two matrices, each turned or not. (A Gemm needs a third before opset 11.)"""
    left, right = (tape.add("Transpose", m, perm=[1, 0]) if turn else m for m, turn in zip(pair, turned, strict=True))
    made = tape.add("MatMul", left, right)
    return made if alpha == 1 else tape.add("Mul", made, tape.number(alpha))


def _matmul(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    left, right = node.inputs
    ranks = [len(tape.shape(name)) for name in (left, right)]
    if min(ranks) < 2:
        raise NoSlope("a vector")
    found = {}
    if tape.wants(left):
        found[0] = _to_operand(tape, tape.add("MatMul", slope, _turned(tape, right)), left, ranks)
    if tape.wants(right):
        if ranks[1] == 2 and ranks[0] > 2:  # a weight: the rows of all samples make one matrix
            rows, above = (
                tape.add("Reshape", name, tape.ints([-1, tape.shape(of)[-1]]))
                for name, of in ((left, left), (slope, node.outputs[0]))
            )
            found[1] = _product(tape, (rows, above), (1, 0))
        else:
            found[1] = _to_operand(tape, tape.add("MatMul", _turned(tape, left), slope), right, ranks)
    return found


def _turned(tape: Tape, name: str) -> str:
    rank = len(tape.shape(name))
    return tape.add("Transpose", name, perm=[*range(rank - 2), rank - 1, rank - 2])


def _to_operand(tape: Tape, slope: str, name: str, ranks: list[int]) -> str:
    own = tape.shape(name)
    if len(own) == max(ranks) and all(n != 1 for n in own[:-2]):
        return slope
    if len(own) == max(ranks) and len(own) == 2:
        return slope
    missing = max(ranks) - len(own)
    if any(n == 1 for n in own[:-2]):
        raise NoSlope("a batch that is broadcast")
    return tape.assembly.sum(slope, list(range(missing)))


def _add(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    return {
        k: tape.summed_to(slope, node.outputs[0], name)
        for k, name in enumerate(node.inputs)
        if tape.wants(name)
    }  # fmt: skip


def _sub(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    found = _add(tape, node, slope)
    if 1 in found:
        found[1] = tape.add("Neg", found[1])
    return found


def _mul(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    return {
        k: tape.summed_to(tape.add("Mul", slope, node.inputs[1 - k]), node.outputs[0], name)
        for k, name in enumerate(node.inputs)
        if tape.wants(name)
    }


def _div(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    above, below = node.inputs
    found = {}
    share = tape.add("Div", slope, below)
    if tape.wants(above):
        found[0] = tape.summed_to(share, node.outputs[0], above)
    if tape.wants(below):
        down = tape.add("Neg", tape.add("Mul", share, node.outputs[0]))
        found[1] = tape.summed_to(down, node.outputs[0], below)
    return found


def _norm(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    """BatchNormalization as it infers: a scale and a shift of each channel."""
    data, scale, shift, mean, variance = node.inputs[:5]
    rank = len(tape.shape(data))
    per = [-1, *([1] * (rank - 2))]
    spread = 1 / np.sqrt(tape.value(variance) + float(node.attributes.get("epsilon", 1e-5)))
    steep = tape.assembly.constant(spread.astype(np.float32).reshape(per))
    axes = [0, *range(2, rank)]
    found = {}
    if tape.wants(data) or tape.wants(mean):
        through = tape.add("Mul", slope, tape.add("Mul", tape.add("Reshape", scale, tape.ints(per)), steep))
        if tape.wants(data):
            found[0] = through
        if tape.wants(mean):  # which a bias is hidden in
            found[3] = tape.add("Neg", tape.assembly.sum(through, axes))
    if tape.wants(scale):
        away = tape.add("Sub", data, tape.add("Reshape", mean, tape.ints(per)))
        found[1] = tape.assembly.sum(tape.add("Mul", slope, tape.add("Mul", away, steep)), axes)
    if tape.wants(shift):
        found[2] = tape.assembly.sum(slope, axes)
    return found


def _relu(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    return {0: tape.where(tape.add("Greater", node.outputs[0], tape.number(0)), slope)}


def _leaky(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    gentle = float(node.attributes.get("alpha", 0.01))
    test = tape.add("Cast", tape.add("Greater", node.inputs[0], tape.number(0)), to=1)
    steep = tape.add("Add", tape.add("Mul", test, tape.number(1 - gentle)), tape.number(gentle))
    return {0: tape.add("Mul", slope, steep)}


def _clip(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    """What is at a bound has no slope: the numbers there are those of the bound."""
    bounds = [float(node.attributes.get(key, limit)) for key, limit in (("min", -np.inf), ("max", np.inf))]
    for k, name in enumerate(node.inputs[1:3]):
        if name:
            bounds[k] = float(tape.value(name).reshape(()))
    data = node.inputs[0]
    if np.isfinite(bounds[0]):
        slope = tape.where(tape.add("Greater", data, tape.number(bounds[0])), slope)
    if np.isfinite(bounds[1]):
        slope = tape.where(tape.add("Less", data, tape.number(bounds[1])), slope)
    return {0: slope}


def _sigmoid(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    made = node.outputs[0]
    return {0: tape.add("Mul", slope, tape.add("Mul", made, tape.add("Sub", tape.number(1), made)))}


def _tanh(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    made = node.outputs[0]
    return {0: tape.add("Mul", slope, tape.add("Sub", tape.number(1), tape.add("Mul", made, made)))}


def _hard_sigmoid(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    made, steep = node.outputs[0], float(node.attributes.get("alpha", 0.2))
    inside = tape.where(tape.add("Greater", made, tape.number(0)), slope)
    inside = tape.where(tape.add("Less", made, tape.number(1)), inside)
    return {0: tape.add("Mul", inside, tape.number(steep))}


def _sqrt(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    return {0: tape.add("Div", slope, tape.add("Mul", node.outputs[0], tape.number(2)))}


def _reciprocal(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    made = node.outputs[0]
    return {0: tape.add("Neg", tape.add("Mul", slope, tape.add("Mul", made, made)))}


def _power(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    """Pow by a constant."""
    data, exponent = node.inputs
    power = tape.value(exponent)
    if power.size != 1:
        raise NoSlope("many exponents")
    lower = tape.add("Pow", data, tape.number(float(power.reshape(())) - 1))
    return {0: tape.add("Mul", slope, tape.add("Mul", lower, tape.number(float(power.reshape(())))))}


def _exp(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    return {0: tape.add("Mul", slope, node.outputs[0])}


def _neg(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    return {0: tape.add("Neg", slope)}


def _erf(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    data = node.inputs[0]
    bell = tape.add("Exp", tape.add("Neg", tape.add("Mul", data, data)))
    return {0: tape.add("Mul", slope, tape.add("Mul", bell, tape.number(2 / np.sqrt(np.pi))))}


def _hard_swish(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    """x min(1, max(0, x / 6 + 1 / 2)): x / 3 + 1 / 2 between -3 and 3, 1 above."""
    data = node.inputs[0]
    inside = tape.add("Add", tape.add("Div", data, tape.number(3)), tape.number(0.5))
    above = tape.add("Cast", tape.add("Greater", data, tape.number(3)), to=1)
    within = tape.where(tape.add("Less", tape.add("Abs", data), tape.number(3)), inside)
    return {0: tape.add("Mul", slope, tape.add("Add", within, above))}


def _softmax(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    """Along the last axis alone: others are read in two ways, before and since opset 13."""
    made, rank = node.outputs[0], len(tape.shape(node.outputs[0]))
    default = -1 if tape.model.opsets.get("", 1) >= 13 else 1
    if int(node.attributes.get("axis", default)) % rank != rank - 1:
        raise NoSlope("another axis")
    both = tape.add("Mul", slope, made)
    total = tape.assembly.sum(both, [rank - 1], keep=True)
    return {0: tape.add("Sub", both, tape.add("Mul", made, total))}


def _global_pool(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    data = node.inputs[0]
    share = tape.add("Mul", slope, tape.number(1 / np.prod(tape.shape(data)[2:])))
    return {0: tape.add("Expand", share, tape.add("Shape", data))}


def _mean(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    """ReduceMean: the slope is spread over what was averaged."""
    data = node.inputs[0]
    shape = tape.shape(data)
    given = node.attributes.get("axes")
    if given is None:
        given = tape.value(node.inputs[1]).tolist() if len(node.inputs) > 1 and node.inputs[1] else range(len(shape))
    axes = {int(axis) % len(shape) for axis in given}
    if 0 in axes:
        raise NoSlope("the batch")
    sizes = [0, *(1 if k in axes else shape[k] for k in range(1, len(shape)))]
    share = tape.add("Mul", slope, tape.number(1 / np.prod([shape[k] for k in axes])))
    return {0: tape.add("Expand", tape.add("Reshape", share, tape.ints(sizes)), tape.add("Shape", data))}


def _same_numbers(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    return {0: tape.like(slope, node.inputs[0])}


def _same(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    return {0: slope}


def _transpose(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    order = node.attributes.get("perm") or tuple(range(len(tape.shape(node.inputs[0]))))[::-1]
    return {0: tape.add("Transpose", slope, perm=[int(k) for k in np.argsort(order)])}


def _concat(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    axis = int(node.attributes["axis"]) % len(tape.shape(node.outputs[0]))
    if axis == 0:
        raise NoSlope("the batch")
    found, start = {}, 0
    for k, name in enumerate(node.inputs):
        end = start + tape.shape(name)[axis]
        if tape.wants(name):
            found[k] = tape.assembly.slice(slope, [axis], [start], [end], [1])
        start = end
    return found


def _pad(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    """Pad with a constant: the slope without its rim."""
    if node.attributes.get("mode", "constant") != "constant" or len([n for n in node.inputs[3:] if n]):
        raise NoSlope("another mode")
    given = node.attributes.get("pads")
    pads = [int(n) for n in (tape.value(node.inputs[1]) if given is None else given)]
    shape = tape.shape(node.inputs[0])
    rank = len(shape)
    axes = [k for k in range(rank) if pads[k] or pads[rank + k]]
    if 0 in axes or min(pads) < 0:
        raise NoSlope("what is cut away")
    starts, ends = [pads[k] for k in axes], [pads[k] + shape[k] for k in axes]
    return {0: tape.assembly.slice(slope, axes, starts, ends, [1] * len(axes)) if axes else slope}


def _slice(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    """Slice in steps of one: zeros around it."""
    data = node.inputs[0]
    shape, attributes = tape.shape(data), node.attributes
    if len(node.inputs) > 1:
        parts = [tape.value(name).tolist() if name else None for name in node.inputs[1:]]
        starts, ends, axes, steps = [*parts, None, None][:4]
    else:
        starts, ends, axes, steps = attributes["starts"], attributes["ends"], attributes.get("axes"), None
    assert starts is not None
    assert ends is not None
    rank = len(shape)
    pads = [0] * (2 * rank)
    for k, axis in enumerate(axes if axes is not None else range(len(starts))):
        axis = int(axis) % rank
        if axis == 0 or (steps is not None and steps[k] != 1):
            raise NoSlope("the batch, or steps")
        start, end, _ = slice(int(starts[k]), int(ends[k])).indices(shape[axis])
        pads[axis], pads[rank + axis] = start, shape[axis] - max(start, end)
    if tape.model.opsets.get("", 1) < 11:
        return {0: tape.add("Pad", slope, pads=pads)}
    return {0: tape.add("Pad", slope, tape.ints(pads))}


def _average_pool(tape: Tape, node: Node, slope: str) -> dict[int, str]:
    """AveragePool without pads: each number is spread evenly over its window."""
    attributes = node.attributes
    if any(attributes.get("pads", ())) or attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise NoSlope("pads")
    if attributes.get("ceil_mode") or any(d != 1 for d in attributes.get("dilations", ())):
        raise NoSlope("windows that reach beyond the image")
    shape, small = tape.shape(node.inputs[0]), tape.shape(node.outputs[0])[2:]
    kernel = [int(k) for k in attributes["kernel_shape"]]
    strides = [int(s) for s in attributes.get("strides", [1] * len(kernel))]
    even = np.full((shape[1], 1, *kernel), 1 / np.prod(kernel), np.float32)
    more = [n - (m - 1) * s - k for n, m, s, k in zip(shape[2:], small, strides, kernel, strict=True)]
    return {
        0: tape.add(
            "ConvTranspose", slope, tape.assembly.constant(even), group=shape[1], strides=strides, output_padding=more
        )
    }


RULES: Mapping[str, Rule] = {
    "Add": _add,
    "AveragePool": _average_pool,
    "BatchNormalization": _norm,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Div": _div,
    "Dropout": _same,
    "Erf": _erf,
    "Exp": _exp,
    "Flatten": _same_numbers,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Identity": _same,
    "LeakyRelu": _leaky,
    "MatMul": _matmul,
    "Mul": _mul,
    "Neg": _neg,
    "Pad": _pad,
    "Pow": _power,
    "Reciprocal": _reciprocal,
    "ReduceMean": _mean,
    "Relu": _relu,
    "Reshape": _same_numbers,
    "Sigmoid": _sigmoid,
    "Slice": _slice,
    "Softmax": _softmax,
    "Sqrt": _sqrt,
    "Squeeze": _same_numbers,
    "Sub": _sub,
    "Tanh": _tanh,
    "Transpose": _transpose,
    "Unsqueeze": _same_numbers,
}
"""By operator of the standard domain."""
