"""What is gone keeps the original's weights until the last step, and is judged with them beside what stays.

Without this, what went in one step of a pruning in several steps is gone (`--steps`). With `--regrow` it may come back:

1. A step has a plan or masks, and a model that is repaired with them. What is gone is zero there where it is read; what
   makes it is not, and is refitted like everything else.
2. `regrown` is that model with the original's weight wherever it has a zero that the original has not.
3. The next step judges all weights of it, by one criterion, with what the *pruned* model computes, and chooses anew
   among all; the schedule says how many stay. What stays is worth what the repair has made of it, and what is gone what
   it was worth to the original, on the inputs that there are now.
4. Only the choice is handed on: it is applied to the original's weights and repaired from there, so that repairs do not
   add up. The last step is hard, and what comes of it is proven as if it were the only one.

This is soft filter pruning (He et al., IJCAI 2018, arXiv 1808.06866) with repair in the place of training. A channel is
a column of the layers that read it, and a mask any set of weights, so both come back in one way.
"""

from __future__ import annotations

import numpy as np

from onnxprune.dependency import Analysis, analyse
from onnxprune.layers import layers_of
from onnxprune.model import Edit
from onnxprune.weights import Weights

__all__ = ["regrown"]


def regrown(original: Analysis, pruned: Analysis) -> Analysis:
    """`pruned`, which has weights of the layers of `original` set to zero, with the original's in their places.

    What is silenced not in a weight but where a node computes it stays silent: there is no weight to put back.
    """
    first = {(layer.output, layer.operand): layer for layer in layers_of(original)}
    weights, edit = Weights(pruned.model), Edit(pruned.model)
    for layer in layers_of(pruned):
        twin = first.get((layer.output, layer.operand))
        if twin is None or not weights.is_known(layer.weight):
            continue
        before, now = original.model.array(twin.weight), pruned.model.array(layer.weight)
        silent = weights.real(layer.weight) == 0
        if before.shape != now.shape or silent.size % now.size:
            continue
        whole = np.where(silent.reshape(*now.shape, -1).all(axis=-1), before, now)  # several may share a byte
        if not np.array_equal(whole, now):
            edit.replace(layer.weight, whole)
    return analyse(edit.done(), pruned.shapes.sizes, allow=pruned.allow, prober=pruned.prober)
