"""A model from a few lines of text: ONNX's own textual nodes, with weights and constants where they are read."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser, shape_inference

from onnxprune.errors import UsageError
from onnxprune.model.model import Model

__all__ = ["from_text"]

_OPERAND = re.compile(
    r"(?P<name>[A-Za-z_][\w.]*)?(?P<values>\{[^}]*\}|[-+]?[\d.][\w.+-]*)?(?P<shape>\[[^\]]*\])?(:(?P<type>\w+))?"
)
_NODE = re.compile(r"(?P<head>.*)\((?P<operands>[^()]*)\)", re.DOTALL)
_COMMA = re.compile(r",(?![^{\[]*[}\]])")
_DOMAIN = re.compile(r"=\s*((?:[A-Za-z_]\w*\.)+)[A-Za-z_]\w*\s*(?:<|$)")


@dataclass(slots=True)
class _Text:
    """What is found in a text while its operands are read."""

    seed: int
    tensors: dict[str, TensorProto] = field(default_factory=dict)
    nodes: list[str] = field(default_factory=list)
    domains: set[str] = field(default_factory=set)


def from_text(text: str, opset: int = 17, ir_version: int = 8, seed: int = 0) -> Model:
    """The model that `text` writes down; see `onnxprune.testing.build` for the notation. `UsageError` where it errs."""
    first, *statements = [line.strip() for line in re.split(r"[;\n]", text) if line.strip()]
    found = _Text(seed)
    inputs, _, outputs = first.partition("->")
    for statement in statements:
        _statement(statement, found)
    signature = ", ".join(_declared(one.strip()) for one in _COMMA.split(inputs) if one.strip())
    results = ", ".join(f"float {name.strip()}" for name in outputs.split(","))
    try:
        graph = parser.parse_graph(f"test ({signature}) => ({results}) {{ {' '.join(found.nodes)} }}")
    except parser.ParseError as error:
        raise UsageError(f"not a graph: {error}") from error
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in sorted(found.domains))]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    model.graph.initializer.extend(found.tensors.values())
    if ir_version < 4:  # every initializer of such a model is a graph input as well
        model.graph.input.extend(
            helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in found.tensors.values()
        )
    _type_outputs(model)
    return Model.from_proto(model, source="<text>")


def _statement(statement: str, found: _Text) -> None:
    """Read one node: its operands are replaced by names, the rest is ONNX's own notation."""
    match = _NODE.fullmatch(statement)
    if match is None:
        raise UsageError(f"not a node: {statement!r}; expected 'y = Operator<attribute=1>(x, W[8,3])'")
    names = [_operand(one.strip(), found) for one in _COMMA.split(match["operands"])]
    found.nodes.append(f"{match['head']}({', '.join(names)})")
    domain = _DOMAIN.search(match["head"].replace("<", " <", 1))
    if domain is not None:
        found.domains.add(domain[1].rstrip("."))


def _operand(text: str, found: _Text) -> str:
    """The name of an operand; a weight or a constant that is written out becomes an initializer."""
    match = _OPERAND.fullmatch(text)
    if match is None:
        raise UsageError(
            f"not an operand: {text!r}; expected x, W[8,3], W[8,3]:int8, {{1,2}}, N{{1,2}}, 0.5 or 0:uint8"
        )
    if not text or (match["values"] is None and match["shape"] is None):
        return "" if text == "_" else text
    name = match["name"] or f"constant{len(found.tensors)}"
    shape = None if match["shape"] is None else _integers(match["shape"])
    if match["values"] is None:
        assert shape is not None
        array = _filled(name, shape, _dtype(match["type"] or "float"), found.seed)
    else:
        array = _written(match["values"], match["type"])
        array = array if shape is None else array.reshape(shape)
    found.tensors[name] = numpy_helper.from_array(array, name)
    return name


def _integers(text: str) -> list[int]:
    return [int(one) for one in text[1:-1].split(",") if one.strip()]


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(name.upper())))


def _written(text: str, kind: str | None) -> npt.NDArray[Any]:
    """`{1,2}` has one axis, `1` none; without a type whole numbers are int64, others float."""
    listed = text.startswith("{")
    written = [one.strip() for one in (text[1:-1] if listed else text).split(",") if one.strip()]
    whole = not re.search(r"[.ein]", text)
    values = [int(one) if whole else float(one) for one in written]
    array = np.asarray(values if listed else values[0], dtype=np.int64 if whole else np.float64)
    return array.astype(_dtype(kind or ("int64" if whole else "float")))


def _filled(name: str, shape: list[int], dtype: np.dtype[Any], seed: int) -> npt.NDArray[Any]:
    """Random values that depend on the name, the shape and the seed alone, and keep activations in a sane range."""
    random = np.random.default_rng([zlib.crc32(name.encode()), seed])
    if dtype.kind in "iu":
        high = 100 if dtype.itemsize == 1 else 2
        return random.integers(-high if dtype.kind == "i" and dtype.itemsize == 1 else 0, high, shape).astype(dtype)
    if len(shape) < 2:
        return random.uniform(0.5, 1.5, shape).astype(dtype)
    fan = max(1, int(np.prod(shape)) // max(shape[0], shape[-1], 1))
    normal: npt.NDArray[Any] = random.standard_normal(shape) / np.sqrt(fan)
    return normal.astype(dtype)


def _declared(text: str) -> str:
    """`x[N,3]:int64` as ONNX writes it, `int64[N,3] x`."""
    match = _OPERAND.fullmatch(text)
    if match is None or not match["name"]:
        raise UsageError(f"not an input: {text!r}; expected 'x[N,3,8,8]' or 'ids[N,7]:int64'")
    return f"{match['type'] or 'float'}{match['shape'] or ''} {match['name']}"


def _type_outputs(model: ModelProto) -> None:
    """Give the outputs the types that onnx infers, and let it check the model on the way."""
    bare = ModelProto()
    bare.CopyFrom(model)
    for value in bare.graph.output:
        value.ClearField("type")
    inferred = shape_inference.infer_shapes(bare)
    for value, typed in zip(model.graph.output, inferred.graph.output, strict=True):
        if typed.type.WhichOneof("value") is not None:
            value.CopyFrom(typed)
        else:
            value.type.tensor_type.ClearField("shape")
