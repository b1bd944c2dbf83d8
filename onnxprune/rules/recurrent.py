"""Recurrent layers: the hidden units are one group, in every gate, in both directions and in the states.

A unit that goes is read by the recurrence, which the mask silences in R, and by whoever reads the outputs, who
silence it themselves. Its own gates and its peepholes make only its own state, so nothing else depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.dimensions import Atom, Dimension
from onnxprune.rules.call import Call, Tensor, merged
from onnxprune.rules.facts import Attribute, Counts, Fact, Fixed, Reads, Same, Work
from onnxprune.rules.registry import rule

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@rule("RNN", "GRU", "LSTM")
def recurrent(n: Call) -> Iterator[Fact]:
    """W[1] and R[1] are gates x h, B[1] is 2 x gates x h, P[1] is 3 x h, R[2] and all states are h; h is contracted.

    With layout 1 the batch stands before the time, and before the direction in the states.
    """
    x, w, r = n.x, n.inputs[1], n.inputs[2]
    assert w is not None
    assert r is not None
    units, gates = r[2], GATES[n.op_type]
    time, batch = (1, 0) if n.attribute("layout", 0) else (0, 1)
    yield Fixed(x[time], f"{n.op_type} walks along it")
    yield Same(x[2], w[2])
    for tensor, factor in ((w, gates), (r, gates), (n.input(3), 2 * gates), (n.input(7), 3)):
        if tensor is not None:
            yield from _stacked(tensor, n.new(factor), units, n.op_type)
    if (lengths := n.input(4)) is not None:
        yield Same(lengths[0], x[batch])
    for state in (*n.outputs, n.input(5), n.input(6)):
        if state is not None:
            yield from _state(state, x[batch], state.rank - 2 if batch else 0, units)
    yield Counts(Attribute("hidden_size"), (units,))
    yield Reads(1, 2)
    yield Reads(2, 2)
    steps = gates * w.shape[0] * x.shape[time] * (1 if x.dynamic[batch] else x.shape[batch])
    yield Work(steps, (units, w[2]))
    yield Work(steps, (units, r[2]))


def _stacked(tensor: Tensor, gates: Atom, units: Dimension, op_type: str) -> Iterator[Fact]:
    """Axis 0 is the direction, axis 1 holds one block of units for each gate."""
    yield Fixed(tensor[0], "one index for each direction")
    yield Same(tensor[1], merged(gates, units))
    yield Fixed(gates, f"the gates of {op_type}")


def _state(tensor: Tensor, batch: Atom, batch_axis: int, units: Atom) -> Iterator[Fact]:
    """The last axis is the units; those beside the batch are the direction and, in the output Y, the time."""
    *leading, last = tensor.dims
    yield Same(last, units)
    yield Same(leading.pop(batch_axis), batch)
    yield from (Fixed(dim, "one index for each step or direction") for dim in leading)
