"""What groups are and what they are called: heads, widths and groups are told by types, names by modules."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from onnxprune.dependency import Group, analyse
from onnxprune.model import Model
from onnxprune.testing import build, theorem

ATTENTION = """
    x[N,5,12] -> y
    q = MatMul(x, Q[12,12]); k = MatMul(x, K[12,12]); v = MatMul(x, V[12,18])
    a = Reshape(q, {0,5,3,4}); b = Reshape(k, {0,5,3,4}); c = Reshape(v, {0,5,3,6})
    d = Transpose<perm=[0,2,1,3]>(a); e = Transpose<perm=[0,2,3,1]>(b); f = Transpose<perm=[0,2,1,3]>(c)
    s = MatMul(d, e); p = Softmax(s); o = MatMul(p, f)
    t = Transpose<perm=[0,2,1,3]>(o); u = Reshape(t, {0,5,18}); y = MatMul(u, O[18,12])
"""
GROUPED = """
    x[N,5,12] -> y
    q = MatMul(x, Q[12,24]); k = MatMul(x, K[12,8]); v = MatMul(x, V[12,10])
    a = Reshape(q, {0,5,6,4}); b = Reshape(k, {0,5,2,4}); c = Reshape(v, {0,5,2,5})
    d = Transpose<perm=[0,2,1,3]>(a); e = Transpose<perm=[0,2,3,1]>(b); f = Transpose<perm=[0,2,1,3]>(c)
    g = Unsqueeze(e, {2}); h = Expand(g, {1,1,3,1,1}); i = Reshape(h, {0,6,4,5})
    j = Unsqueeze(f, {2}); l = Expand(j, {1,1,3,1,1}); m = Reshape(l, {0,6,5,5})
    s = MatMul(d, i); p = Softmax(s); o = MatMul(p, m)
    t = Transpose<perm=[0,2,1,3]>(o); u = Reshape(t, {0,5,30}); y = MatMul(u, O[30,12])
