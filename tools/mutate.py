"""Random small graphs made of the patterns that real networks are made of, and the theorem on each.

    python tools/mutate.py [--graphs 1000] [--seed 0]

A graph is text in the notation of `onnxprune.testing.build`; it depends on its seed alone. Every group is cut to a
random size from one index to all; masked and shrunk models are compared in ONNX Runtime at batch 1 and 4. Prints
every graph that fails, with its seed, and ends with 1 if there was one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np

from onnxprune.errors import OnnxPruneError
from onnxprune.testing import Proof, build, cut_sizes, theorem

__all__ = ["graph", "prove"]

OPSET = 17
INFINITY = 9223372036854775807


class _Writer:
    """A graph being written: an image `x` of c channels and s x s pixels, or a sequence of l rows of width c."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.lines: list[str] = []
        self.made = 0
        self.x, self.c, self.s = "x", 3, 8

    def pick(self, *options: int) -> int:
        return int(options[self.random.integers(len(options))])

    def new(self, operator: str, *operands: str, **attributes: object) -> str:
        """Write a node and return the name of its output."""
        return self.many(1, operator, *operands, **attributes)[0]

    def many(self, outputs: int, operator: str, *operands: str, **attributes: object) -> list[str]:
        names = [f"t{self.made + k}" for k in range(outputs)]
        self.made += outputs
        written = (f'{k}="{v}"' if isinstance(v, str) else f"{k}={v}" for k, v in attributes.items())
        said = f"<{','.join(written)}>".replace(" ", "") if attributes else ""
        self.lines.append(f"{', '.join(names)} = {operator}{said}({', '.join(operands)})")
        return names

    def weight(self, *shape: int) -> str:
        self.made += 1
        return f"W{self.made}[{','.join(map(str, shape))}]"

    def conv(self, x: str, cin: int, cout: int, kernel: int = 1, group: int = 1) -> str:
        bias = [self.weight(cout)] if self.pick(0, 1) else []
        return self.new("Conv", x, self.weight(cout, cin // group, kernel, kernel), *bias,
                        group=group, pads=[kernel // 2] * 4)  # fmt: skip

    def linear(self, x: str, cin: int, cout: int) -> str:
        made = self.new("MatMul", x, self.weight(cin, cout))
        return self.new("Add", made, self.weight(cout)) if self.pick(0, 1) else made

    def act(self, x: str) -> str:
        return self.new(("Relu", "Sigmoid", "HardSwish", "Tanh", "Elu")[self.pick(0, 1, 2, 3, 4)], x)

    def batch(self) -> str:
        """The dynamic batch as a shape of one number, in one of the ways that exporters have."""
        way = self.pick(0, 1, 2)
        if way == 0:
            return self.new("Shape", self.x, end=1)
        shape = self.new("Shape", self.x)
        if way == 1:
            return self.new("Slice", shape, "{0}", "{1}")
        return self.new("Unsqueeze", self.new("Gather", shape, "0"), "{0}")

    def reshape(self, x: str, *sizes: int, merged: bool = False) -> str:
        """Reshape to N x sizes: a constant target, or one that is computed from the batch.

        `merged`: the first axis of `x` is not the batch alone, so 0 would not copy it.
        """
        way = self.pick(1, 2) if merged else self.pick(0, 0, 1, 2)
        tail = ",".join(map(str, sizes))
        if way == 0:
            return self.new("Reshape", x, f"{{0,{tail}}}")
        if way == 1:
            return self.new("Reshape", x, f"{{-1,{tail}}}")
        return self.new("Reshape", x, self.new("Concat", self.batch(), f"{{{tail}}}", axis=0))


# -- images: each reads w.x, an image of w.c channels and w.s x w.s pixels, and leaves another ----------------------


def widen(w: _Writer) -> None:
    c = w.pick(4, 6, 8, 12)
    w.x, w.c = w.act(w.conv(w.x, w.c, c, w.pick(1, 3))), c


def norm(w: _Writer) -> None:
    w.x = w.new("BatchNormalization", w.x, *(w.weight(w.c) for _ in range(4)))


def residual(w: _Writer) -> None:
    c = w.pick(2, 4, 6)
    y = w.conv(w.act(w.conv(w.x, w.c, c)), c, w.c, 3)
    w.x = w.new("Add", *((w.x, y) if w.pick(0, 1) else (y, w.x)))


def dense(w: _Writer) -> None:
    c = w.pick(2, 3, 4)
    y = w.act(w.conv(w.x, w.c, c, 3))
    w.x, w.c = w.new("Concat", w.x, y, axis=w.pick(1, -3)), w.c + c


def halves(w: _Writer) -> None:
    if w.c < 2:
        return widen(w)
    a, b = w.many(2, "Split", w.x, f"{{{w.c // 2},{w.c - w.c // 2}}}", axis=1)
    b = w.conv(b, w.c - w.c // 2, w.c - w.c // 2)
    w.x = w.new("Concat", *((a, b) if w.pick(0, 1) else (b, a)), axis=1)
    return None


def gate(w: _Writer) -> None:
    if w.c % 2:
        return widen(w)
    a, b = w.many(2, "Split", w.x, axis=1) if OPSET < 18 else w.many(2, "Split", w.x, axis=1, num_outputs=2)
    w.x, w.c = w.new("Mul", a, w.act(b)), w.c // 2
    return None


def slices(w: _Writer) -> None:
    if w.c < 2:
        return widen(w)
    at = int(w.random.integers(1, w.c))
    start = w.pick(at, at - w.c)
    stop = w.pick(w.c, INFINITY, 2147483647)
    a = w.new("Slice", w.x, f"{{{w.pick(0, -w.c)}}}", f"{{{w.pick(at, at - w.c)}}}", "{1}")
    b = w.act(w.new("Slice", w.x, f"{{{start}}}", f"{{{stop}}}", "{1}"))
    w.x = w.new("Concat", *((a, b) if w.pick(0, 1) else (b, a)), axis=1)
    return None


def middle(w: _Writer) -> None:
    if w.c < 4:
        return widen(w)
    a = w.new("Slice", w.x, f"{{{w.pick(1, 1 - w.c)}}}", f"{{{w.pick(w.c - 1, -1)}}}", "{1}")
    w.x, w.c = w.new("Concat", w.x, a, axis=1), 2 * w.c - 2
    return None


def shuffle(w: _Writer) -> None:
    if w.c % 2:
        return widen(w)
    g = w.pick(2, w.c // 2)
    a = w.new("Transpose", w.reshape(w.x, g, w.c // g, w.s, w.s), perm=[0, 2, 1, 3, 4])
    w.x = w.reshape(a, w.c, w.s, w.s)
    return None


def excite(w: _Writer) -> None:
    c = w.pick(2, 3)
    p = w.new("GlobalAveragePool", w.x) if w.pick(0, 1) else w.new("ReduceMean", w.x, axes=[2, 3])
    w.x = w.new("Mul", w.x, w.new("Sigmoid", w.conv(w.act(w.conv(p, w.c, c)), c, w.c)))


def depthwise(w: _Writer) -> None:
    w.x = w.act(w.conv(w.x, w.c, w.c, 3, group=w.c))


def multiplier(w: _Writer) -> None:
    w.x, w.c = w.conv(w.x, w.c, 2 * w.c, 3, group=w.c), 2 * w.c


def grouped(w: _Writer) -> None:
    if w.c % 2:
        return widen(w)
    c = w.pick(4, 6, 8)
    w.x, w.c = w.conv(w.x, w.c, c, 3, group=2), c
    return None


def transposed(w: _Writer) -> None:
    c = w.pick(4, 6)
    made = w.new("ConvTranspose", w.x, w.weight(w.c, c, 2, 2), strides=[2, 2])
    w.x, w.c = w.new("MaxPool", made, kernel_shape=[2, 2], strides=[2, 2]), c


def last(w: _Writer) -> None:
    c = w.pick(4, 6)
    y = w.act(w.linear(w.new("Transpose", w.x, perm=[0, 2, 3, 1]), w.c, c))
    w.x, w.c = w.new("Transpose", y, perm=[0, 3, 1, 2]), c


def pixels(w: _Writer) -> None:
    c = w.pick(2, 3)
    y = w.conv(w.x, w.c, 4 * c)
    if w.pick(0, 1):
        y = w.new("DepthToSpace", y, blocksize=2, mode=("DCR", "CRD")[w.pick(0, 1)])
    else:
        y = w.new("Transpose", w.reshape(y, c, 2, 2, w.s, w.s), perm=[0, 1, 4, 2, 5, 3])
        y = w.reshape(y, c, 2 * w.s, 2 * w.s)
    w.x, w.c = w.new("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2]), c


def shortcut(w: _Writer) -> None:
    before, after = w.pick(1, 2), w.pick(0, 3)
    c = w.c + before + after
    padded = w.new("Pad", w.x, f"{{0,{before},0,0,0,{after},0,0}}")
    w.x, w.c = w.new("Add", w.conv(w.x, w.c, c, 3), padded), c


def repeated(w: _Writer) -> None:
    w.x, w.c = w.new("Tile", w.x, "{1,2,1,1}"), 2 * w.c


def groupnorm(w: _Writer) -> None:
    if w.c % 2:
        return norm(w)
    r = w.new("InstanceNormalization", w.new("Reshape", w.x, "{0,2,-1}"), w.weight(2), w.weight(2))
    w.x = w.new("Mul", w.new("Reshape", r, w.new("Shape", w.x)), w.weight(w.c, 1, 1))
    return None


def deep(w: _Writer) -> None:
    y = w.conv(w.new("SpaceToDepth", w.x, blocksize=2), 4 * w.c, w.c)
    w.x = w.new("Resize", y, "_", "{1.0,1.0,2.0,2.0}")


def filled(w: _Writer) -> None:
    zero = w.new("ConstantOfShape", w.new("Shape", w.x))
    w.x = w.new("Add", w.x, zero) if w.pick(0, 1) else w.new("Concat", w.x, zero, axis=1)
    w.c = w.c if w.lines[-1].split("=")[1].strip().startswith("Add") else 2 * w.c


def picked(w: _Writer) -> None:
    if w.c % 3:
        return widen(w)
    r = w.reshape(w.x, 3, w.c // 3, w.s, w.s)
    a, b, c = (w.new("Gather", r, str(k), axis=1) for k in (0, w.pick(1, -2), w.pick(2, -1)))
    w.x, w.c = w.new("Add", w.new("Mul", a, b), c), w.c // 3
    return None


IMAGE: list[Callable[[_Writer], None]] = [
    widen, norm, residual, dense, halves, gate, slices, middle, shuffle, excite, depthwise, multiplier, grouped,
    transposed, last, pixels, shortcut, repeated, groupnorm, deep, filled, picked,
]  # fmt: skip


# -- from an image to a row, or to a sequence -----------------------------------------------------------------------


def flattened(w: _Writer) -> None:
    way, size = w.pick(0, 1, 2, 3), w.c * w.s * w.s
    if way == 0:
        y = w.new("Flatten", w.x)
    elif way == 1:
        y = w.reshape(w.x, size)
    elif way == 2:
        y = w.new("Reshape", w.x, "{0,-1}")
    else:
        y = w.new("Reshape", w.x, w.new("Concat", w.batch(), "{-1}", axis=0))
    w.x, w.c = w.linear(y, size, 8), 8


def pooled(w: _Writer) -> None:
    p = w.new("GlobalAveragePool", w.x)
    way = w.pick(0, 1, 2)
    if way == 0:
        w.x = w.new("Flatten", p)
    elif way == 1:
        w.x = w.new("Squeeze", p, "{2,3}")
    else:
        w.x = w.reshape(p, w.c)


def sequenced(w: _Writer) -> None:
    if w.pick(0, 1):
        y = w.reshape(w.x, w.c, w.s * w.s)
    else:
        a, b = w.new("Shape", w.x, end=2), "{-1}"
        y = w.new("Reshape", w.x, w.new("Concat", a, b, axis=0))
    w.x, w.s = w.new("Transpose", y, perm=[0, 2, 1]), w.s * w.s


# -- sequences: each reads w.x, w.s rows of width w.c, and leaves another -------------------------------------------


def perceptron(w: _Writer) -> None:
    c = w.pick(4, 8, 12)
    y = w.linear(w.act(w.linear(w.x, w.c, c)), c, w.c)
    w.x = w.new("Add", w.x, y)


def project(w: _Writer) -> None:
    c = w.pick(4, 8, 12)
    w.x, w.c = w.linear(w.x, w.c, c), c


def normed(w: _Writer) -> None:
    w.x = w.new("LayerNormalization", w.x, w.weight(w.c), w.weight(w.c))


def gated(w: _Writer) -> None:
    c = w.pick(3, 4)
    y = w.linear(w.x, w.c, 2 * c)
    a, b = w.many(2, "Split", y, f"{{{c},{c}}}", axis=-1)
    w.x, w.c = w.new("Mul", a, w.new("Sigmoid", b)), c


def rotary(w: _Writer) -> None:
    c = 2 * w.pick(2, 3)
    y = w.linear(w.x, w.c, c)
    a = w.new("Slice", y, "{0}", f"{{{w.pick(c // 2, -c // 2)}}}", "{2}")
    b = w.new("Neg", w.new("Slice", y, f"{{{w.pick(c // 2, -c // 2)}}}", f"{{{INFINITY}}}", "{2}"))
    r = w.new("Mul", w.new("Concat", b, a, axis=-1), w.weight(c))
    w.x, w.c = w.new("Add", w.new("Mul", y, w.weight(c)), r), c


def rowwise(w: _Writer) -> None:
    c = w.pick(4, 6)
    flat = w.new("Reshape", w.x, f"{{-1,{w.c}}}")
    y = w.new("Gemm", flat, w.weight(c, w.c), w.weight(c), transB=1)
    w.x, w.c = w.reshape(y, w.s, c, merged=True), c


def contracted(w: _Writer) -> None:
    h, d, c = 2, w.pick(2, 3), w.pick(4, 6)
    y = w.new("Einsum", w.x, w.weight(w.c, h, d), equation="blc,chd->blhd")
    w.x, w.c = w.new("Einsum", w.act(y), w.weight(h, d, c), equation="blhd,hdc->blc"), c


def attention(w: _Writer) -> None:
    h, d = w.pick(2, 3), w.pick(2, 4)
    wide, way = h * d, w.pick(0, 1, 2)
    if way == 0:
        q, k, v = (w.reshape(w.linear(w.x, w.c, wide), w.s, h, d) for _ in range(3))
    elif way == 1:
        y = w.linear(w.x, w.c, 3 * wide)
        q, k, v = (w.reshape(p, w.s, h, d) for p in w.many(3, "Split", y, axis=2))
    else:
        y = w.reshape(w.linear(w.x, w.c, 3 * wide), w.s, 3, h, d)
        q, k, v = (w.new("Gather", y, str(i), axis=2) for i in range(3))
    q, v = (w.new("Transpose", t, perm=[0, 2, 1, 3]) for t in (q, v))
    k = w.new("Transpose", k, perm=[0, 2, 3, 1])
    folded = w.pick(0, 1)
    if folded:  # batch and heads are one axis
        q, k, v = (w.new("Reshape", t, f"{{-1,{a},{b}}}") for t, a, b in ((q, w.s, d), (k, d, w.s), (v, w.s, d)))
    width = w.new("Sqrt", w.new("Cast", w.new("Gather", w.new("Shape", q), "-1"), to=1))
    p = w.new("Softmax", w.new("Div", w.new("MatMul", q, k), width), axis=-1)
    o = w.new("MatMul", p, v)
    if folded:
        o = w.reshape(o, h, w.s, d, merged=True)
    o = w.reshape(w.new("Transpose", o, perm=[0, 2, 1, 3]), w.s, wide)
    w.x = w.new("Add", w.x, w.linear(o, wide, w.c))


SEQUENCE: list[Callable[[_Writer], None]] = [
    perceptron, project, normed, gated, rotary, rowwise, contracted, attention, attention,
]  # fmt: skip


def graph(seed: int) -> str:
    """The graph of a seed, as text: a few patterns one after the other, each on what the one before left."""
    w = _Writer(seed)
    kind = w.pick(0, 1, 2)  # an image, a sequence, an image that becomes a sequence
    w.s, w.c = (4, 6) if kind == 1 else (w.pick(2, 4), 3)
    shape = f"x[N,{w.s},{w.c}]" if kind == 1 else f"x[N,{w.c},{w.s},{w.s}]"
    if kind != 1:
        widen(w)
        for _ in range(w.pick(1, 2, 3, 4)):
            if w.c <= 32:
                IMAGE[int(w.random.integers(len(IMAGE)))](w)
    if kind == 2:
        sequenced(w)
    if kind:
        for _ in range(w.pick(1, 2, 3)):
            SEQUENCE[int(w.random.integers(len(SEQUENCE)))](w)
        w.x = w.linear(w.x, w.c, 3)
    else:
        (flattened, pooled)[w.pick(0, 1)](w)
        w.x = w.linear(w.act(w.x), w.c, 3)
    return f"{shape} -> {w.x}; " + "; ".join(w.lines)


def prove(seed: int) -> Proof:
    """Cut the graph of a seed at random, every group or about half of them, and prove it."""
    model = build(graph(seed), opset=OPSET, seed=seed)
    random = np.random.default_rng([seed, 1])
    some = random.random() < 0.5
    keep = {
        name: size if some and random.random() < 0.5 else int(random.integers(1, size + 1))
        for name, size in cut_sizes(model).items()
    }
    return theorem(model, keep, seed=seed)


def main() -> int:
    """0 if every graph was proven, 1 if not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--graphs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    start, failed, groups = time.perf_counter(), [], 0
    for seed in range(options.seed, options.seed + options.graphs):
        try:
            groups += len(prove(seed).sizes)
        except OnnxPruneError as error:
            failed.append(seed)
            print(f"seed {seed}: {error}\n    {graph(seed)}", flush=True)
    seconds = time.perf_counter() - start
    print(f"{options.graphs - len(failed)} of {options.graphs} graphs proven, {groups} groups, {seconds:.0f} s")
    if failed:
        print(f"failed: {', '.join(map(str, failed))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
