"""If, Loop and Scan: what goes into a body, what comes out of it, and what a round hands to the next one."""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.rules.call import Body, Call, Tensor
from onnxprune.rules.facts import Fact, Fixed, Same
from onnxprune.rules.registry import rule


def tie(a: Tensor | None, b: Tensor | None, but: tuple[int | None, int | None] = (None, None)) -> Iterator[Fact]:
    """Two tensors are one value, except axis `but` of each; where their shapes are not alike, nothing may go."""
    sides = [
        [] if t is None else [d for k, d in enumerate(t.dims) if k != skip] for t, skip in zip((a, b), but, strict=True)
    ]
    if a is None or b is None:
        name = next((t.name for t in (a, b) if t is not None), "")
        reason = f"the shape of what {name!r} is in a body, or after it, is not known"
        yield from (Fixed(dim, reason) for side in sides for dim in side)
    elif [d.size for d in sides[0]] != [d.size for d in sides[1]]:
        reason = f"{a.name!r} and {b.name!r} are one value, but of different shapes"
        yield from (Fixed(dim, reason) for side in sides for dim in side)
    else:
        yield from (Same(x, y) for x, y in zip(*sides, strict=True))


def steps(tensor: Tensor | None, axis: int) -> tuple[list[Fact], int | None]:
    """The axis along which a body runs is fixed; which one that is, from the front."""
    if tensor is None or not tensor.rank:
        return [], None
    axis %= tensor.rank
    return [Fixed(tensor[axis], "a Loop or Scan runs along it")], axis


def carried(
    starts: list[Tensor | None], body: Body, first: int, made: int, ends: list[Tensor | None]
) -> Iterator[Fact]:
    """A value that rounds hand on: what it starts as, is in the body, is after it, and ends as, are one."""
    for k, (start, end) in enumerate(zip(starts, ends, strict=False)):
        for other in (start, body.outputs[made + k], end):
            yield from tie(body.inputs[first + k], other)


@rule("If")
def if_(n: Call) -> Iterator[Fact]:
    """Each output is that of both branches; a branch that is never taken has no say where it differs."""
    for name, branch in n.bodies.items():
        for out, made in zip(n.outputs, branch.outputs, strict=True):
            if name not in n.dead or (out is not None and made is not None and out.shape == made.shape):
                yield from tie(out, made)


@rule("Loop")
def loop(n: Call) -> Iterator[Fact]:
    """What is carried is one value throughout; what is collected gets a new first axis."""
    body = n.bodies["body"]
    states = len(body.inputs) - 2
    yield from carried(list(n.inputs[2:]), body, 2, 1, list(n.outputs[:states]))
    for out, made in zip(n.outputs[states:], body.outputs[1 + states :], strict=False):
        facts, axis = steps(out, 0)
        yield from facts
        yield from tie(out, made, (axis, None))


@rule("Scan", since=9)
def scan(n: Call) -> Iterator[Fact]:
    """As Loop; what is scanned loses an axis in the body."""
    body, scanned = n.bodies["body"], int(n.attribute("num_scan_inputs"))
    states = len(n.inputs) - scanned
    yield from carried(list(n.inputs[:states]), body, 0, 0, list(n.outputs[:states]))
    for tensors, inner, name in (
        (n.inputs[states:], body.inputs[states:], "scan_input_axes"),
        (n.outputs[states:], body.outputs[states:], "scan_output_axes"),
    ):
        axes = n.attribute(name, (0,) * len(tensors))
        for tensor, part, along in zip(tensors, inner, axes, strict=False):
            facts, axis = steps(tensor, int(along))
            yield from facts
            yield from tie(tensor, part, (axis, None))
