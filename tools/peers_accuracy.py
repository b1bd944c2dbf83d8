"""What other tools' one-shot pruning is worth beside ours, on the same networks, images and budgets: Markdown.

    python -m tools.peers_accuracy [--only REGEX] [--results FILE] [--seeds 3] [--ours recovery.jsonl] [--write PAGE]

Wants `torch`, `torch-pruning` and `onnxsim` beside onnxprune, in an environment of their own. Nothing is trained. Each
method gets the same draws of 256 unlabelled training images as `tools.recovery`, is judged on the same test images, and
stays below the same budget: its ratio is bisected until the MACs are the most that fit, counted by onnxprune in the
model that comes out. `--ours` is the file of results of `tools.recovery`, whose cells are put below theirs.

* Torch-Pruning gets the model as a torch module whose outputs are compared with the original's first
  (`tools/torch_module.py`). It prunes the first convolution of each block: given all layers it fails on the shortcuts
  that pad channels with zeros. `local` is one ratio for all layers, `global` one ranking over all. Taylor's gradients
  are of the cross-entropy with the class that the unpruned model says, so no label is used. What is left is written
  into the ONNX model.
* onnxsim works on the ONNX model: masks by magnitude, Wanda and SparseGPT, channels by the norm of filters and by
  Wanda. `ridge` is its own refit of what is left (`apply_pruning_finetune`), which reaches MatMul and Gemm: here the
  last layer.
"""

from __future__ import annotations

import argparse
import copy
import re
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxprune.cost import Costs
from onnxprune.dependency import analyse
from onnxprune.model import Model
from onnxprune.runtime.machine import this_machine
from tools import recovery
from tools.page import written
from tools.results import append, read
from tools.subjects import Subject, subject

Array = npt.NDArray[Any]
TARGETS = {"1.5x MACs": 1.5, "2x MACs": 2.0}
FORMS: Mapping[str, Mapping[str, Any]] = {
    "2:4": {"n": 2, "m": 4},
    "1:4": {"n": 1, "m": 4},
    **{f"{share}%": {"sparsity": share / 100} for share in (70, 80, 90)},
}
TRIES = 12  # halvings of the interval of ratios
BATCH = 64


@dataclass(frozen=True)
class Cell:
    """One pruning: top-1 in percent before and after, KL divergence in nats, MACs of the original over those after (or
    the share of zeros of the masked weights), seconds of one pruning without the search for its ratio.
    """

    model: str
    amount: str
    method: str
    seed: int
    after: float = 0.0
    before: float = 0.0
    kl: float = 0.0
    reached: float = 0.0
    seconds: float = 0.0

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What it is a measurement of."""
        return self.model, self.amount, self.method, self.seed


@dataclass(frozen=True)
class Task:
    """A model as others take it, and the batches that it is calibrated with."""

    proto: onnx.ModelProto
    batches: tuple[dict[str, Array], ...]

    def model(self) -> onnx.ModelProto:
        """A copy that may be changed."""
        made = onnx.ModelProto()
        made.CopyFrom(self.proto)
        return made


Prune = Callable[[Task], Callable[[float], onnx.ModelProto]]
"""Of a task, what prunes its model by a ratio: what does not depend on the ratio is done once."""


def torch_pruning(kind: str, everywhere: bool) -> Prune:
    """Torch-Pruning's group importance, in one ranking over all layers or with one ratio for each."""

    def prepared(task: Task) -> Callable[[float], onnx.ModelProto]:
        import torch
        import torch_pruning as tp

        from tools.torch_module import twin

        torch.set_num_threads(1)
        found = twin(task.proto)
        images = [torch.from_numpy(next(iter(batch.values()))) for batch in task.batches]
        compare(task, [found.module(batch).detach().numpy() for batch in images[:1]])
        inner = {found.layer(name) for name in inner_weights(task.proto)}
        if kind == "taylor":
            for batch in images:
                scores = found.module(batch)
                torch.nn.functional.cross_entropy(scores, scores.argmax(dim=1), reduction="sum").backward()

        def prune(ratio: float) -> onnx.ModelProto:
            module = copy.deepcopy(found.module)
            for mine, theirs in zip(module.parameters(), found.module.parameters(), strict=True):
                mine.grad = theirs.grad
            importances = {
                "magnitude": tp.importance.GroupMagnitudeImportance,
                "taylor": tp.importance.GroupTaylorImportance,
            }
            left = [module.get_submodule(name) for name in found.names if found.module.get_submodule(name) not in inner]
            tp.pruner.BasePruner(
                module, images[0][:1], importance=importances[kind](), global_pruning=everywhere, pruning_ratio=ratio,
                ignored_layers=left,
            ).step()  # fmt: skip
            return found.written(task.proto, module)

        return prune

    return prepared


