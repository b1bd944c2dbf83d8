"""Whether an operator means the same in two versions of its domain, read off what onnx says of both.

Most new versions only add types. One that adds, drops or renames an attribute or an operand, or that changes a
default, is another operator here: a node of the one is not taken for a node of the other.
"""

from __future__ import annotations

from functools import cache

import onnx

__all__ = ["means_the_same"]


@cache
def means_the_same(op_type: str, domain: str, one: int, other: int) -> bool:
    """Whether a node means under opset `other` what it means under `one`; False where onnx does not know it."""
    if one == other:
        return True
    if not all(onnx.defs.has(op_type, version, domain) for version in (one, other)):
        return False
    first, second = (onnx.defs.get_schema(op_type, version, domain) for version in (one, other))
    return first.since_version == second.since_version or _signature(first) == _signature(second)


def _signature(schema: onnx.defs.OpSchema) -> tuple[object, ...]:
    """Attributes with their defaults, operands and results: everything but the types that are taken."""
    attributes = sorted(
        (name, str(a.type), a.required, a.default_value.SerializeToString()) for name, a in schema.attributes.items()
    )
    formals = [
        [(p.name, str(p.option), p.is_homogeneous) for p in parameters]
        for parameters in (schema.inputs, schema.outputs)
    ]
    return (attributes, *formals)
