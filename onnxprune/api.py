"""The Python face: every command of the command line is one call of a function here."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from onnxprune import destination, stamp
from onnxprune import exploration as _exploration
from onnxprune import survey as _survey
from onnxprune.benchmark import Bench
from onnxprune.benchmark import bench as _bench
from onnxprune.curves import Sensitivity
from onnxprune.dependency import Analysis, analyse
from onnxprune.errors import UsageError
from onnxprune.executor import executor_of
from onnxprune.explanation import Explanation
from onnxprune.explanation import coupling as _coupling
from onnxprune.explanation import explain as _explain
from onnxprune.front import Front
from onnxprune.journal import Journal
from onnxprune.model import Model, Prober, from_graph, is_graph, parse_sizes
from onnxprune.passes.sense import Sense
from onnxprune.passmanager import Pipeline, pipeline_path
from onnxprune.plan import Plan
from onnxprune.probing import IsolatedProber
from onnxprune.recovery import restored
from onnxprune.report import Inspection, Report, inspection_of, report_of
from onnxprune.rules.facts import inexact_kinds
from onnxprune.sparsity import embedded, granularity_of, unmet
from onnxprune.trials import feeds_for
from onnxprune.unit import Unit
from onnxprune.verification import Verdict, Verifier
from onnxprune.watching import Watch, nobody

__all__ = [
    "ModelLike",
    "Proto",
    "Result",
    "bench",
    "explain",
    "inspect",
    "load",
    "prune",
    "search",
    "sensitivity",
    "shrink",
    "verify",
]


class Proto(Protocol):
    """What an `onnx.ModelProto` is to us."""

    def SerializeToString(self) -> bytes:  # noqa: N802 (protobuf's name)
        """The model as the bytes of a file."""
        ...


ModelLike: TypeAlias = "str | Path | bytes | Model | Proto"
"""A path, the bytes of a file, a loaded `Model`, an `onnx.ModelProto` or `onnx_graphsurgeon.Graph` (never changed)."""


@dataclass(frozen=True)
class Result:
    """A pruned and verified model (`model.save(path)`, `model.to_proto()`), and the report of how it was made."""

    model: Model
    report: Report


def prune(
    model: ModelLike,
    output: str | Path | None = None,
    *,
    pipeline: str | Path = "prune",
    journal: str | Path | None = None,
    watch: Watch | None = None,
    **options: Any,
) -> Result:
    """Prune a model with a pipeline, verify it, and write it to `output` if one is given.

    `pipeline` is the name of a pipeline that comes with onnxprune, or the path of a TOML file; `options` are those of
    its passes, by the names of the command line's flags with underscores (`sparsity=0.5`, `target="macs=0.5"`).
    With `granularity="branch"` the pipeline `prune` is replaced by `branch`, and with one below the channel (`"2:4"`)
    by `mask`: these have options of their own.
    With a `journal`, what an allocation tries is kept in that file, and a run that was stopped does not try it again.
    `watch` is called with (what, steps done, steps in all) while it runs.

    Errors: those of `onnxprune.errors`; after any of them nothing has been written.
    """
    if pipeline == "prune":
        pipeline = _pipeline_of(str(options.get("granularity", "channel")))
    steps = Pipeline.from_toml(pipeline_path(pipeline), **options)
    source = load(model)
    if output is not None:
        output = destination.check(output, source.files)
        destination.check(output.with_name(output.name + ".data"), source.files, "the output's data")
    if journal is not None:
        if not any(isinstance(step, Sense) and step.tries for step in steps.passes):
            raise UsageError("--journal keeps what an allocation tries, and this run's allocation tries nothing: leave "
                             "it out, or choose --allocation sensitivity, knapsack, netadapt or amc")  # fmt: skip
        journal = destination.check(journal, [*source.files, *([] if output is None else [output])], "the journal")
    with nullcontext() if journal is None else Journal(journal) as kept:
        unit = steps.run(Unit(source=source, watch=watch or nobody, journal=kept))
    if unit.model is None or unit.analysis is None or unit.plan is None or unit.verdict is None:
        raise UsageError(f"the pipeline {str(pipeline)!r} does not make and verify a model: it needs shrink and verify")
    made = unit.model if unit.model is unit.source else _stamped(unit, unit.model, unit.analysis, unit.plan)
    report = report_of(unit, made, None if output is None else str(output))
    if output is not None:
        made.save(output)
    return Result(made, report)


def shrink(model: ModelLike, output: str | Path | None = None, *, watch: Watch | None = None, **options: Any) -> Result:
    """Remove what is dead already, and change no output: channels that are zero, constant, equal or never read, and
    nodes and initializers that no output needs.

    The report counts by kind what was `removed`, and what was `left` by reason. The result is verified against the
    original itself; where nothing is dead it is the original, byte for byte. Options are those of the pipeline
    `shrink`, `watch` and errors as for `prune`.
    """
    return prune(model, output, pipeline="shrink", watch=watch, **options)


def inspect(
    model: ModelLike,
    *,
    size: Sequence[str] | str = (),
    allow_inexact: Sequence[str] | str = (),
    probe: bool = False,
    sparsity: bool = False,
) -> Inspection:
    """What could be pruned: groups with their sites and costs, and everything that is fixed, with the reason.

    `size` gives example sizes of symbolic dimensions (`"height=320"`); `allow_inexact` is that of `prune`; `probe` runs
    nodes that no rule knows; `sparsity` also looks for zeros, and for N:M, in the weights of every layer.
    """
    return inspection_of(_analysed(model, size, allow_inexact, probe), sparsity)


def explain(
    model: ModelLike,
    name: str,
    other: str | None = None,
    *,
    size: Sequence[str] | str = (),
    allow_inexact: Sequence[str] | str = (),
    probe: bool = False,
) -> list[Explanation]:
    """Why a group, tensor or node can or cannot be pruned; with `other`, why the two are pruned together."""
    analysis = _analysed(model, size, allow_inexact, probe)
    return _explain(analysis, name) if other is None else _coupling(analysis, name, other)


def verify(model: ModelLike, output: ModelLike, *, seed: int = 0, threads: int = 1) -> Verdict:
    """Prove again that `output`, as it stands on disk, is `model` with the indices silenced that its stamp names.

    Of a repaired output: that it is so cut from a model that has the graph of `model` and the output's weights in their
    places. Of an output whose weights were masked: that its graph computes what that of `model` does with the same
    weights, and that these have the zeros which the stamp states.

    Errors: `UsageError` for an output without a stamp or with a damaged one, `VerificationFailed` for one that was made
    from another model, or when the original does not run.
    """
    original, pruned = load(model), load(output)
    stated = stamp.read(pruned)
    sizes = stated["sizes"]
    stamp.check_origin(pruned, original)
    analysis = analyse(original, sizes, allow=frozenset(stated["allow"]), prober=_prober(stated["probe"]))
    plan, dropped = stamp.plan_of(pruned, analysis), stamp.dropped_of(pruned, analysis)
    if stated["repaired"]:
        analysis = restored(analysis, plan, pruned)
    feeds = feeds_for(original, sizes, seed=seed, others=analysis.shapes.other_sizes)
    with Verifier(analysis, feeds, threads, seed=seed) as verifier:
        if not stated["masks"]:
            return verifier.check_without(dropped, pruned) if dropped else verifier.check(plan, pruned)
        whole = embedded(analysis, plan, pruned)
        verdict, wrong = verifier.same(whole, pruned), unmet(analysis, whole, stated["masks"])
    return replace(verdict, passed=False, detail=wrong) if wrong and verdict.passed else verdict


def bench(models: Sequence[ModelLike], *, size: Sequence[str] | str = (), **options: Any) -> Bench:
    """Latency, memory and size of several models side by side, the first being the baseline.

    `size` gives sizes of symbolic dimensions (`"height=320"`); the other options are those of `benchmark.bench`.
    """
    return _bench([load(model) for model in models], sizes=_sizes(size), **options)


def sensitivity(
    model: ModelLike,
    *,
    calibration: str | Path,
    evaluate: str = "",
    ratios: Sequence[float] = _survey.RATIOS,
    lower_is_better: bool = False,
    workers: int | None = 1,
    scheduler: str = "",
    journal: str | Path | None = None,
    watch: Watch | None = None,
    **options: Any,
) -> Sensitivity:
    """What the model loses when one group alone loses indices: a curve for each group, at the fractions `ratios`.

    The loss is the divergence of the outputs on calibration samples, or with `evaluate` the drop of a metric. `workers`
    processes share the groups (None: one for each core), or the Dask cluster at `scheduler`. With a `journal`, what is
    finished is not measured again. `options` are those of the passes in `curves.PASSES`: `criterion`, `include`, ...

    Errors: `UsageError` for what cannot be; `PassFailed` where the model does not run.
    """
    request = _survey.Request(tuple(ratios), evaluate, lower_is_better, {**options, "calibration": str(calibration)})
    source = load(model)
    path = None if journal is None else destination.check(journal, source.files, "the journal")
    with executor_of(workers, scheduler) as executor:
        return _survey.survey(source, request, executor, path, watch=watch or nobody)


def search(
    model: ModelLike,
    output: str | Path,
    *,
    budget: str | Sequence[str] = "macs",
    points: Sequence[float] | None = None,
    trials: int | None = None,
    allocation: str | Sequence[str] = "auto",
    criterion: str | Sequence[str] = "auto",
    lower_is_better: bool = False,
    workers: int | None = None,
    scheduler: str = "",
    minutes: float | None = None,
    watch: Watch | None = None,
    **options: Any,
) -> Front:
    """The trade-off front: many prunings of one model, each verified and written into the folder `output`.

    Each `budget` is asked for at each of the `points` (the share that may stay; or at as many as `trials` says), by
    each `allocation` and `criterion`; `options` are those of `prune`. Models are judged by the metric of `evaluate`
    (better the higher, unless `lower_is_better`), else by the divergence of their outputs. What is finished, also by an
    earlier search that was interrupted, is not repeated; no trial begins after `minutes`.

    Errors: `UsageError` for what cannot be, or where another search is at work in the folder; `GateNotMet` where no
    trial met its target.
    """
    if points is not None and trials is not None:
        raise UsageError("--points and --trials both say what to try; give one of them")
    chosen = tuple(points or _exploration.POINTS) if trials is None else _exploration.points_of(trials)
    comma = _exploration.comma
    request = _exploration.Request(
        comma(budget), chosen, comma(allocation), comma(criterion), lower_is_better, dict(options)
    )
    source = load(model)
    with executor_of(workers, scheduler) as executor:
        return _exploration.explore(
            source, Path(output), request, executor, prune, minutes=minutes, watch=watch or nobody
        )


def load(model: ModelLike) -> Model:
    """A model from a path, bytes, a ModelProto (which is copied), a graphsurgeon Graph, or one that is loaded."""
    if isinstance(model, Model):
        return model
    if is_graph(model):
        return from_graph(model)
    if isinstance(model, (str, Path)):
        return Model.load(model)
    if isinstance(model, bytes):
        return Model.from_bytes(model)
    if not hasattr(model, "SerializeToString"):
        forms = "a path, bytes, a Model, an onnx.ModelProto or an onnx_graphsurgeon.Graph"
        raise UsageError(f"expected {forms}, found {type(model).__name__}")
    return Model.from_bytes(model.SerializeToString(), source="<proto>")


def _stamped(unit: Unit, model: Model, analysis: Analysis, plan: Plan) -> Model:
    dropped = [branch.node for branch in unit.branches if branch.dropped]
    if unit.masking is None:
        repaired = analysis.model is not unit.source
        return stamp.stamped(model, analysis, plan, dropped, original=unit.source, repaired=repaired)
    kept = plan if unit.stripped is None else unit.stripped.plan
    return stamp.stamped(model, analysis, kept, dropped, original=unit.source, masks=unit.masking.stated(model))


def _pipeline_of(granularity: str) -> str:
    """The pipeline that prunes at a granularity; `UsageError` for one that there is not."""
    if granularity in ("channel", "head"):
        return "prune"
    if granularity == "branch":
        return granularity
    granularity_of(granularity)  # or a word on what there is
    return "mask"


def _analysed(model: ModelLike, size: Sequence[str] | str, allow_inexact: Sequence[str] | str, probe: bool) -> Analysis:
    kinds = inexact_kinds(_texts(allow_inexact))
    return analyse(load(model), _sizes(size), allow=kinds, prober=_prober(probe))


def _prober(wanted: bool) -> Prober | None:
    return IsolatedProber() if wanted else None


def _sizes(size: Sequence[str] | str) -> dict[str, int]:
    return parse_sizes(_texts(size))


def _texts(given: Sequence[str] | str) -> Sequence[str]:
    return (given,) if isinstance(given, str) else given
