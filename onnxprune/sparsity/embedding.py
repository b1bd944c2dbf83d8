"""A masked model that lost what was dead, put back into the shapes of its original: the other way of a cut.

    run(original with the weights of the output) == run(output)

Where an index went, the weights that layers multiply with are zero; everything else is the output's where the output
has it, and the original's where not. So one can prove of a file that its graph computes what the original's computes,
but for the values of the weights, and see whether these have the zeros that they are said to have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxprune.dependency import Analysis, analyse
from onnxprune.dimensions import keep_mask
from onnxprune.errors import VerificationFailed
from onnxprune.layers import Layer, layers_of
from onnxprune.model import Array, Edit, Model
from onnxprune.plan import Plan
from onnxprune.sparsity.granularity import granularity_of
from onnxprune.weights import Weights, is_parameter

__all__ = ["embedded", "unmet"]

_BIAS = 2  # the input of a convolution or Gemm that a bias is added as


def embedded(analysis: Analysis, plan: Plan, output: Model) -> Model:
    """The analysed original with the weights of `output`, which keeps of it what `plan` says.

    Errors: `VerificationFailed` where the weights of the two do not fit together.
    """
    original = analysis.model
    edit, weights = Edit(original), Weights(original)
    multiplied = {layer.weight for layer in layers_of(analysis, embeddings=True)}
    for name, info in original.weights.items():
        if name in original.folded or not (is_parameter(info) or any(map(analysis.is_free, analysis.dims(name)))):
            continue
        kept = np.ix_(*(np.flatnonzero(keep_mask(dim, plan.keep)) for dim in analysis.dims(name)))
        if name in output.weights and analysis.dims(name):
            old = original.array(name)
            new = np.array(weights.stored(name, np.zeros(info.shape, np.float32)) if name in multiplied else old)
            own = output.array(name)
            left = new[kept].shape
            if left != own.shape:
                raise VerificationFailed(
                    f"{output.source!r} has a weight {name!r} of shape {own.shape}, where its stamp leaves {left}"
                )
            new[kept] = own
            if not np.array_equal(new, old):
                edit.replace(name, new)
    _add_biases(analysis, plan, output, edit)
    return edit.done()


def _add_biases(analysis: Analysis, plan: Plan, output: Model, edit: Edit) -> None:
    """What was constant may have become the bias of a layer that had none."""
    original = analysis.model
    new = {name for name, info in output.weights.items() if is_parameter(info)} - original.weights.keys()
    if not new:
        return
    own = {layer.weight: layer for layer in layers_of(analysis)}
    for layer in layers_of(analyse(output, analysis.shapes.sizes, prober=analysis.prober)):
        before = own.get(layer.weight)
        if layer.bias in new and before is not None and not before.bias:
            outputs = _outputs(analysis, plan, before)
            bias = np.zeros(outputs.size, output.weights[layer.bias].dtype)
            bias[outputs] = output.array(layer.bias)
            edit.connect(before.node, _BIAS, edit.add(layer.bias, bias))
            new.discard(layer.bias)
    if new:
        raise VerificationFailed(
            f"{output.source!r} has weights that its original lacks, and does not say where from: {min(new)!r}"
        )


def _outputs(analysis: Analysis, plan: Plan, layer: Layer) -> Array:
    """Which outputs of a layer stay."""
    masks = [keep_mask(dim, plan.keep) for dim in analysis.dims(layer.weight)]
    kept = np.zeros([mask.size for mask in masks], np.bool_)
    kept[np.ix_(*masks)] = True
    return np.asarray(layer.matrix(kept).any(axis=(2, 3)).ravel())


def unmet(analysis: Analysis, model: Model, masks: Mapping[str, Sequence[object]]) -> str:
    """What of the stated masks does not hold in `model`, which has the original's shapes; empty if all do.

    `masks` says of each weight the granularity and how many of its numbers are not zero.
    """
    weights = Weights(model)
    layers = {layer.weight: layer for layer in reversed(layers_of(analysis, embeddings=True))}
    for name, (form, count) in masks.items():
        layer = layers.get(name)
        if layer is None:
            return f"the stamp states a mask of {name!r}, which no layer multiplies with"
        nonzero = weights.real(name) != 0
        if int(nonzero.sum()) != count:
            return f"the stamp states {count} numbers of {name!r} that are not zero; there are {int(nonzero.sum())}"
        if not granularity_of(str(form)).holds(layer.matrix(nonzero)):
            return f"the zeros of {name!r} are not {form}, as its stamp states"
    return ""
