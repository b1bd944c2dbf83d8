"""Statistics computed the plain way: the tensor in front of a layer is an output, and numpy makes rows of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnxprune.criteria import Evidence
from onnxprune.dependency import Analysis, analyse
from onnxprune.layers import Layer, layers_of
from onnxprune.model import Array, Model
from onnxprune.runtime.session import Session
from onnxprune.statistics import Gram, GramMatrix, Request, Statistics

CONV = """
    x[N,3,6,6] -> y
    a = Conv<pads=[1,1,1,1]>(x, A[8,3,3,3], B[8])
    b = Relu(a)
    c = Conv<pads=[1,1,1,1], group=2>(b, C[8,4,3,3])
    d = Relu(c)
    e = Conv<strides=[2,2]>(d, E[4,8,2,2], F[4])
    f = Flatten(e)
    y = Gemm(f, G[36,3], H[3])
"""
MERGED = """
    x[N,5,6] -> y
    p = MatMul(x, P[6,8]); q = MatMul(x, Q[6,4])
    j = Concat<axis=-1>(p, q)
    r = Relu(j)
    u = MatMul(r, U[12,6]); v = MatMul(p, V[8,6])
    w = Add(u, v); z = Add(w, x)
    y = MatMul(z, Z[6,3])
"""
ATTENTION = """
    x[N,5,12] -> y
    q = MatMul(x, Q[12,12]); k = MatMul(x, K[12,12]); v = MatMul(x, V[12,18])
    a = Reshape(q, {0,5,3,4}); b = Reshape(k, {0,5,3,4}); c = Reshape(v, {0,5,3,6})
    d = Transpose<perm=[0,2,1,3]>(a); e = Transpose<perm=[0,2,3,1]>(b); f = Transpose<perm=[0,2,1,3]>(c)
    s = MatMul(d, e); p = Softmax(s); o = MatMul(p, f)
    t = Transpose<perm=[0,2,1,3]>(o); u = Reshape(t, {0,5,18}); y = MatMul(u, O[18,12])
"""
MODELS = {"conv": CONV, "merged": MERGED, "attention": ATTENTION}


def tensors(model: Model, names: list[str], feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What the original model makes of these tensors, graph inputs included."""
    inside = [name for name in dict.fromkeys(names) if name not in feeds]
    found = Session(model.with_outputs(dict.fromkeys(inside, np.dtype(np.float32))).to_bytes()).run(feeds)
    return {**feeds, **found}


def samples(model: Model, count: int = 40, seed: int = 0) -> dict[str, Array]:
    (info,) = model.inputs
    shape = (count, *(int(size or 1) for size in (info.shape or ())[1:]))
    return {info.name: np.random.default_rng(seed).normal(size=shape).astype(np.float32)}


def rows(analysis: Analysis, layer: Layer, data: Array) -> Array:
    """What each group of the layer multiplies with its rows of weights: (G, rows, I x K)."""
    groups, _, inputs, positions = layer.shape
    node = analysis.model.nodes[layer.node]
    if layer.op_type != "Conv":
        return data.reshape(1, -1, inputs).astype(np.float64)
    kernel = analysis.model.weights[layer.weight].shape[2:]
    top, left, bottom, right = node.attributes.get("pads", [0, 0, 0, 0])
    stride = node.attributes.get("strides", [1, 1])
    padded = np.pad(data, ((0, 0), (0, 0), (top, bottom), (left, right)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))[:, :, :: stride[0], :: stride[1]]
    count, _, high, wide = patches.shape[:4]
    grid = patches.reshape(count, groups, inputs, high, wide, positions).transpose(1, 0, 3, 4, 2, 5)
    return np.asarray(grid.reshape(groups, -1, inputs * positions), np.float64)


def evidence(model: Model, feeds: Mapping[str, Array] | None = None) -> Evidence:
    """Evidence with the Gram matrix of every layer that has data."""
    analysis = analyse(model)
    layers = [layer for layer in layers_of(analysis) if layer.data]
    found = tensors(model, [layer.data for layer in layers], feeds or samples(model))
    answers: dict[Request, GramMatrix] = {}
    for layer in layers:
        x = rows(analysis, layer, found[layer.data])
        answers[Gram(layer)] = GramMatrix(x.swapaxes(1, 2) @ x, x.sum(axis=1), x.shape[1])
    return Evidence(analysis, Statistics(answers, samples=40))
