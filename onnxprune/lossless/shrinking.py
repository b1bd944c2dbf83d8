"""Everything that is dead is removed, until nothing is: what goes may have been the last reason to stay.

    run(model) == run(shrunk)

holds on every input. Each round sweeps what nothing reaches, folds constants and merges duplicates, and removes what
is silent then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from onnxprune import cut
from onnxprune.dependency import Analysis, analyse
from onnxprune.dimensions import Mask, keep_mask
from onnxprune.lossless.finding import constants_left, dead, positions_of, rewritable
from onnxprune.lossless.flow import Flow
from onnxprune.lossless.reading import readers
from onnxprune.lossless.rewriting import rewritten
from onnxprune.model import Model, swept
from onnxprune.plan import Plan

__all__ = ["Shrunk", "shrink"]

ROUNDS = 100  # each removes something, so this is reached by chains alone that are deeper than it


@dataclass(frozen=True)
class Shrunk:
    """A model without what was dead in it.

    `plan` says what stayed of each group of the original. `removed` counts by kind: `unread`, `zero`, `constant` and
    `duplicate` indices of groups, `nodes`, `initializers`, `outputs` and `identities` of the graph. `left` counts the
    constant indices that stay, by reason.
    """

    model: Model
    plan: Plan
    removed: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)


def shrink(analysis: Analysis, watch: Callable[[str, int, int], None] | None = None) -> Shrunk:
    """The analysed model without anything that changes no output."""
    model, sizes = analysis.model, analysis.shapes.sizes
    removed: Counter[str] = Counter()
    trace = _Trace(model)
    left: Mapping[str, int] = {}
    for done in range(ROUNDS):
        if watch is not None:
            watch("remove what is dead", done, 0)
        model, counts = swept(model)
        removed.update(counts)
        current = analysis if model is analysis.model else analyse(model, sizes)
        places = readers(Flow(current))
        folds, counts = rewritable(current.groups, places)
        if folds:
            removed.update(counts)
            current = analyse(rewritten(model, folds), sizes)
            places = readers(Flow(current))
        keep, found = dead(current.groups, places)
        left = constants_left(current.groups, places)
        if not keep:
            model = current.model
            break
        removed.update(found)
        removed["unread"] -= sum(counts.values()) if folds else 0
        plan = Plan.of(current.groups, keep)
        model = cut.shrink(current, plan)
        trace.follow(current, plan)
    kinds = {kind: number for kind, number in removed.items() if number > 0}
    return Shrunk(model, trace.plan(analysis), kinds, left)


class _Trace:
    """Which of the original's indices each axis of each weight still has."""

    def __init__(self, model: Model) -> None:
        self._kept = {(n, k): np.arange(size) for n, info in model.weights.items() for k, size in enumerate(info.shape)}

    def follow(self, analysis: Analysis, plan: Plan) -> None:
        """Note what a plan removes from the weights that are still there by name."""
        for (name, axis), kept in self._kept.items():
            dims = analysis.dims(name)
            if dims:
                self._kept[name, axis] = kept[keep_mask(dims[axis], plan.keep)]

    def plan(self, analysis: Analysis) -> Plan:
        """What stayed, as a plan for the original."""
        masks: dict[int, Mask] = {}
        for group in analysis.groups:
            for site in group.sites:
                places = positions_of(site.dim, group.atom)
                if places is not None:
                    there = np.isin(places, self._kept[site.tensor, site.axis])
                    masks[group.atom.id] = np.asarray(there.any(axis=1))
                    break
        return Plan.of(analysis.groups, masks)
