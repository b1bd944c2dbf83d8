"""Numbers that share a byte are judged by what the operator that reads them makes of them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from onnxprune.criteria.evidence import Evidence
from onnxprune.criteria.registry import score
from onnxprune.dependency import analyse
from onnxprune.model import Model
from onnxprune.quantization import unpacked
from onnxprune.runtime.session import Session
from onnxprune.testing import build
from onnxprune.weights import Weights, nonzeros, parameters

MS = "com.microsoft"


def product(bits: int, points: str, scales: str = "S[6]") -> Model:
    """A product of the unit matrix with a packed weight, so that the output is the weight."""
    return build(
        f"x[32,32] -> y; y = {MS}.MatMulNBits<K=32,N=3,bits={bits},block_size=16>"
        f"(x, W[3,2,{16 * bits // 8}]:uint8, {scales}{points})"
    )


@pytest.mark.parametrize(
    ("bits", "points", "scales"),
    [(2, "", "S[6]"), (4, "", "S[6]"), (8, "", "S[3,2]"), (4, ", Z[3]:uint8", "S[6]"), (4, ", Z[3,1]:uint8", "S[3,2]"),
     (8, ", Z[6]:uint8", "S[6]"), (2, ", Z[3]:uint8", "S[3,2]"), (4, ", Z[6]", "S[6]")],
)  # fmt: skip
def test_a_packed_weight_is_what_the_runtime_multiplies_with(bits: int, points: str, scales: str) -> None:
    """(stored - zero point) * scale, the lowest bits first; around the middle where there is no zero point."""
    model = product(bits, points, scales)
    ran = Session(model.to_bytes()).run({"x": np.eye(32, dtype=np.float32)})["y"]
    real = Weights(model).real("W")
    assert real.shape == (3, 2, 16 * bits // 8, 8 // bits)
    np.testing.assert_allclose(real.reshape(3, 32), ran.T, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("data", "points", "bits"),
    [("E[9,16]:uint8", "", 4), ("E[9,16]:uint8", ", Z[9,1]:uint8", 4), ("E[9,32]:uint8", "", 8),
     ("E[9,32]:uint4", "", 4)],
)  # fmt: skip
def test_a_packed_table_is_what_the_runtime_picks(data: str, points: str, bits: int) -> None:
    """Rows of GatherBlockQuantized, in bytes and in an integer type of their own."""
    model = build(
        f"i[9]:int64 -> y; y = {MS}.GatherBlockQuantized<quantize_axis=1,block_size=16,bits={bits}>"
        f"({data}, i, S[9,2]{points})"
    )
    ran = Session(model.to_bytes()).run({"i": np.arange(9)})["y"]
    np.testing.assert_allclose(Weights(model).real("E").reshape(9, 32), ran, rtol=1e-6, atol=1e-6)


def test_numbers_of_three_bits() -> None:
    """They go on from one byte to the next."""
    assert unpacked(np.asarray([0b10001000, 0b11000110, 0b11111010], np.uint8), 3).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_a_row_at_the_zero_point_scores_zero() -> None:
    """What the bytes look like does not matter: 0x88 is eight twice, which stands for 0."""
    model = build(
        f"x[N,32] -> y; h = {MS}.MatMulNBits<K=32,N=3,bits=4,block_size=16>(x, W[3,2,8]:uint8, S[6]);"
        "y = MatMul(h, V[3,2])"
    )
    stored = model.array("W").copy()
    stored[1] = 0x88
    proto = model.to_proto()
    (tensor,) = (t for t in proto.graph.initializer if t.name == "W")
    tensor.CopyFrom(numpy_helper.from_array(stored, "W"))
    model = Model.from_proto(proto)
    analysis = analyse(model)
    (group,) = analysis.groups
    assert not Weights(model).real("W")[1].any()
    scores = score(Evidence(analysis), "l2").values[group.atom.id]
    assert scores[1] == scores.min()
    assert nonzeros(model) < parameters(model)
