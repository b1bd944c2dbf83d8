"""Makes of a float model what users have: after ONNX Runtime's own optimisers, or quantized in one of its ways.

    python tools/variants.py FORM MODEL.onnx OUT.onnx

FORM is one of

    extended    what the optimisers write at level "extended": FusedConv, BiasGelu, SkipLayerNormalization, Attention
    all         everything but the blocked layout of convolutions
    dynamic     weights in 8 bits, activations quantized as they come
    qdq         QuantizeLinear and DequantizeLinear around everything, ranges taken from random inputs
    qoperator   QLinearConv and its like
    qdq-all     qdq, and then all

A symbolic dimension is taken as 2 where ranges are measured.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

__all__ = ["FORMS", "variant"]

FORMS = ("extended", "all", "dynamic", "qdq", "qoperator", "qdq-all")
Feed = Mapping[str, Any]


def variant(model: onnx.ModelProto, form: str, feeds: Sequence[Feed]) -> onnx.ModelProto:
    """The model in another form; `feeds` are the inputs on which ranges are measured."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "given.onnx"), Path(folder, "made.onnx")
        onnx.save(model, given)
        if form in ("extended", "all"):
            _optimise(given, made, form)
        elif form == "dynamic":
            _quantize_dynamic(given, made)
        else:
            _quantize_static(given, made, form, feeds)
        result = onnx.load(made)
        return variant(result, "all", feeds) if form == "qdq-all" else result


def _optimise(given: Path, made: Path, form: str) -> None:
    options = ort.SessionOptions()
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_EXTENDED if form == "extended" else level.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(made)
    options.log_severity_level = 4
    disabled = ["NchwcTransformer"]
    ort.InferenceSession(given, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled)


def _quantize_dynamic(given: Path, made: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)
    quantize_dynamic(given, made, per_channel=True)


def _quantize_static(given: Path, made: Path, form: str, feeds: Sequence[Feed]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(feeds)

        def get_next(self) -> Feed | None:
            return next(self.left, None)

    logging.getLogger().setLevel(logging.ERROR)
    quantize_static(
        given,
        made,
        Reader(),
        quant_format=QuantFormat.QOperator if form == "qoperator" else QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )


def feeds_of(model: onnx.ModelProto) -> list[dict[str, Any]]:
    """Two random inputs."""
    weights = {t.name for t in model.graph.initializer}
    feeds = []
    for seed in range(2):
        random = np.random.default_rng(seed)
        feed = {}
        for value in model.graph.input:
            if value.name not in weights:
                shape = [d.dim_value or 2 for d in value.type.tensor_type.shape.dim]
                dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
                made = random.standard_normal(shape) if dtype.kind == "f" else random.integers(0, 2, shape)
                feed[value.name] = made.astype(dtype)
        feeds.append(feed)
    return feeds


def main(arguments: Sequence[str]) -> int:
    """Write a variant."""
    if len(arguments) != 3 or arguments[0] not in FORMS:
        print(__doc__, file=sys.stderr)
        return 2
    model = onnx.load(arguments[1])
    onnx.save(variant(model, arguments[0], feeds_of(model)), arguments[2])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
