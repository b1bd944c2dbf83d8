"""The shape of every tensor, and the value of every number that shape arithmetic makes.

Symbolic dimensions get example sizes, so that shapes are plain integers. A model with such dimensions is inferred
for two sets of sizes: what differs between the two is dynamic. onnx infers what it can for the whole graph at
once; where a shape depends on computed numbers, the numbers are computed and onnx is asked again for that node. What
flows into and out of the bodies of If, Loop and Scan is worked out in `control`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, TypeProto, helper, numpy_helper, shape_inference

from onnxprune.errors import ModelReadError, UsageError
from onnxprune.model.alone import Prober, apart
from onnxprune.model.contrib_shapes import infer_contrib
from onnxprune.model.control import flow
from onnxprune.model.inputs import symbol, symbols
from onnxprune.model.messages import dtype_of
from onnxprune.model.model import Model
from onnxprune.model.nesting import domain_of, graphs
from onnxprune.model.numbers import evaluate

__all__ = ["Shapes", "example_sizes", "infer", "recompute"]

Array: TypeAlias = npt.NDArray[Any]

NUMBER_LIMIT = 4096  # elements; a larger integer tensor is data, not a number
FLOAT_LIMIT = 16  # elements; a small float vector may be the scales of a Resize: its value is known to inference
BATCH = (11, 13)  # primes that nothing else is a multiple of, and no batch that a verification runs
_NUMBERS = tuple(np.dtype(t) for t in (np.int64, np.int32, np.bool_, np.float32, np.float64, np.float16))
LIKE_FIRST_INPUT = {"GroupNormalization", "MeanVarianceNormalization"}  # onnx infers no shapes for them
LADDERS = {2: ((17, 23), (128, 160), (512, 544)), 3: ((17, 23), (512, 544), (16000, 16160)),
           4: ((224, 256), (64, 96), (32, 64), (512, 544)), 5: ((32, 64), (112, 128))}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shapes:
    """What is known of every tensor by name: its shape (None: unknown), which axes are dynamic, its value."""

    shape: Mapping[str, tuple[int, ...] | None]
    dynamic: Mapping[str, tuple[bool, ...]]
    number: Mapping[str, Array]
    dynamic_number: Mapping[str, npt.NDArray[np.bool_]]
    dtype: Mapping[str, np.dtype[Any]]
    sizes: Mapping[str, int]  # the example size of each symbolic dimension
    other_sizes: Mapping[str, int]  # the sizes that the first ones were compared with


@dataclass(slots=True)
class _Run:
    types: dict[str, TypeProto]
    shape: dict[str, tuple[int, ...] | None]
    number: dict[str, Array]
    data: dict[str, Array]  # small float vectors, and what is computed from them: known to inference, no numbers
    idle: set[str]  # what branches make that are not taken
    derived: set[str]  # of the data, what is computed from numbers alone: integers made of it are numbers again


def infer(model: Model, sizes: Mapping[str, int] | None = None, prober: Prober | None = None) -> Shapes:
    """Infer shapes and numbers; `sizes` gives example sizes of symbolic dimensions by name.

    With a `prober`, a node that nobody has a schema for is run to see what it makes.

    Errors: `UsageError` for a name that is no symbolic dimension of the model.
    """
    dims = symbols(model)
    for name in sizes or {}:
        if name not in dims:
            raise UsageError(f"no symbolic dimension {name!r}: the model has {', '.join(sorted(dims)) or 'none'}")
    best: tuple[_Run, dict[str, int], list[dict[str, int]]] | None = None
    unknown = -1
    for first, others in _candidates(model, dims, sizes or {}):
        run = _infer_once(model, first, prober)
        missing = _missing(run)
        if best is None or missing < unknown:
            best, unknown = (run, first, others), missing
        if not missing:
            break
    assert best is not None
    run, first, others = best
    other, second = None, first
    for second in others:
        other = _infer_once(model, second, prober)
        if _missing(other) <= unknown:
            break
    return _compare(run, other if others else run, first, second)


def _missing(run: _Run) -> int:
    """How many tensors have no known shape, or one that says that the example sizes are too small."""
    shapes = (shape for name, shape in run.shape.items() if name not in run.idle)
    return sum(shape is None or min(shape, default=1) <= 0 for shape in shapes)


def _candidates(
    model: Model, dims: Mapping[str, tuple[str, int]], given: Mapping[str, int]
) -> list[tuple[dict[str, int], list[dict[str, int]]]]:
    """Example sizes to try, with what to compare each with: all dimensions changed, else the batch alone."""
    if not dims:
        return [({}, [])]
    ranks = {info.name: len(info.shape or ()) for info in model.inputs}
    rungs = max(len(LADDERS.get(ranks[name], LADDERS[4])) for name, _ in dims.values())
    tried: list[tuple[dict[str, int], list[dict[str, int]]]] = []
    for batch in (BATCH, (1, 1)):
        for rung in range(rungs):
            sets: tuple[dict[str, int], dict[str, int]] = ({}, {})
            for dim, (name, axis) in dims.items():
                ladder = LADDERS.get(ranks[name], LADDERS[4])
                pair = batch if axis == 0 else ladder[min(rung, len(ladder) - 1)]
                sets[0][dim], sets[1][dim] = (given[dim], 2 * given[dim]) if dim in given else pair
            others = [sets[1], sets[0] | {d: sets[1][d] for d, (_, axis) in dims.items() if axis == 0}]
            others = [other for other in others if other != sets[0]]
            if (sets[0], others) not in tried:
                tried.append((sets[0], others))
    return tried


def example_sizes(model: Model, batches: Sequence[int]) -> Iterator[list[dict[str, int]]]:
    """Rung by rung, sizes of symbolic dimensions that a model may take: one set for each batch, one of other lengths.

    First as the graph declares it; then an axis without a name behind axes of fixed sizes is a batch, too, as it is in
    the states of a recurrent network.
    """
    dims = symbols(model)
    first = [name for name, (_, axis) in dims.items() if axis == 0]
    stated = {info.name: info.shape or () for info in model.inputs}
    inner = [
        name for name, (tensor, axis) in dims.items()
        if axis and stated[tensor][axis] in (None, "", 0, -1)
        and all(isinstance(n, int) and n > 0 for n in stated[tensor][:axis])
    ]  # fmt: skip
    tried: list[list[dict[str, int]]] = []
    for free in (first, [*first, *inner]) if inner else (first,):
        for sizes, others in _candidates(model, dims, {}) if dims else ():
            chosen = [sizes | dict.fromkeys(free, batch) for batch in batches]
            chosen += [other | dict.fromkeys(free, batches[0]) for other in others[:1]]
            if chosen not in tried:
                tried.append(chosen)
                yield chosen


def _infer_once(model: Model, sizes: Mapping[str, int], prober: Prober | None) -> _Run:
    skeleton, number, data = _skeleton(model, sizes)
    try:
        inferred = shape_inference.infer_shapes(skeleton, data_prop=True).graph
    except (shape_inference.InferenceError, onnx.checker.ValidationError):
        inferred = skeleton.graph  # node by node below: what can be known is
    types = {v.name: v.type for g in graphs(inferred) for group in (g.input, g.value_info, g.output) for v in group}
    for tensor in inferred.initializer:
        types.setdefault(tensor.name, helper.make_tensor_type_proto(tensor.data_type, tensor.dims))
    run = _Run(types, {}, number, data, set(), set())
    for name, kind in types.items():
        run.shape[name] = _concrete(kind)
    _infer_graph(model, run, model.flat.frame.graph, prober)
    return run


def _infer_graph(model: Model, run: _Run, graph: onnx.GraphProto, prober: Prober | None) -> None:
    for node in graph.node:
        if not flow(run, node, lambda body: _infer_graph(model, run, body, prober)):
            _infer_node(model, run, node)
            if prober is not None and any(name and run.shape.get(name) is None for name in node.output):
                _infer_by_running(model, run, node, prober)


def _skeleton(model: Model, sizes: Mapping[str, int]) -> tuple[ModelProto, dict[str, Array], dict[str, Array]]:
    """The frame with sizes for symbols, weights as inputs, and small numbers as initializers."""
    skeleton = ModelProto()
    skeleton.CopyFrom(model.flat.frame)
    graph = skeleton.graph
    for depth, inner in enumerate(graphs(graph)):
        for stated in (inner.value_info, inner.sparse_initializer, *([inner.initializer] if depth else [])):
            del stated[:]
        for value in (*inner.output, *(inner.input if depth else ())):
            if value.type.WhichOneof("value") == "tensor_type":
                value.type.tensor_type.ClearField("shape")
    kept = [v for v in graph.input if v.name not in model.tensors]
    inputs = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in kept]
    del graph.input[:]
    for value in inputs:
        if value.type.WhichOneof("value") == "tensor_type" and value.type.tensor_type.HasField("shape"):
            for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                if not dim.HasField("dim_value") or dim.dim_value <= 0:
                    dim.dim_value = sizes[symbol(value.name, axis, dim.dim_param or None)]
        graph.input.append(value)
    number: dict[str, Array] = {}
    data: dict[str, Array] = {}
    for name, info in model.weights.items():
        elements = int(np.prod(info.shape, dtype=np.int64))
        small = elements <= (FLOAT_LIMIT if info.dtype.kind == "f" else NUMBER_LIMIT) and info.dtype in _NUMBERS
        if small:
            value = model.array(name)
            (number if _is_number(value) else data)[name] = value
        if info.constant_node is None:
            if small:
                graph.initializer.append(numpy_helper.from_array(value, name))
            else:
                stored = model.tensors.get(name)
                kind = int(helper.np_dtype_to_tensor_dtype(info.dtype)) if stored is None else stored.data_type
                graph.input.append(helper.make_tensor_value_info(name, kind, list(info.shape)))
    return skeleton, number, data


def _concrete(kind: TypeProto) -> tuple[int, ...] | None:
    if kind.WhichOneof("value") != "tensor_type" or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    return tuple(d.dim_value for d in dims) if all(d.HasField("dim_value") for d in dims) else None


def _infer_node(model: Model, run: _Run, node: onnx.NodeProto) -> None:
    """Compute the node's numbers, and its shapes where the whole-graph inference did not find them."""
    opset = model.opsets.get(domain_of(node.domain), 1)
    values = _node_values(run, node, opset)
    if values is not None:
        pure = not any(name in run.data and name not in run.derived for name in node.input)
        for name, value in zip(node.output, values, strict=False):
            if name and _is_known(value):
                (run.number if pure and _is_number(value) else run.data)[name] = value
                if pure:
                    run.derived.add(name)
                run.shape[name] = value.shape
                run.types[name] = helper.make_tensor_type_proto(
                    helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
                )
    if any(name and run.shape.get(name) is None for name in node.output):
        _infer_outputs(run, node, opset)


