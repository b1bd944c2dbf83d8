"""Hidden units go out of every gate, state and direction at once; the gates, directions and the time stay."""

from __future__ import annotations

import pytest

from onnxprune.testing import build, cut_sizes, theorem
from tests.rules.tables import Cuts, Refuses, each, prove, refuse

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def layer(op: str, attributes: str = "", operands: str = "", ways: int = 1, h: int = 5) -> str:
    """A recurrent layer of `h` units behind a matrix product that makes 6 features; x is time, batch, 3."""
    g = GATES[op]
    said = f"hidden_size={h}{', ' if attributes else ''}{attributes}"
    return (
        f"x[7,N,3] -> y; f = MatMul(x, F[3,6]);"
        f"o, s = {op}<{said}>(f, W[{ways},{g * h},6], R[{ways},{g * h},{h}]{operands})"
    )


def body(op: str) -> str:
    """What reads the sequence of a layer in one direction."""
    return layer(op, "", f", B[1,{2 * GATES[op] * 5}]") + "; q = Squeeze(o, {1}); y = MatMul(q, V[5,4])"


BOTH = "t = Transpose<perm=[0,2,1,3]>(o); r = Reshape(t, {0,0,-1}); y = MatMul(r, V[10,4])"

CUTS = [
    *(Cuts(f"{op} of one direction", body(op), {"F": 6, "W": 5}) for op in GATES),
    *(Cuts(f"{op} of two directions that are merged",
           layer(op, 'direction="bidirectional"', f", B[2,{2 * GATES[op] * 5}]", 2) + f"; {BOTH}", {"F": 6, "W": 5})
      for op in GATES),
    Cuts("GRU backwards without bias", layer("GRU", 'direction="reverse"') + "; q = Squeeze(o, {1});"
         "y = MatMul(q, V[5,4])", {"F": 6, "W": 5}),
    Cuts("GRU that is reset behind the product", layer("GRU", "linear_before_reset=1", ", B[1,30]")
         + "; q = Squeeze(o, {1}); y = MatMul(q, V[5,4])", {"F": 6, "W": 5}),
    Cuts("the last state alone", layer("GRU") + "; q = Squeeze(s, {0}); y = MatMul(q, V[5,4])", {"F": 6, "W": 5}),
    Cuts("LSTM with peepholes and lengths", layer("LSTM", "", ", B[1,40], L{7}:int32, _, _, P[1,15]").replace("N", "1")
         + "; q = Squeeze(o, {1}); y = MatMul(q, V[5,4])", {"F": 6, "W": 5}),
    Cuts("LSTM with coupled gates and a clip", layer("LSTM", "input_forget=1, clip=0.4", ", B[1,40]")
         + "; q = Squeeze(o, {1}); y = MatMul(q, V[5,4])", {"F": 6, "W": 5}),
    Cuts("LSTM with other activations", layer("LSTM", 'activations=["HardSigmoid", "Relu", "Tanh"]')
         + "; q = Squeeze(o, {1}); y = MatMul(q, V[5,4])", {"F": 6, "W": 5}),
    Cuts("LSTM whose states are weights", "x[7,2,3] -> y; o, s, c = LSTM<hidden_size=5>(x, W[1,20,3], R[1,20,5], _, _,"
         "H[1,2,5], C[1,2,5]); a = MatMul(s, U[5,4]); b = MatMul(c, V[5,4]); y = Add(a, b)", {"W": 5}),
    Cuts("LSTM whose states another layer makes", "x[7,N,3], z[1,N,3] -> y; i = MatMul(z, I[3,5]);"
         "j = MatMul(z, J[3,5]); o, s, c = LSTM<hidden_size=5>(x, W[1,20,3], R[1,20,5], _, _, i, j); a = Add(s, c);"
         "y = MatMul(a, V[5,4])", {"I": 5}),
    Cuts("two layers, and a skip that ties them", layer("GRU", h=6) + "; q = Squeeze(o, {1});"
         "o2 = GRU<hidden_size=6>(q, W2[1,18,6], R2[1,18,6]); q2 = Squeeze(o2, {1}); a = Add(q, q2);"
         "y = MatMul(a, V[6,4])", {"F": 6, "W": 6}),
    Cuts("a state that is an output of the graph is whole, the features before the layer are not",
         layer("GRU").replace("-> y", "-> s, y") + "; q = Squeeze(o, {1}); y = MatMul(q, V[5,4])", {"F": 6}),
    Cuts("a recurrence that is computed", "x[7,N,3] -> y; T = Transpose<perm=[0,2,1]>(R[1,5,15]);"
         "o = GRU<hidden_size=5>(x, W[1,15,3], T); q = Squeeze(o, {1}); y = MatMul(q, V[5,4])", {"R": 5}),
]  # fmt: skip

REFUSES = [
    Refuses("gates and directions", body("LSTM"), {"W.1": "the gates of LSTM", "R.1": "the gates of LSTM"}),
    Refuses("the time", "x[7,N,3] -> y; t = Transpose<perm=[1,2,0]>(x); f = MatMul(t, F[7,6]);"
            "g = Transpose<perm=[2,0,1]>(f); o = RNN<hidden_size=5>(g, W[1,5,3], R[1,5,5]); y = Identity(o)",
            {"F.1": "RNN walks along it"}),
    Refuses("a direction's axis", "x[7,N,3] -> y; o = GRU<hidden_size=5,direction=\"bidirectional\">"
            "(x, W[2,15,3], R[2,15,5]); m = Mul(o, M[2,1,1]); y = ReduceSum<keepdims=0>(m, {1})",
            {"W.0": "one index for each direction", "M.0": "step or direction"}),
]  # fmt: skip


@each(CUTS)
def test_cuts(case: Cuts) -> None:
    prove(case)


@each(REFUSES)
def test_refuses(case: Refuses) -> None:
    refuse(case)


@pytest.mark.parametrize("op", GATES)
def test_the_batch_may_come_first(op: str) -> None:
    """ONNX Runtime has no kernel for layout 1, so the facts are all that can be tested."""
    g = GATES[op]
    model = build(
        f"x[N,7,3] -> y; f = MatMul(x, F[3,6]); o, s = {op}<hidden_size=5,layout=1>(f, W[1,{g * 5},6], R[1,{g * 5},5]);"
        "q = Squeeze(o, {2}); y = MatMul(q, V[5,4])"
    )
    assert cut_sizes(model) == {"F": 6, "W": 5}


def test_the_hidden_size_is_corrected() -> None:
    shrunk = theorem(body("LSTM"), {"W": 2}).shrunk
    assert shrunk.nodes[1].attributes["hidden_size"] == 2
    assert shrunk.weights["W"].shape == (1, 8, 3)
    assert shrunk.weights["R"].shape == (1, 8, 2)
    assert shrunk.weights["B"].shape == (1, 16)
