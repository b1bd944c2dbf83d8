"""Which N:M holds, on which axis, and what TensorRT's rule says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import onnxprune
from onnxprune.dependency import analyse
from onnxprune.model import Edit
from onnxprune.sparsity import sparsity_of
from onnxprune.testing import build
from tests.commands import Commands

NET = "x[N,8,4,4] -> y\na = Conv(x, A[8,8,3,3])\nf = Flatten(a)\nb = MatMul(f, B[32,6])\ny = Gemm(b, C[6,4])"


def test_zeros_are_counted_and_axes_told_apart() -> None:
    model, rows = build(NET), np.arange(8)
    edit = Edit(model)
    a = model.array("A").copy()
    a[:, rows % 4 >= 2] = 0  # inputs 2, 3, 6 and 7 of every output
    a[5] = 0
    b = model.array("B").copy()
    b[:, [1, 2, 3]] = 0  # outputs of the product: its inputs are dense
    edit.replace("A", a)
    edit.replace("B", b)
    first, second, third = sparsity_of(analyse(edit.done()))
    assert first.zeros == 1 - (a != 0).mean()
    assert (first.outputs, first.inputs, first.kernels) == (1 / 8, 0.5, 36 / 64)
    assert (first.along_inputs, first.along_outputs) == (("2:4", "4:8"), ("7:8",))
    assert first.tensorrt
    assert (second.along_inputs, second.along_outputs) == ((), ("2:4",))
    assert second.why_not == "4 of 4 inputs are not zero"
    assert third.why_not == "6 inputs are no multiple of 4"


def test_a_masked_model_is_found_to_be_so(onnxprune: Commands, desk: Path) -> None:
    build(NET).save("m.onnx")
    assert onnxprune("prune", "m.onnx", "-o", "o.onnx", "--granularity", "2:4", "--rounds", 0).code == 0
    ran = onnxprune("inspect", "o.onnx", "--sparsity")
    assert ran.code == 0
    assert ran.out.count("2:4") >= 3
    assert "TensorRT" not in onnxprune("inspect", "o.onnx").out


def test_in_python(models: Path) -> None:
    found = onnxprune.inspect(models / "cifar10_resnet20.onnx", sparsity=True).sparsity
    assert len(found) == 20
    assert not any(layer.tensorrt for layer in found)
