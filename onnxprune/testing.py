"""For authors of rules and passes: a model from a few lines of text, and the theorem on it.

    model = build('''
        x[N,3,8,8] -> y
        h = Conv<pads=[1,1,1,1]>(x, W[8,3,3,3], B[8])
        y = Conv(h, V[4,8,1,1])
    ''')
    assert theorem(model).sizes == {"W": 8}

A test of a rule is two tables: what becomes prunable, each row proven by `theorem`, and what looks alike and stays
fixed, each row with the reason that `reasons` gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxprune import cut
from onnxprune.dependency import Analysis, Group, analyse
from onnxprune.dimensions import Mask
from onnxprune.errors import UsageError, VerificationFailed
from onnxprune.model import Model, TensorInfo
from onnxprune.model.build import from_text
from onnxprune.model.inputs import symbol, symbols
from onnxprune.plan import Plan
from onnxprune.rules import Registry, registry
from onnxprune.runtime.comparison import compare, float_noise
from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.feeds import InputSpec, random_feeds
from onnxprune.runtime.session import Options, Session

__all__ = ["Proof", "build", "cut_sizes", "random_keep", "reasons", "theorem"]


@dataclass(frozen=True, slots=True)
class Proof:
    """What was cut and found equal: `sizes` and `kept` indices by group name, the largest relative error seen.

    `shrunk` is the model that came of it.
    """

    sizes: Mapping[str, int]
    kept: Mapping[str, int]
    max_error: float
    shrunk: Model


def build(text: str, *, opset: int = 17, ir_version: int = 8, seed: int = 0) -> Model:
    """The model that `text` writes down, checked by onnx's parser and typed by its shape inference.

    Lines, or parts separated by `;`. The first is `inputs -> outputs`, each input as `x[N,3,8,8]`, with `:int64` (or
    another ONNX type) where it is not float. Every other is a node in ONNX's own textual notation,
    `a, b = Split<axis=1>(x, sizes)`, whose operands may also be written out:

    * `W[8,3,3,3]`, `W[8,3]:int8`: a weight, filled with random values that depend on its name and `seed`;
    * `{1,2}`, `N{1,2}`, `{0.5}:double`, `{1,2,3,4}[2,2]`: a constant, with a name where others read it too;
    * `0`, `0.5`, `0:uint8`: a constant without axes;
    * `_`: an operand that is left out.

    Raises `UsageError` where the text is no graph, `ModelReadError` where the graph is broken.
    """
    return from_text(text, opset, ir_version, seed)


def cut_sizes(model: Model | str) -> dict[str, int]:
    """The size of every group that can be cut, by name."""
    return {group.name: group.size for group in analyse(_model(model)).groups}


def reasons(model: Model | str) -> dict[str, str]:
    """Why axes of weights are fixed: the first reason of each, by `tensor.axis`, in the order of the graph."""
    found: dict[str, str] = {}
    for refusal in analyse(_model(model)).refusals:
        found.setdefault(f"{refusal.tensor}.{refusal.axis}", refusal.reason)
    return found


def random_keep(groups: Iterable[Group], seed: int = 0, keep: Mapping[str, int] | None = None) -> dict[int, Mask]:
    """Random keep masks by atom id: `keep[name]` indices of a group, half of it (rounded up) where it is not named.

    A name that ends in `*` counts for all groups: `{"*": 1}` keeps one index of each. A count above the size of a
    group keeps it whole.
    """
    keep = keep or {}
    generator = np.random.default_rng(seed)
    masks: dict[int, Mask] = {}
    for group in groups:
        count = keep.get(group.name, keep.get("*", group.size - group.size // 2))
        mask = np.zeros(group.size, dtype=np.bool_)
        mask[generator.permutation(group.size)[:count]] = True
        masks[group.atom.id] = mask
    return masks


def theorem(
    model: Model | str,
    keep: Mapping[str, int] | None = None,
    *,
    seed: int = 0,
    batches: Sequence[int] = (1, 4),
    bounds: Mapping[str, int] | None = None,
    rules: Registry = registry,
) -> Proof:
    """Cut every group of `model` at random and prove in ONNX Runtime that removing is silencing.

    `keep` says how many indices stay, by group name (see `random_keep`); `batches` are the sizes that every symbolic
    first axis takes, by default none that the analysis takes as an example (3 and 5); `bounds` are the exclusive upper
    bounds of integer inputs. Runs in this process, at ONNX Runtime's full optimisation. Raises `VerificationFailed`
    with the output at fault, or with what ONNX Runtime said.
    """
    model = _model(model)
    analysis = analyse(model, rules=rules)
    unknown = set(keep or {}) - {group.name for group in analysis.groups} - {"*"}
    if unknown:
        raise UsageError(f"no group {min(unknown)!r}: there are {', '.join(g.name for g in analysis.groups) or 'none'}")
    plan = Plan.of(analysis.groups, random_keep(analysis.groups, seed, keep))
    shrunk = cut.shrink(analysis, plan)
    error = _compared(analysis, cut.mask(analysis, plan), shrunk, seed, batches, bounds)
    return Proof(
        {group.name: group.size for group in analysis.groups},
        {group.name: plan.kept(group) for group in analysis.groups},
        error,
        shrunk,
    )


def _model(model: Model | str) -> Model:
    return build(model) if isinstance(model, str) else model


def _compared(
    analysis: Analysis,
    masked: Model,
    shrunk: Model,
    seed: int,
    batches: Sequence[int],
    bounds: Mapping[str, int] | None,
) -> float:
    """The largest relative error between the two models on random feeds at several sizes of the batch."""
    where = symbols(analysis.model)
    feeds = []
    for turn, batch in enumerate(dict.fromkeys(batches) if where else batches[:1]):
        sizes = {name: batch if axis == 0 else analysis.shapes.sizes[name] for name, (_, axis) in where.items()}
        inputs = [_named(info) for info in analysis.model.inputs]
        feeds.append(random_feeds(inputs, sizes, bounds, seed=seed + turn))
    outputs = []
    for what, model, level in (("masked", masked, "all"), ("masked", masked, "off"), ("shrunk", shrunk, "all")):
        try:
            session = Session(model.to_bytes(), Options(optimise="all" if level == "all" else "off"))
            outputs.append([session.run(feed) for feed in feeds])
        except RunFailed as error:
            raise VerificationFailed(f"the {what} model does not run: {error}") from error
    found = compare(outputs[0], outputs[2], float_noise(outputs[0], outputs[1]))
    if not found.passed:
        raise VerificationFailed(f"the masked and the shrunk model differ: {found.detail}")
    return found.max_error


def _named(info: TensorInfo) -> InputSpec:
    """An input whose unnamed dimensions bear the names that the analysis gave them."""
    shape = [
        size if isinstance(size, int) and size > 0 else symbol(info.name, axis, size)
        for axis, size in enumerate(info.shape or ())
    ]
    return InputSpec(info.name, info.dtype, tuple(shape))
