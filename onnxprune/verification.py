"""The theorem, checked: run(mask) == run(shrink) in ONNX Runtime, and, where it fails, which groups are at fault.

Models run in a child process that may crash without us. The tolerance is learnt from the model itself, run with and
without the runtime's optimisations: see `runtime.comparison`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType

import numpy as np

from onnxprune import cut
from onnxprune.branches import Branch, silence
from onnxprune.continuity import in_front
from onnxprune.dependency import Analysis
from onnxprune.errors import VerificationFailed
from onnxprune.model import Array, Model
from onnxprune.plan import Plan
from onnxprune.runtime.change import Change, broken, change
from onnxprune.runtime.comparison import Noise, compare, float_noise
from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.isolated import Isolated
from onnxprune.trials import Feed, batch_of, sizes_of, tried

__all__ = ["Verdict", "Verifier"]

Outputs = list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found: `max_error` is relative to the outputs' own scale, over `inputs` different inputs.

    `batches` are the sizes of the first axis of these inputs, `sizes` those of the symbolic dimensions of the first;
    `left_out` says, a sentence each, on which inputs the original itself does not run, so that nothing could be
    compared there.

    Where `exact` is false, more was changed, on request, than silencing can tell of: then `max_error` is that of the
    part that is exact, and `change` says how far the pruned model's outputs are from the original's.
    """

    passed: bool
    max_error: float
    inputs: int
    batches: tuple[int, ...]
    detail: str
    left_out: tuple[str, ...] = ()
    exact: bool = True
    change: Change | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)


