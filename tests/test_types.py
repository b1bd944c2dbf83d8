"""Element types make no difference to what can be pruned: half and double floats, integers with scales, all of them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxprune import cut
from onnxprune.dependency import analyse
from onnxprune.errors import VerificationFailed
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.quantization import along
from onnxprune.testing import build, cut_sizes, random_keep, theorem
from onnxprune.trials import feeds_for
from onnxprune.verification import Verifier
from onnxprune.weights import Weights, parameters
from tests.rules.tables import Cuts, each, prove
from tools.variants import FORMS, feeds_of, variant

FLOATS = [
    Cuts("float16 convolutions", "x[N,3,6,6]:float16 -> y; h = Conv(x, W[8,3,3,3]:float16, B[8]:float16);"
         "r = Relu(h); y = Conv(r, V[4,8,1,1]:float16)", {"W": 8}),
    Cuts("float16 products of activations", "x[N,5,6]:float16 -> y; q = MatMul(x, Q[6,8]:float16);"
         "k = MatMul(x, K[6,8]:float16); t = Transpose<perm=[0,2,1]>(k); y = MatMul(q, t)", {"Q": 8}),
    Cuts("float16 weights that are cast", "x[N,5] -> y; w = Cast<to=1>(W[5,8]:float16); h = MatMul(x, w);"
         "v = Cast<to=1>(V[8,4]:float16); y = MatMul(h, v)", {"W": 8}),
    Cuts("float64", "x[N,5]:double -> y; h = MatMul(x, W[5,8]:double); r = Sigmoid(h); y = Gemm(r, V[8,4]:double)",
         {"W": 8}),
    Cuts("float64 products of activations", "x[N,5,6]:double -> y; q = MatMul(x, Q[6,8]:double);"
         "k = MatMul(x, K[6,8]:double); t = Transpose<perm=[0,2,1]>(k); y = MatMul(q, t)", {"Q": 8}),
    Cuts("bfloat16 weights that are cast", "x[N,5] -> y; w = Cast<to=1>(W[5,8]:bfloat16); h = MatMul(x, w);"
         "v = Cast<to=1>(V[8,4]:bfloat16); y = MatMul(h, v)", {"W": 8}),
    Cuts("bfloat16 activations that are summed", "x[N,5] -> y; h = MatMul(x, W[5,8]); c = Cast<to=16>(h);"
         "d = Cast<to=1>(c); y = ReduceSum(d, {1})", {"W": 8}),
    Cuts("integers that are summed", "x[N,5]:int32 -> y; h = MatMul(x, W[5,8]:int32); y = ReduceSum(h, {1})", {}),
]  # fmt: skip

TWINS = [  # a float model, the same one quantized, and by how much the share that stays may differ
    ("cifar10_mlperf_resnet8", "cifar10_mlperf_resnet8_int8_qdq", 0.01),
    ("mobilenet_v1_0.25_128", "mobilenet_v1_0.25_128_uint8_qdq", 0.01),
    ("mobilenet_v2_1.0_224", "mobilenet_v2_1.0_224_uint8_qdq", 0.01),
    ("deeplabv3_mnv2_dm05_pascal", "deeplabv3_mnv2_dm05_pascal_uint8_qdq", 0.01),
]


@each(FLOATS)
def test_every_float_type_is_cut(case: Cuts) -> None:
    prove(case)


@pytest.mark.parametrize("kind", ["double", "bfloat16"])
def test_a_type_that_onnx_runtime_lacks_is_said_so(kind: str) -> None:
    """The original itself does not run: that is the message, not a crash and not a blamed group."""
    model = build(f"x[N,3,6,6]:{kind} -> y; h = Conv(x, W[8,3,3,3]:{kind}); y = Conv(h, V[4,8,1,1]:{kind})")
    assert cut_sizes(model) == {"W": 8}
    analysis = analyse(model)
    plan = Plan.of(analysis.groups, random_keep(analysis.groups))
    with (
        Verifier(analysis, feeds_for(model, analysis.shapes.sizes)) as verifier,
        pytest.raises(VerificationFailed, match=r"original model .* does not run"),
    ):
        verifier.check(plan)


@pytest.mark.parametrize(("real", "quantized", "margin"), TWINS, ids=[twin[1] for twin in TWINS])
def test_a_quantized_model_is_cut_as_far_as_its_float_twin(
    assets: Path, real: str, quantized: str, margin: float
) -> None:
    """The groups have the same sizes, what stays is the same share, and the integers agree to the last bit."""
    ratios = []
    for name in (real, quantized):
        model = Model.load(assets / "models" / f"{name}.onnx")
        analysis = analyse(model)
        shrunk = cut.shrink(analysis, Plan.of(analysis.groups, random_keep(analysis.groups)))
        ratios.append(parameters(shrunk) / parameters(model))
    assert ratios[1] == pytest.approx(ratios[0], abs=margin)
    assert theorem(model, batches=(1,)).max_error == 0.0


def test_a_half_precision_model_is_cut(assets: Path) -> None:
    """SqueezeNet in float16, whose initializers are graph inputs as well."""
    proof = theorem(Model.load(assets / "models" / "squeezenet_fp16.onnx"), batches=(1,))
    assert len(proof.sizes) == 25


@pytest.mark.parametrize("form", FORMS)
def test_a_resnet_in_every_form_is_cut_as_far(models: Path, form: str) -> None:
    """ResNet-20 as ONNX Runtime's optimisers and quantizers leave it: the same groups, the same share."""
    model = onnx.load(models / "cifar10_resnet20.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = variant(model, form, feeds_of(model))
    whole, other = Model.from_proto(model), Model.from_proto(made)
    assert sorted(cut_sizes(other).values()) == sorted(cut_sizes(whole).values())
    proof = theorem(other)
    assert parameters(proof.shrunk) / parameters(other) == pytest.approx(
        parameters(theorem(whole).shrunk) / parameters(whole), abs=0.02
    )


def test_weights_of_every_quantized_operator_are_judged_by_their_real_values() -> None:
    """(stored - zero point) * scale, along the axis that the operator gives them; without a scale, as it stands."""
    model = build("""
        x[N,6] -> y
        p, s, z = DynamicQuantizeLinear(x)
        a = MatMulInteger(p, W[6,8]:int8, z, Z[8]:int8)
        f = Cast<to=1>(a)
        q = QuantizeLinear(f, 0.5, 3:uint8)
        g = com.microsoft.QGemm<transB=1>(q, 0.5, 3:uint8, V[4,8]:int8, S[4], T[4]:int8)
        y = Relu(g)
    """)
    weights, array = Weights(model), model.array
    np.testing.assert_array_equal(weights.real("W"), array("W").astype(np.float32) - array("Z"))
    expected = (array("V").astype(np.float32) - array("T")[:, None]) * array("S")[:, None]
    np.testing.assert_array_equal(weights.real("V"), expected)


def test_blocks_run_along_their_axis() -> None:
    """One value for each block is repeated for its indices; the last block may be a part."""
    assert along(np.array([[1.0], [2.0]]), (3, 1), 0).tolist() == [[1], [1], [2]]