def inner_weights(proto: onnx.ModelProto) -> Iterator[str]:
    """The weights of convolutions whose channels only one other convolution reads."""
    analysis = analyse(Model.from_bytes(proto.SerializeToString()))
    for group in analysis.groups:
        written_by = [s.tensor for s in group.sites if s.axis == 0 and len(analysis.model.array(s.tensor).shape) == 4]
        read_by = [s.tensor for s in group.sites if s.axis == 1]
        if len(written_by) == len(read_by) == 1:
            yield from written_by


def compare(task: Task, outputs: Sequence[Array]) -> None:
    """`ValueError` where the module does not compute what the model does, on the first batch."""
    from onnxprune.runtime.session import Session

    run = Session(task.proto.SerializeToString()).run
    for batch, values in zip(task.batches, outputs, strict=False):
        apart = float(np.abs(next(iter(run(batch).values())) - values).max())
        if apart > 1e-4:
            raise ValueError(f"the torch module is {apart:.1e} from the model; expected less than 1e-4")


def onnxsim(name: str, everywhere: bool = False, data: bool = False, ridge: bool = False) -> Prune:
    """A function of onnxsim.pruning that takes channels, with its refit behind it or without."""

    def prepared(task: Task) -> Callable[[float], onnx.ModelProto]:
        from onnxsim import finetune, pruning

        def prune(ratio: float) -> onnx.ModelProto:
            options: dict[str, Any] = {"calibration_data": task.batches} if data else {}
            made = getattr(pruning, name)(task.model(), sparsity=ratio, global_sparsity=everywhere, **options)
            if ridge:
                made = finetune.apply_pruning_finetune(task.model(), made, calibration_data=task.batches)
            return made  # type: ignore[no-any-return]

        return prune

    return prepared


CHANNELS: Mapping[str, Prune] = {
    **{
        f"Torch-Pruning, {kind}, {'global' if everywhere else 'local'}": torch_pruning(kind, everywhere)
        for kind in ("magnitude", "taylor")
        for everywhere in (False, True)
    },
    **{
        f"onnxsim, {kind}, {'global' if everywhere else 'local'}": onnxsim(name, everywhere, kind == "wanda")
        for kind, name in (("l2", "apply_structured_pruning"), ("wanda", "apply_structured_wanda_pruning"))
        for everywhere in (False, True)
    },
    "onnxsim, wanda, local, ridge": onnxsim("apply_structured_wanda_pruning", data=True, ridge=True),
}
MASKS = {
    "onnxsim, magnitude": "apply_magnitude_pruning",
    "onnxsim, wanda": "apply_wanda_pruning",
    "onnxsim, sparsegpt": "apply_sparsegpt_pruning",
}
DATALESS = tuple(name for name in (*CHANNELS, *MASKS) if "magnitude" in name or "l2" in name)
"""Of these, one draw says all."""

ROWS = (
    *((f"cifar10_{model}", amount) for model in ("resnet20", "resnet56") for amount in TARGETS),
    *(("cifar10_resnet20", amount) for amount in FORMS),
)


def most(prune: Callable[[float], onnx.ModelProto], wanted: float, macs: Callable[[onnx.ModelProto], int]) -> float:
    """The least ratio, to within 1/4096, at which the MACs are at most the `wanted` ones; `ValueError`: none is."""
    low, high = 0.0, 1.0
    for _ in range(TRIES):
        middle = (low + high) / 2
        low, high = (low, middle) if macs(prune(middle)) <= wanted else (middle, high)
    if high == 1.0:
        raise ValueError("no ratio leaves so few MACs")
    return high


def macs_of(proto: onnx.ModelProto) -> int:
    """Multiply-accumulates for one image, counted by onnxprune."""
    return Costs.of(analyse(Model.from_bytes(proto.SerializeToString()))).macs()


@cache
def _subject(model: str, assets: Path) -> Subject:
    return subject(model, assets)


def measured(cell: Cell, assets: Path) -> Cell:
    """Prune once and judge."""
    who = _subject(cell.model, assets)
    images = who.drawn(cell.seed)
    proto = onnx.load(who.path)
    (name,) = who.test.arrays
    task = Task(proto, tuple({name: images[at : at + BATCH]} for at in range(0, len(images), BATCH)))
    if cell.amount in TARGETS:
        before = macs_of(proto)
        ratio = most(CHANNELS[cell.method](task), before / TARGETS[cell.amount], macs_of)
        start = time.perf_counter()
        made = CHANNELS[cell.method](task)(ratio)
        reached = before / macs_of(made)
    else:
        from onnxsim import pruning

        options = {} if cell.method in DATALESS else {"calibration_data": task.batches}
        start = time.perf_counter()
        made = getattr(pruning, MASKS[cell.method])(task.model(), **FORMS[cell.amount], **options)
        reached = zeros(made)
    seconds = time.perf_counter() - start
    judged = who.judge(Model.from_bytes(made.SerializeToString()))
    return replace(cell, after=judged.after, before=judged.before, kl=judged.kl, reached=reached, seconds=seconds)