def _node_values(run: _Run, node: onnx.NodeProto, opset: int) -> list[Array] | None:
    if node.op_type in ("Shape", "Size") and node.domain in ("", "ai.onnx"):
        shape = run.shape.get(node.input[0])
        return None if shape is None else [_shape_value(node, shape)]
    inputs = [run.number.get(name, run.data.get(name)) if name else None for name in node.input]
    if not inputs or any(value is None and name for name, value in zip(node.input, inputs, strict=True)):
        return None
    return evaluate(node, inputs, opset)


def _shape_value(node: onnx.NodeProto, shape: tuple[int, ...]) -> Array:
    if node.op_type == "Size":
        return np.asarray(int(np.prod(shape, dtype=np.int64)), dtype=np.int64)
    bounds = {a.name: a.i for a in node.attribute}
    return np.asarray(shape[slice(bounds.get("start"), bounds.get("end"))], dtype=np.int64)


def _is_known(value: Array) -> bool:
    return value.size <= (FLOAT_LIMIT if value.dtype.kind == "f" else NUMBER_LIMIT) and value.dtype in _NUMBERS


def _is_number(value: Array) -> bool:
    """Integers and truth values count things; of floats only a single one does, a vector may be a weight."""
    return value.dtype.kind in "ib" or value.size <= 1


