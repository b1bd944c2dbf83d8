"""A pruned model refitted and judged as a whole: on samples held out, are its outputs nearer to the original's?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy.typing as npt

from onnxprune.analysis import Analysis
from onnxprune.model import Edit, Model
from onnxprune.recovery.affine import affine
from onnxprune.recovery.evidence import parted
from onnxprune.recovery.reconstruct import Repair, Solver, least_squares, repaired
from onnxprune.recovery.reselecting import reselecting
from onnxprune.recovery.stepping import Feed
from onnxprune.runtime.change import Change, change
from onnxprune.runtime.isolated import Isolated
from onnxprune.sparsity import Choice

__all__ = ["SOLVERS", "Refitted", "refitted", "with_weights"]

Array: TypeAlias = npt.NDArray[Any]
SOLVERS: Mapping[str, Solver] = MappingProxyType({"reconstruct": least_squares, "norm": affine})


@dataclass(frozen=True)
class Refitted:
    """New weights by name; how far the outputs on held-out samples were from the original's, and how far they are.

    `left` says by name of each layer that was changed and cannot be refitted why.
    """

    values: Mapping[str, Array]
    repairs: tuple[Repair, ...]
    before: Change
    after: Change
    left: Mapping[str, str]

    @property
    def better(self) -> bool:
        """Whether the outputs are nearer: by the divergence of scores where they are scores, else by their distance."""
        if self.before.divergence is not None and self.after.divergence is not None:
            return self.after.divergence < self.before.divergence
        return self.after.relative < self.before.relative


def refitted(
    original: Analysis,
    pruned: Analysis,
    batches: Sequence[Feed],
    method: str = "reconstruct",
    choices: Mapping[str, Choice] | None = None,
    *,
    seed: int = 0,
    threads: int = 1,
    watch: Callable[[int, int], None] | None = None,
) -> Refitted:
    """Refit `pruned`, which is `original` with weights silenced, by a method of `SOLVERS`; see `reconstruct`.

    With `choices`, masks of weights are chosen anew by `reconstruct`; see `reselecting`.

    The whole models run in a child process. Errors: `RunFailed` where one does not run on the batches.
    """
    held = [batches[k] for k in parted(len(batches))[1]]
    solver = reselecting(choices) if choices and method == "reconstruct" else SOLVERS[method]
    with Isolated(threads=threads) as process:
        wanted = process.run(original.model.to_bytes(), held)
        before = change(wanted, process.run(pruned.model.to_bytes(), held))
        found = repaired(original, pruned, batches, solver, seed=seed, threads=threads, watch=watch)
        mended = with_weights(pruned.model, found.pruned_values)
        after = change(wanted, process.run(mended.to_bytes(), held))
    return Refitted(found.values, found.repairs, before, after, found.left)


def with_weights(model: Model, values: Mapping[str, Array]) -> Model:
    """The model with new values of constant tensors."""
    edit = Edit(model)
    for name, array in values.items():
        edit.replace(name, array)
    return edit.done()
