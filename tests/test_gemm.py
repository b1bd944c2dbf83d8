"""MatMul written as Gemm: the same function for every rank and every batch, weights untouched, and proven."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxprune
from onnxprune.dependency import analyse
from onnxprune.gemm import with_gemms
from onnxprune.model import Model
from onnxprune.runtime.session import Session
from onnxprune.testing import build

CASES = {
    "matrix": "x[N,12] -> y; y = MatMul(x, A[12,8])",
    "matrix and bias": "x[N,12] -> y; h = MatMul(x, A[12,8]); y = Add(h, b[8])",
    "bias first, a row": "x[N,12] -> y; h = MatMul(x, A[12,8]); y = Add(b[1,8], h)",
    "batch of rows": "x[N,5,12] -> y; h = MatMul(x, A[12,8]); y = Add(h, b[8])",
    "two dynamic axes": "x[N,S,12] -> y; h = MatMul(x, A[12,8]); r = Relu(h); y = MatMul(r, B[8,4])",
    "four axes": "x[N,3,5,12] -> y; h = MatMul(x, A[12,8]); y = Relu(h)",
    "read twice": "x[N,5,12] -> y; h = MatMul(x, A[12,8]); a = Add(h, b[8]); y = Mul(a, h)",
    "moved weight": "x[N,5,12] -> y; t = Transpose(A[8,12]); y = MatMul(x, t)",
}


@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
def test_it_is_the_same_function(text: str) -> None:
    """At batches 1 and 4; a bias with one reader of the product goes into the Gemm, weights stay byte for byte."""
    model = build(text)
    found = with_gemms(analyse(model))
    assert len(found.made) == text.count("MatMul")
    assert not any(node.op_type == "MatMul" for node in found.model.nodes)
    assert any(node.op_type == "Add" for node in found.model.nodes) == ("Mul(a, h)" in text)
    for name in ("A", "b", "B"):
        if name in model.weights:
            np.testing.assert_array_equal(found.model.array(name), model.array(name))
    before, after = Session(model.to_bytes()), Session(found.model.to_bytes())
    for batch in (1, 4):
        sizes = [{"N": batch, "S": 7}.get(str(size), size) for size in model.inputs[0].shape or ()]
        feed = {"x": np.random.default_rng(0).normal(size=sizes).astype(np.float32)}  # type: ignore[arg-type]
        np.testing.assert_allclose(after.run(feed)["y"], before.run(feed)["y"], rtol=1e-5, atol=1e-6)


def test_what_is_no_gemm_stays() -> None:
    """A weight on the left, a stack of matrices, an Add of more than a row; each is told or left as it is."""
    found = with_gemms(analyse(build("x[N,4,12] -> y; h = MatMul(x, A[4,12,8]); r = Relu(h); k = MatMul(r, B[8,8])\n"
                                     "y = Add(k, b[4,8])")))  # fmt: skip
    assert list(found.left.values()) == ["its weight is no matrix on the right"]
    assert [node.op_type for node in found.model.nodes] == ["MatMul", "Relu", "Reshape", "Gemm", "Reshape", "Add"]
    old = build("x[N,4] -> y; y = MatMul(x, A[4,4])", opset=9)
    assert "before opset 11" in next(iter(with_gemms(analyse(old)).left.values()))


@pytest.mark.parametrize("form", ["2:4", "element"])
def test_masked_rewritten_and_proven(form: str, desk: Path) -> None:
    """The file is proven again, with what died removed as well; without the option nothing is rewritten."""
    build("x[N,5,12] -> y; h = MatMul(x, A[12,16]); a = Add(h, b[16]); r = Relu(a); y = MatMul(r, B[16,8])").save(
        "m.onnx"
    )
    options: dict[str, Any] = {"granularity": form, "rounds": 0, **({"sparsity": 0.8} if form == "element" else {})}
    result = onnxprune.prune("m.onnx", "o.onnx", matmul_to_gemm=True, **options)
    assert result.report.verified
    assert "2 MatMul became Gemm" in result.report.notes
    assert {node.op_type for node in Model.load("o.onnx").nodes} == {"Reshape", "Gemm", "Relu"}
    assert onnxprune.verify("m.onnx", "o.onnx").passed
    plain = onnxprune.prune("m.onnx", **options)
    assert sum(node.op_type == "MatMul" for node in plain.model.nodes) == 2


def test_a_language_model(assets: Path, tmp_path: Path) -> None:
    """All 36 products of a Llama, two dynamic axes: verified, and the batch is still free."""
    source, out = assets / "models" / "stories260k_llama.onnx", tmp_path / "o.onnx"
    made = onnxprune.prune(source, out, granularity="2:4", permute="off", matmul_to_gemm=True, rounds=0)
    assert sum(node.op_type == "Gemm" for node in made.model.nodes) == 36
    assert made.report.verified
    assert onnxprune.verify(source, out).passed