class Verifier:
    """Runs mask against shrink for one analysis; a context manager, because it keeps a child process.

    Inputs on which the original itself does not run (a batch size that the graph does not really take) are left
    out; where none is left, inputs of other sizes are tried. Errors: `VerificationFailed` when it runs on none.
    """

    def __init__(
        self, analysis: Analysis, feeds: Sequence[Feed], threads: int = 1, timeout: float = 600.0, seed: int = 0
    ) -> None:
        self.analysis = analysis
        self._process = Isolated(threads=threads, timeout=timeout)
        self._feeds = list(feeds)
        self._own_noise: Noise | None = None
        self._left_out: tuple[str, ...] = ()
        self._seed = seed

    def __enter__(self) -> Verifier:
        self._process.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.__exit__(kind, error, trace)

    def check(self, plan: Plan, shrunk: Model | None = None) -> Verdict:
        """Compare mask and shrink (or a model that claims to be the shrunk one) on every input.

        Of a plan that cuts what is open only on request, the rest is compared like that; the whole must run, with
        outputs of the same shapes that are finite, and its change is measured.
        """
        opened = self.analysis.inexact & frozenset(plan.keep)
        if not opened:
            return self._compare(plan, shrunk)
        verdict = self._compare(plan.without(opened))
        if not verdict.passed:
            return verdict
        return self.measure(cut.shrink(self.analysis, plan) if shrunk is None else shrunk, verdict)

    def measure(self, pruned: Model, verdict: Verdict, original: Model | None = None) -> Verdict:
        """`verdict` of the exact part of what was done, and how far the outputs of `pruned` are from the original's."""
        self._noise()
        try:
            before, after = self._run(original or self.analysis.model), self._run(pruned)
        except RunFailed as failure:
            return replace(self._failed(f"the pruned model does not run: {failure.reason}"), exact=False)
        wrong = broken(before, after)
        if wrong is not None:
            return replace(self._failed(wrong), exact=False)
        return replace(verdict, exact=False, change=change(before, after))

    def check_without(self, dropped: Sequence[Branch], pruned: Model, original: Model | None = None) -> Verdict:
        """Whether `pruned` is the analysed model with these branches silent; how far its outputs are from `original`'s.

        That is the analysed model, too, where nothing else is said: of a repaired one, the model before.
        """
        verdict = self.same(silence(self.analysis, dropped), pruned)
        return self.measure(pruned, verdict, original) if verdict.passed and dropped else verdict

    def change_of(self, other: Model) -> Change:
        """How far the outputs of another model are from the original's; infinitely, where it does not run."""
        self._noise()
        try:
            return change(self._run(self.analysis.model), self._run(other))
        except RunFailed:
            return Change(float("inf"), None, "")

    def _compare(self, plan: Plan, shrunk: Model | None = None) -> Verdict:
        masked, shrunk = cut.mask(self.analysis, plan), cut.shrink(self.analysis, plan) if shrunk is None else shrunk
        verdict = self.same(masked, shrunk)
        front = () if verdict.passed else in_front(self.analysis, plan)
        if not front:
            return verdict
        outputs = {name: self.analysis.shapes.dtype[name] for name in front}
        earlier = self.same(masked.with_outputs(outputs), shrunk.with_outputs(outputs))
        return earlier if earlier.passed else verdict

    def same(self, masked: Model, shrunk: Model) -> Verdict:
        """Whether two models give the same outputs on every input."""
        noise = self._noise()
        try:
            reference = self._run(masked)
            unoptimised = self._run(masked, optimise=False)
        except RunFailed as failure:
            return self._failed(f"the masked model does not run: {failure.reason}")
        try:
            candidate = self._run(shrunk)
        except RunFailed as failure:
            return self._failed(f"the pruned model does not run: {failure.reason}")
        noise = _larger(noise, float_noise(reference, unoptimised))
        found = compare(reference, candidate, noise)
        if not found.passed:  # a graph may amplify rounding that no optimisation happens to change
            shaken = self._process.run(masked.to_bytes(), [_shaken(feed) for feed in self._feeds])
            found = compare(reference, candidate, _larger(noise, float_noise(reference, shaken)))
        return self._verdict(found.passed, found.max_error, found.detail)

    def _failed(self, detail: str) -> Verdict:
        return self._verdict(False, float("inf"), detail)

    def _verdict(self, passed: bool, max_error: float, detail: str) -> Verdict:
        batches = tuple(dict.fromkeys(batch_of(feed) for feed in self._feeds))
        return Verdict(passed, max_error, len(self._feeds), batches, detail, self._left_out,
                       sizes=sizes_of(self.analysis.model, self._feeds[0]))  # fmt: skip

    def faults(self, plan: Plan, on_check: Callable[[int], None] | None = None) -> frozenset[int]:
        """The atoms whose cut breaks the theorem: groups join half by half, and one that breaks it is at fault.

        `on_check(n)` is called before the n-th comparison.
        """
        checks = 0
        good: frozenset[int] = frozenset()
        everything = frozenset(plan.keep)
        bad: set[int] = set()
        work = [sorted(everything)]
        while work:
            block = work.pop()
            checks += 1
            if on_check is not None:
                on_check(checks)
            if self.check(plan.without(everything - good - frozenset(block))).passed:
                good |= frozenset(block)
            elif len(block) == 1:
                bad.add(block[0])
            else:
                middle = len(block) // 2
                work.extend((block[middle:], block[:middle]))
        return frozenset(bad)

    def _noise(self) -> Noise:
        """How much the original differs from itself when optimised differently; leaves out inputs it cannot take."""
        if self._own_noise is None:
            original = self.analysis.model
            try:
                optimised = self._run(original)
            except RunFailed:
                self._feeds = self._runnable(original)
                optimised = self._run(original)
            self._own_noise = float_noise(optimised, self._run(original, optimise=False))
        return self._own_noise

    def _runnable(self, original: Model) -> list[Feed]:
        """The inputs on which the original runs, on other sizes where need be."""
        found = tried(original, self._feeds, lambda feed: self._process.run(original.to_bytes(), [feed]), self._seed)
        if not found.feeds:
            raise VerificationFailed(
                f"the original model {original.source!r} does not run in ONNX Runtime on any input that was tried, "
                f"so nothing can be proven of it: {found.reason}"
            )
        self._left_out = found.left_out
        return found.feeds

    def _run(self, model: Model, optimise: bool = True) -> Outputs:
        return self._process.run(model.to_bytes(), self._feeds, optimise=optimise)


def _shaken(feed: Feed) -> dict[str, Array]:
    """The feed with its floats changed by about one unit in the last place, as rounding would."""
    generator = np.random.default_rng(0)
    shaken = {}
    for name, array in feed.items():
        if array.dtype in (np.float32, np.float64, np.float16):
            signs = generator.choice(np.array([-1, 1], dtype=array.dtype), array.shape)
            shaken[name] = array * (1 + signs * np.finfo(array.dtype).eps)
        else:
            shaken[name] = array
    return shaken


def _larger(a: Noise, b: Noise) -> Noise:
    def merge(x: Mapping[str, float], y: Mapping[str, float]) -> dict[str, float]:
        return {name: max(x.get(name, 0.0), y.get(name, 0.0)) for name in {*x, *y}}

    return Noise(merge(a.errors, b.errors), merge(a.shares, b.shares))
