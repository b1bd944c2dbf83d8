"""What a node's time is made of, each as terms of counts: starting it, moving its tensors, and multiplying.

Moving has two features, because a tensor that no longer fits into a cache takes longer for each of its numbers: they
are the sizes of tensors and the squares of these. With the sizes alone, a depthwise convolution of 96 channels of 112 x
112 was predicted to take half of what it does, and one of 16 half as much again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

from onnxprune.analysis import Analysis
from onnxprune.cost import Term
from onnxprune.liveness import batch_of
from onnxprune.rules.facts import Work

__all__ = ["PARTS", "Features"]

PARTS = ("starting", "moving", "spilling", "working", "between")  # the features of nodes, and what is between nodes
MILLION = 1e-6  # terms are in millions of numbers, so that coefficients are of the size of milliseconds


@dataclass(frozen=True)
class Features:
    """The terms of each part of each node, for a batch of one, in millions of numbers moved and multiplied.

    The sizes in what is multiplied are rounded up to `block`: a kernel takes as long for a part of a block as for all.
    """

    analysis: Analysis
    block: int

    def of(self, node: int) -> tuple[tuple[Term, ...], ...]:
        """The terms of each feature of a node: a constant; the tensors it reads or writes; their squares; its works."""
        model = self.analysis.model
        names = dict.fromkeys((*model.nodes[node].inputs, *model.nodes[node].outputs))
        moved = tuple(t for name in names if (t := self._tensor(node, name)) is not None)
        work = self._work.get(node, ())
        worked = tuple(Term(node, w.coefficient * MILLION, w.dims, self.block) for w in work)
        squares = tuple(Term(node, term.coefficient**2, (*term.dims, *term.dims)) for term in moved)
        return (Term(node, 1.0, ()),), moved, squares, worked

    def everything(self) -> tuple[Term, ...]:
        """All numbers that the model moves: what runs between nodes, such as changes of layout, is a share of them."""
        return tuple(replace(term, owner="") for node in self.analysis.model.nodes for term in self.of(node.index)[1])

    def _tensor(self, node: int, name: str) -> Term | None:
        analysis = self.analysis
        if not name or name in analysis.model.weights or analysis.shapes.shape.get(name) is None:
            return None
        dims = analysis.dims(name)
        return Term(node, MILLION / prod(batch_of(analysis, dims)), dims)

    @cached_property
    def _work(self) -> Mapping[int, list[Work]]:
        found: dict[int, list[Work]] = defaultdict(list)
        for node, work in self.analysis.work:
            found[node].append(work)
        return found
