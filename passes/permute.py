"""permute: put channels in the order in which N:M loses least; the function stays the same, at no cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from onnxprune.passmanager import option
from onnxprune.unit import Unit

__all__ = ["Permute"]

BATCH = 32  # samples that are run at once
NOMINAL = 0.5  # the sparsity that N:M with the letter N is searched for


@dataclass(frozen=True)
class Permute:
    """Searches for an order of every group that masked layers read, and proves that the permuted model is the original.

    Only for N:M, where inputs that stand together compete; what runs next is `mask`, on the permuted model.
    """

    name: ClassVar[str] = "permute"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis"})
    gives: ClassVar[frozenset[str]] = frozenset({"analysis"})

    permute: str = option("auto", "N:M: reorder channels first, so that less is lost.", choices=("auto", "off"))
    granularity: str = option("element", "element, N:M (2:4), vector:N, block:RxC, kernel, stripe or pattern.", "FORM")
    sparsity: float | None = option(None, "Fraction of the weights to set to zero (0.5; N:M states its own).", "F")
    include: tuple[str, ...] = option((), "Mask only layers or weights of that name, or op:TYPE.", "PATTERN")
    exclude: tuple[str, ...] = option((), "Leave alone layers or weights of that name, or op:TYPE.", "PATTERN")
    skip: tuple[str, ...] = option((), "Masks: leave alone the first or last layer (default: neither).", "first,last")
    embeddings: bool = option(False, "Masks: set weights of embeddings to zero, too.")
    seed: int = option(0, "Seed of everything that is random.", "N", minimum=0)
    threads: int = option(1, "Threads of ONNX Runtime and of repairs.", "N", minimum=1)

    def run(self, unit: Unit) -> Unit:
        """Search, permute, prove, analyse again; an order that cannot be proven is not taken, and that is said."""
        from onnxprune.dependency import analyse
        from onnxprune.permutation import permuted
        from onnxprune.recovery import shift_of
        from onnxprune.sparsity import Lanes, chosen, granularity_of, reordering, skipped
        from onnxprune.trials import feeds_for
        from onnxprune.verification import Verifier

        assert unit.analysis is not None
        form, known = granularity_of(self.granularity), unit.analysis
        if self.permute == "off" or not isinstance(form, Lanes):
            return unit
        targets = chosen(known, self.include, self.exclude, skipped(self.skip), self.embeddings)
        sparsity = NOMINAL if self.sparsity is None else self.sparsity
        found = reordering(known, targets, form, sparsity, self.seed, unit.watch)
        if not found.orders:
            return replace(unit, reordering=found)
        shapes, model = known.shapes, permuted(known, found.orders)
        feeds = feeds_for(unit.source, shapes.sizes, unit.samples, self.seed, others=shapes.other_sizes)
        with Verifier(known, feeds, self.threads, seed=self.seed) as verifier:
            verdict = verifier.same(known.model, model)
        if not verdict.passed:
            note = f"channels keep their order, because the permuted model is not the original: {verdict.detail}"
            return replace(unit, notes=(*unit.notes, note))
        made = analyse(model, shapes.sizes, prober=known.prober)
        shift = unit.shift
        if shift and unit.samples is not None:  # in the order of the source's channels
            shift = shift_of(made, list(unit.samples.batches(BATCH)))
        return replace(unit, analysis=made, reordering=found, shift=shift)
