"""Shape arithmetic on known numbers: what exporters compute with Shape, Gather, Mul, Concat and the like.

The operators that occur thousands of times in one exported model have a line of numpy here; every other one is run
by onnx's own reference evaluator, which is right and a hundred times slower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from onnxprune.model.nesting import domain_of
from onnxprune.model.versions import means_the_same

__all__ = ["can_evaluate", "evaluate"]

Array: TypeAlias = npt.NDArray[Any]
Operator: TypeAlias = Callable[[Sequence[Array | None], Mapping[str, Any]], Array]


def can_evaluate(op_type: str, opset: int) -> bool:
    """Whether `evaluate` knows a standard operator."""
    return op_type in _TABLE or _implemented(op_type, "", opset) is not None


@cache
def _implemented(op_type: str, domain: str, opset: int) -> int | None:
    """The version, this one or a later one of the same meaning, that the reference evaluator has; None without any."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.ops import load_op

    for version in range(opset, onnx.defs.onnx_opset_version() + 1):
        if not means_the_same(op_type, domain, opset, version):
            return None
        try:
            load_op(domain, op_type, version, evaluator_cls=ReferenceEvaluator)
        except (NotImplementedError, RuntimeError, onnx.defs.SchemaError):  # that is how onnx says no
            continue
        return version
    return None


def evaluate(node: NodeProto, inputs: Sequence[Array | None], opset: int) -> list[Array] | None:
    """The outputs of `node` for known `inputs` (None where one is left out), or None where it cannot be run alone."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    operator = _TABLE.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if operator is not None and len(node.output) == 1:
        return [np.asarray(operator(inputs, attributes))]
    return _reference(node, inputs, opset)


def _reference(node: NodeProto, inputs: Sequence[Array | None], opset: int) -> list[Array] | None:
    from onnx.reference import ReferenceEvaluator

    if any(hasattr(value, "node") for value in (helper.get_attribute_value(a) for a in node.attribute)):
        return None  # a subgraph may read tensors that are not inputs of the node
    version = opset if domain_of(node.domain) else _implemented(node.op_type, "", opset) or opset
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(node.input) if name],
        [helper.make_empty_tensor_value_info(name) for name in node.output if name],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, version)])
    feeds = {name: value for name, value in zip(node.input, inputs, strict=False) if name and value is not None}
    try:
        made = ReferenceEvaluator(model).run(None, feeds)
    except Exception:  # no implementation, or none for these inputs: then the value is simply not known
        return None
    return [np.asarray(value) for value in made] if isinstance(made, list) else None


def _axes(inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> tuple[int, ...] | None:
    axes = inputs[1].tolist() if len(inputs) > 1 and inputs[1] is not None else attributes.get("axes")
    return None if axes is None else tuple(int(a) for a in np.atleast_1d(axes))


def _slice(inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> Array:
    data, *rest = inputs
    assert data is not None
    if rest:
        starts, ends, axes, steps = (
            np.atleast_1d(r).tolist() if r is not None else None for r in (*rest, None, None)[:4]
        )
    else:
        starts, ends, axes, steps = attributes["starts"], attributes["ends"], attributes.get("axes"), None
    assert starts is not None
    assert ends is not None
    index: list[slice] = [slice(None)] * data.ndim
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        step = 1 if steps is None else steps[i]
        axis = i if axes is None else axes[i]
        stop: int | None = end
        if step < 0 and end < -data.shape[axis]:
            stop = None
        index[axis] = slice(start, stop, step)
    return np.asarray(data[tuple(index)])


def _reshape(inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> Array:
    data, target = _both(inputs)
    shape = target.tolist()
    if not attributes.get("allowzero", 0):
        shape = [data.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return np.asarray(data.reshape(shape))


def _both(inputs: Sequence[Array | None]) -> tuple[Array, Array]:
    a, b = inputs[0], inputs[1]
    assert a is not None
    assert b is not None
    return a, b


def _one(inputs: Sequence[Array | None]) -> Array:
    assert inputs[0] is not None
    return inputs[0]


def _divide(a: Array, b: Array) -> Array:
    if np.issubdtype(a.dtype, np.integer):  # ONNX divides integers towards zero
        quotient: Array = (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(np.where(b == 0, 1, b)))).astype(a.dtype)
        return quotient
    return np.asarray(a / b)


def _unsqueeze(inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> Array:
    return np.expand_dims(_one(inputs), _axes(inputs, attributes) or ())


def _constant_of_shape(inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> Array:
    value = attributes.get("value")
    fill = numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.zeros(1, np.float32)
    return np.full(_one(inputs).tolist(), fill.reshape(())[()], dtype=fill.dtype)


def _binary(function: Callable[[Array, Array], Any]) -> Operator:
    return lambda inputs, attributes: np.asarray(function(*_both(inputs)))


def _unary(function: Callable[[Array], Any]) -> Operator:
    return lambda inputs, attributes: np.asarray(function(_one(inputs)))


def _variadic(function: Callable[..., Any]) -> Operator:
    def run(inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> Array:
        result = _one(inputs)
        for other in inputs[1:]:
            result = function(result, other)
        return np.asarray(result)

    return run


_TABLE: dict[str, Operator] = {
    "Abs": _unary(np.abs),
    "Add": _binary(np.add),
    "And": _binary(np.logical_and),
    "Cast": lambda i, a: _one(i).astype(helper.tensor_dtype_to_np_dtype(a["to"])),
    "Ceil": _unary(np.ceil),
    "Concat": lambda i, a: np.concatenate([np.asarray(x) for x in i], axis=a["axis"]),
    "ConstantOfShape": _constant_of_shape,
    "Div": lambda i, a: _divide(*_both(i)),
    "Equal": _binary(np.equal),
    "Expand": lambda i, a: np.broadcast_to(i[0], np.broadcast_shapes(_one(i).shape, tuple(_both(i)[1].tolist()))),  # type: ignore[arg-type]
    "Floor": _unary(np.floor),
    "Gather": lambda i, a: np.take(*_both(i), axis=a.get("axis", 0)),
    "Greater": _binary(np.greater),
    "GreaterOrEqual": _binary(np.greater_equal),
    "Identity": lambda i, a: _one(i),
    "Less": _binary(np.less),
    "LessOrEqual": _binary(np.less_equal),
    "Max": _variadic(np.maximum),
    "Min": _variadic(np.minimum),
    "Mul": _binary(np.multiply),
    "Neg": _unary(np.negative),
    "Not": _unary(np.logical_not),
    "Or": _binary(np.logical_or),
    "Range": lambda i, a: np.arange(*(np.asarray(x).reshape(()).item() for x in i), dtype=_one(i).dtype),
    "Reshape": _reshape,
    "Slice": _slice,
    "Sqrt": _unary(np.sqrt),
    "Squeeze": lambda i, a: np.squeeze(_one(i), _axes(i, a)),
    "Sub": _binary(np.subtract),
    "Transpose": lambda i, a: np.transpose(_one(i), a.get("perm")),
    "Unsqueeze": _unsqueeze,
    "Where": lambda i, a: np.where(np.asarray(i[0]), np.asarray(i[1]), np.asarray(i[2])),
}
