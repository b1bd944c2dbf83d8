"""The two tables that test a family of rules: what becomes prunable, and what looks alike and stays fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import pytest

from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.session import Session
from onnxprune.testing import build, cut_sizes, reasons, theorem


@dataclass(frozen=True)
class Cuts:
    """A graph and the groups that it has; each is cut to a half, to one index and to all but one, and
    to one index alone; each time is proven."""

    fact: str
    text: str
    sizes: Mapping[str, int]
    opset: int = 17
    ir_version: int = 8
    bounds: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Refuses:
    """A graph in which axes must stay fixed, by `weight.axis`, each with a part of the reason that is given.

    Its other groups are cut and proven, unless random inputs cannot run it.
    """

    fact: str
    text: str
    fixed: Mapping[str, str]
    opset: int = 17
    runs: bool = True


def each(cases: Sequence[Cuts] | Sequence[Refuses]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.fact.replace(" ", "-"))


@cache
def runs_opset(opset: int) -> bool:
    """Whether the installed ONNX Runtime takes models of this opset: on an old Python, the newest wheel is old."""
    try:
        Session(build("x[2] -> y; y = Identity(x)", opset=opset).to_bytes())
    except RunFailed:
        return False
    return True


def prove(case: Cuts) -> None:
    if not runs_opset(case.opset):
        pytest.skip(f"the installed ONNX Runtime does not take opset {case.opset}")
    model = build(case.text, opset=case.opset, ir_version=case.ir_version)
    assert cut_sizes(model) == case.sizes, reasons(model)
    keeps = [{}, dict.fromkeys(case.sizes, 1), {name: size - 1 for name, size in case.sizes.items()}]
    if len(case.sizes) > 1:
        keeps += [{**case.sizes, name: 1} for name in case.sizes]
    for keep in keeps:
        theorem(model, keep, bounds=case.bounds)


def refuse(case: Refuses) -> None:
    if not runs_opset(case.opset):
        pytest.skip(f"the installed ONNX Runtime does not take opset {case.opset}")
    model = build(case.text, opset=case.opset)
    found = reasons(model)
    for axis, part in case.fixed.items():
        assert part in found.get(axis, "free"), f"{axis}: {found.get(axis, 'free')}"
    if case.runs:
        theorem(model)


def image(body: str, wide: int = 8, reads: int = 8) -> str:
    """`body` between two convolutions: it reads h[N,wide,6,6] and makes g[N,reads,.,.]."""
    return f"x[N,3,6,6] -> y; h = Conv<pads=[1,1,1,1]>(x, W[{wide},3,3,3]); {body}; y = Conv(g, V[4,{reads},1,1])"


def rows(body: str, wide: int = 8, reads: int = 8) -> str:
    """`body` between two matrix products: it reads h[N,5,wide] and makes g[N,.,reads]."""
    return f"x[N,5,6] -> y; h = MatMul(x, W[6,{wide}]); {body}; y = MatMul(g, V[{reads},4])"