"""
KINDS = {
    "attention": (ATTENTION, {"head": 3, "query/key width": 4, "value width": 6}),
    "grouped queries": (GROUPED, {"head": 2, "query head": 3, "query/key width": 4, "value width": 5}),
    "einsum": (
        """x[N,5,12] -> y
        q = Einsum<equation="btd,dhk->bthk">(x, Q[12,3,4]); k = Einsum<equation="btd,dhk->bthk">(x, K[12,3,4])
        v = Einsum<equation="btd,dhk->bthk">(x, V[12,3,6]); s = Einsum<equation="bqhk,bthk->bhqt">(q, k)
        p = Softmax(s); o = Einsum<equation="bhqt,bthv->bqhv">(p, v)
        y = Einsum<equation="bqhv,hvd->bqd">(o, O[3,6,12])""",
        {"head": 3, "query/key width": 4, "value width": 6},
    ),
    "one head": (
        """x[N,5,12] -> y
        q = MatMul(x, Q[12,4]); k = MatMul(x, K[12,4]); v = MatMul(x, V[12,6]); t = Transpose<perm=[0,2,1]>(k)
        s = MatMul(q, t); p = Softmax(s); o = MatMul(p, v); y = MatMul(o, O[6,12])""",
        {"query/key width": 4, "value width": 6},
    ),
    "queries, keys and values in one": (
        """x[N,5,12] -> y
        q = MatMul(x, Q[12,12]); a = Reshape(q, {0,5,3,4}); d = Transpose<perm=[0,2,1,3]>(a)
        e = Transpose<perm=[0,1,3,2]>(d); s = MatMul(d, e); p = Softmax(s); o = MatMul(p, d)
        t = Transpose<perm=[0,2,1,3]>(o); u = Reshape(t, {0,5,12}); y = MatMul(u, O[12,12])""",
        {"head": 3, "head width": 4},
    ),
    "a product of images is no attention": (
        """x[N,3,6,6] -> y
        a = Conv(x, A[8,3,1,1]); b = Conv(x, B[8,3,1,1]); c = MatMul(a, b); y = Conv(c, V[4,8,1,1])""",
        {"channel": 8},
    ),
    "a low-rank weight is no attention": (
        """x[N,5,12] -> y
        w = MatMul(A[12,3], B[3,8]); h = MatMul(x, w); y = MatMul(h, V[8,4])""",
        {"channel": 11},
    ),
    "a grouped convolution": (
        """x[N,3,6,6] -> y
        h = Conv(x, W[8,3,1,1]); g = Conv<group=4>(h, U[12,2,3,3]); y = Conv(g, V[4,12,1,1])""",
        {"group": 4, "channel": 5},
    ),
    "a depthwise convolution": (
        """x[N,3,6,6] -> y
        h = Conv(x, W[8,3,1,1]); g = Conv<group=8>(h, U[8,1,3,3]); y = Conv(g, V[4,8,1,1])""",
        {"channel": 8},
    ),
}


def kinds(groups: tuple[Group, ...]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for group in groups:
        found[group.kind] += group.size
    return dict(found)


@pytest.mark.parametrize("what", KINDS)
def test_the_kind_follows_from_the_types(what: str) -> None:
    """Sizes by kind are as written; every kind is cut to half and to one index, alone and together, and proven."""
    text, sizes = KINDS[what]
    model = build(text)
    groups = analyse(model).groups
    assert kinds(groups) == sizes
    theorem(model)
    for kind in sizes:
        alone = {g.name: 1 if g.kind == kind else g.size for g in groups}
        theorem(model, alone)


def graph(zoo: Path, name: str) -> tuple[Model, dict[str, int]]:
    """A graph of the zoo with random weights, and the bounds of its integer inputs."""
    spec = importlib.util.spec_from_file_location("zoo_hydrate", zoo / "hydrate.py")
    assert spec is not None
    assert spec.loader is not None
    hydrate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hydrate)
    entries: list[dict[str, Any]] = json.loads((zoo / "INDEX.json").read_text())
    entry = next(e for e in entries if e["name"] == name)
    proto = hydrate.hydrate(hydrate.load_skel(str(zoo / entry["file"])))
    bounds = {i["name"]: i["range"][1] for i in entry["inputs"] if i["dtype"].startswith("int")}
    return Model.from_bytes(proto.SerializeToString(), source=name), bounds


GRAPHS: Mapping[str, Mapping[str, str]] = {
    "hf_camembert_qa": {"m.roberta.encoder.layer.1.attention heads": "head"},
    "hf_gpt2": {
        "m.transformer.h.1.attn heads": "head",
        "m.transformer.h.1.attn query/key width": "query/key width",
        "m.transformer.h.1.attn value width": "value width",
    },
    "hf_vit": {
        "m.vit.layers.1.attention heads": "head",
        "m.vit.layers.1.attention query/key width": "query/key width",
        "m.vit.layers.1.attention value width": "value width",
    },
    "hfdyn_vit": {"m.vit.layers.0.attention heads": "head"},
    "hf_mistral": {
        "m.model.layers.0.self_attn heads": "head",
        "m.model.layers.0.self_attn query heads of each group": "query head",
        "m.model attention query/key width": "query/key width",
        "m.model.layers.1.self_attn value width": "value width",
    },
    "hf_falcon_mqa": {"m.transformer.h.0.self_attention heads": "head"},
    "h_attn_gqa_rope": {"l.1.1 attention heads": "head", "l.1.1 attention query heads of each group": "query head"},
}


@pytest.mark.parametrize("name", GRAPHS)
def test_heads_of_real_architectures(zoo: Path, name: str) -> None:
    """They bear the name of their module; heads alone, widths alone and both are cut and proven."""
    model, bounds = graph(zoo, name)
    groups = analyse(model).groups
    found = {group.name: group.kind for group in groups}
    assert GRAPHS[name].items() <= found.items()
    heads = [g for g in groups if g.kind in ("head", "query head")]
    widths = [g for g in groups if g.kind.endswith("width")]
    assert heads
    assert widths
    whole = {g.name: g.size for g in groups}
    for chosen in (heads, widths, heads + widths):
        theorem(model, {**whole, **{g.name: max(1, g.size // 2) for g in chosen}}, bounds=bounds)