def _infer_outputs(run: _Run, node: onnx.NodeProto, opset: int) -> None:
    for name in node.output:
        run.shape.setdefault(name, None)
    if node.op_type in LIKE_FIRST_INPUT and domain_of(node.domain) == "" and node.input[0] in run.types:
        run.types[node.output[0]] = run.types[node.input[0]]
        run.shape[node.output[0]] = run.shape[node.input[0]]
        return
    if not onnx.defs.has(node.op_type, opset, domain_of(node.domain)):
        for name, kind in infer_contrib(node, run.types).items():
            run.types[name], run.shape[name] = kind, _concrete(kind)
        return
    schema = onnx.defs.get_schema(node.op_type, opset, domain_of(node.domain))
    types = {name: run.types[name] for name in node.input if name in run.types}
    if any(name and name not in types for name in node.input):
        return
    known = {name: run.number.get(name, run.data.get(name)) for name in node.input}
    data = {name: numpy_helper.from_array(value, name) for name, value in known.items() if value is not None}
    try:
        made = shape_inference.infer_node_outputs(schema, node, types, data)
    except (shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError):
        return  # what onnx cannot infer stays unknown: a fact, no failure
    for name, kind in made.items():
        run.types[name] = kind
        run.shape[name] = _concrete(kind)


