"""The way back from a repaired, pruned model to a model of the original's shapes that it was cut from.

A repair changes weights, so the original alone no longer says what was cut. But whatever the weights are that stayed,
putting them back in their places in the original gives a model of which the pruned one must be the cut: that is what
`verify` proves of a repaired file.
"""

from __future__ import annotations

import numpy as np

from onnxprune import cut
from onnxprune.analysis import Analysis
from onnxprune.dependency import analyse
from onnxprune.dimensions import keep_mask
from onnxprune.errors import VerificationFailed
from onnxprune.layers import layers_of
from onnxprune.model import Array, Edit, Model
from onnxprune.plan import Plan
from onnxprune.weights import Weights, is_parameter

__all__ = ["restored"]


def restored(analysis: Analysis, plan: Plan, pruned: Model) -> Analysis:
    """The analysed original with the weights of `pruned` in the places that `plan` keeps.

    What a cut rescales (the scale of an RMSNorm that has fewer indices) is scaled back.
    Errors: `VerificationFailed` where a weight does not have the shape that the plan leaves of it.
    """
    first = _with(analysis, plan, {name: pruned.array(name) for name in _common(analysis, pruned)}, pruned)
    made = cut.shrink(first, plan)
    scaled: dict[str, Array] = {}
    for name in _common(analysis, pruned):
        there, own = made.array(name), pruned.array(name)
        if not np.array_equal(there, own):
            ratio = np.divide(own, there, out=np.ones_like(own), where=there != 0)
            scaled[name] = np.asarray(own * ratio, own.dtype)
    return _with(first, plan, scaled, pruned) if scaled else first


def _common(analysis: Analysis, pruned: Model) -> list[str]:
    """The parameters that both models have; what was computed and is stored now is not one of the original's.

    A bias of 32-bit integers is one where it is known to be quantized.
    """
    model = analysis.model
    weights, biases = Weights(model), {layer.bias for layer in layers_of(analysis)}
    return [
        name
        for name, info in model.weights.items()
        if (is_parameter(info) or weights.is_quantized(name) or name in biases)
        and name not in model.folded
        and name in pruned.weights
        and info.dtype.kind in "fiu"
    ]


def _with(analysis: Analysis, plan: Plan, values: dict[str, Array], pruned: Model) -> Analysis:
    model = analysis.model
    edit = Edit(model)
    for name, own in values.items():
        whole = np.array(model.array(name))
        kept = np.ix_(*(np.flatnonzero(keep_mask(dim, plan.keep)) for dim in analysis.dims(name)))
        if not analysis.dims(name):
            kept = np.ix_(*(np.arange(size) for size in whole.shape))
        left = whole[kept].shape
        if left != own.shape:
            raise VerificationFailed(
                f"{pruned.source!r} has a weight {name!r} of shape {own.shape}, where its stamp leaves {left}"
            )
        whole[kept] = own
        if not np.array_equal(whole, model.array(name)):
            edit.replace(name, whole)
    made = edit.done()
    return analyse(made, analysis.shapes.sizes, allow=analysis.allow, prober=analysis.prober)
