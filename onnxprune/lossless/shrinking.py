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


@dataclass(frozen=True)
class Shrunk:
    """A model without what was dead in it, analysed.

    `plan` says what stayed of each group of the original. `removed` counts by kind: `unread`, `zero`, `constant` and
    `duplicate` indices of groups, `nodes`, `initializers`, `outputs` and `identities` of the graph. `left` counts the
    constant indices that stay, by reason.
    """

    analysis: Analysis
    plan: Plan
    removed: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)

    @property
    def model(self) -> Model:
        """The smaller model; the original itself where nothing was dead."""
        return self.analysis.model


def shrink(
    analysis: Analysis,
    sizes: Mapping[str, int] | None = None,
    watch: Callable[[str, int, int], None] | None = None,
) -> Shrunk:
    """The analysed model without anything that changes no output; `sizes` are those that it was analysed with."""
    current, removed, trace = analysis, Counter[str](), _Trace(analysis.model)
    while True:
        if watch is not None:
            watch("remove what is dead", 0, 0)
        current = _swept(current, sizes, removed)
        places = readers(Flow(current))
        folds, rewrites = rewritable(current.groups, places)
        if folds:
            current = analyse(rewritten(current.model, folds), sizes, prober=current.prober)
            places = readers(Flow(current))
        keep, found = dead(current.groups, places)
        if not keep:
            break
        removed.update(rewrites)
        removed.update(found)
        removed["unread"] -= sum(rewrites.values())  # which nothing reads since they were rewritten
        plan = Plan.of(current.groups, keep)
        trace.follow(current, plan)
        current = analyse(cut.shrink(current, plan), sizes, prober=current.prober)
    kinds = {kind: number for kind, number in removed.items() if number}
    return Shrunk(current, trace.plan(analysis), kinds, constants_left(current.groups, places))


def _swept(analysis: Analysis, sizes: Mapping[str, int] | None, removed: Counter[str]) -> Analysis:
    model, counts = swept(analysis.model)
    removed.update(counts)
    return analysis if model is analysis.model else analyse(model, sizes, prober=analysis.prober)


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