def _infer_by_running(model: Model, run: _Run, node: onnx.NodeProto, prober: Prober) -> None:
    """The types of what a node makes that no schema tells."""
    opset = model.opsets.get(domain_of(node.domain), 1)
    if onnx.defs.has(node.op_type, opset, domain_of(node.domain)):
        return
    dtypes = {n: dtype_of(run.types[n].tensor_type.elem_type) for n in node.input if n in run.types}
    alone = apart(model, node, run.shape, dtypes, run.number)
    for k, (dtype, shape) in ({} if alone is None else prober.outputs(alone)).items():
        name = node.output[k]
        run.shape[name] = shape
        run.types[name] = helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(dtype), shape)


def _compare(first: _Run, second: _Run | None, sizes: Mapping[str, int], others: Mapping[str, int]) -> Shapes:
    """What differs between two runs is dynamic; a tensor that the second run does not know is dynamic throughout."""
    dynamic: dict[str, tuple[bool, ...]] = {}
    dynamic_number: dict[str, npt.NDArray[np.bool_]] = {}
    for name, shape in first.shape.items():
        if shape is None:
            continue
        other = first.shape[name] if second is None or second is first else second.shape.get(name)
        if other is not None and len(other) == len(shape):
            dynamic[name] = tuple(a != b for a, b in zip(shape, other, strict=True))
        else:
            dynamic[name] = (True,) * len(shape)
    for name, number in first.number.items():
        value = number if second is None or second is first else second.number.get(name)
        if value is not None and value.shape == number.shape:
            dynamic_number[name] = np.asarray(value != number)
        else:
            dynamic_number[name] = np.ones(number.shape, dtype=np.bool_)
    dtypes = {name: dtype_of(kind.tensor_type.elem_type) for name, kind in first.types.items()}
    return Shapes(first.shape, dynamic, first.number, dynamic_number, dtypes, dict(sizes), dict(others))


def recompute(model: Model, index: int, inputs: list[Array | None]) -> Array:
    """The first output of node `index` for other numbers than those it was inferred with.

    Errors: `ModelReadError` where the node cannot be run alone (it could before, so this is not expected).
    """
    node = model.protos[index]
    values = evaluate(node, inputs, model.opsets.get(domain_of(node.domain), 1))
    if values is None:
        raise ModelReadError(f"cannot compute {node.op_type} {node.name!r} of the model's shape arithmetic")
    return values[0]