def zeros(proto: onnx.ModelProto) -> float:
    """The share of zeros in the weights of convolutions and products that nodes read."""
    read = {node.input[1] for node in proto.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")}
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer if tensor.name in read]
    return 1 - float(sum(np.count_nonzero(a) for a in arrays) / sum(a.size for a in arrays))


def wanted(only: str, seeds: int) -> Iterator[Cell]:
    """Every cell that matches."""
    for seed in range(seeds):
        for model, amount in ROWS:
            for method in CHANNELS if amount in TARGETS else MASKS:
                if (seed == 0 or method not in DATALESS) and re.search(only, f"{model} {amount} {method} {seed}"):
                    yield Cell(model, amount, method, seed)


def table(cells: Sequence[Cell], ours: Sequence[recovery.Cell], rows: Sequence[tuple[str, str]]) -> str:
    """A method in each row, a model and an amount in each column: top-1, KL, and the MACs ratio that was reached."""
    texts: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    found: dict[tuple[str, tuple[str, str]], list[Cell]] = defaultdict(list)
    for cell in cells:
        found[cell.method, (cell.model, cell.amount)].append(cell)
    for theirs in ours:
        cell = Cell(*theirs.key, theirs.after, theirs.before, theirs.kl, 1 / theirs.reached if theirs.reached else 0.0)
        found[f"**onnxprune, {theirs.recipe}**", (theirs.model, theirs.amount)].append(cell)
    for (method, row), part in found.items():
        ratio = f" ({statistics.mean(c.reached for c in part):.2f}x)" if row[1] in TARGETS else ""
        texts[method][row] = f"{_spread([c.after for c in part], 1)}; {_spread([c.kl for c in part], 2)}{ratio}"
    methods = [*(CHANNELS if rows[0][1] in TARGETS else MASKS),
               *(f"**onnxprune, {recipe}**" for recipe in recovery.RECIPES)]  # fmt: skip
    prefix = "cifar10_"
    return "\n".join([
        f"| method | {' | '.join(f'{m.removeprefix(prefix)}, {amount}' for m, amount in rows)} |",
        "|---" * (len(rows) + 1) + "|",
        *(f"| {m} | {' | '.join(texts[m].get(row, '') for row in rows)} |" for m in methods if m in texts
          and any(row in texts[m] for row in rows)),
    ])  # fmt: skip


def _spread(values: Sequence[float], digits: int) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def markdown(cells: Sequence[Cell], ours: Sequence[recovery.Cell]) -> str:
    """Both tables."""
    return "\n".join([
        f"{this_machine()}; Torch-Pruning {version('torch-pruning')}, onnxsim {version('onnxsim')}. Top-1 in percent; "
        "KL to the original in nats; in brackets the MACs of the original over what is left.", "",
        table(cells, ours, [row for row in ROWS if row[1] in TARGETS]), "",
        table(cells, ours, [row for row in ROWS if row[1] in FORMS]), "",
    ])  # fmt: skip


def main() -> int:
    """0 when every cell that was asked for is measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="measure only 'model amount method seed' that match")
    parser.add_argument("--results", type=Path, default=Path("peers_accuracy.jsonl"))
    parser.add_argument("--ours", type=Path, default=Path("recovery.jsonl"), help="results of tools.recovery")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--assets", type=Path, default=recovery.ASSETS)
    parser.add_argument("--write", type=Path, help="a page whose table is written anew")
    arguments = parser.parse_args()
    known = {cell.key: cell for cell in read(arguments.results, Cell)}
    failed = 0
    for cell in wanted(arguments.only, arguments.seeds):
        if cell.key in known:
            continue
        try:
            known[cell.key] = measured(cell, arguments.assets)
        except Exception as error:  # another tool's: whatever it raises is told, and the other cells are measured
            print(f"{cell.key}: {type(error).__name__}: {error}", file=sys.stderr)
            failed += 1
            continue
        append(arguments.results, known[cell.key])
        print(known[cell.key], file=sys.stderr)
    text = markdown(list(known.values()), recovery.results(arguments.ours))
    if arguments.write:
        arguments.write.write_text(written(arguments.write.read_text(), "peers-accuracy", text))
    print(text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
