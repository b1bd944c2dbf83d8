"""The sensitivity of a model: every group alone loses some of its indices, and all others stay as they are.

What a group loses at a count is told by `objective`. Groups are surveyed one by one by an executor's workers, each of
which reads the model and scores it once. Which indices go follows from the scores of the criterion. What is finished is
kept in a journal, where there is one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from onnxprune.curves import PASSES, GroupCurve, Point, Sensitivity
from onnxprune.dependency import Group
from onnxprune.errors import UsageError
from onnxprune.evaluation import Evaluate, Run, evaluation
from onnxprune.executor import Executor
from onnxprune.fingerprints import data_print, versions
from onnxprune.journal import Journal, key_of
from onnxprune.model import Model
from onnxprune.objective import MOST, Objective
from onnxprune.passmanager import Pipeline, find
from onnxprune.recovery import stand_in
from onnxprune.stamp import place_of
from onnxprune.unit import Unit
from onnxprune.watching import Watch

__all__ = ["RATIOS", "Request", "survey"]

RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
Loss: TypeAlias = Callable[[Mapping[int, int]], float]  # of counts by atom


@dataclass(frozen=True)
class Request:
    """What is to be known: the loss of each group alone at each of `ratios`, the fraction of its indices removed.

    `options` are those of `curves.PASSES`, calibration samples among them; with `evaluate` the loss is the
    drop of a metric, which is better the higher it is unless `lower_is_better`.
    """

    ratios: tuple[float, ...] = RATIOS
    evaluate: str = ""
    lower_is_better: bool = False
    options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for ratio in self.ratios:
            if not 0 < ratio < 1:
                raise UsageError(f"--ratios {ratio:g}: expected fractions to remove, above 0 and below 1")
        if not self.ratios:
            raise UsageError("--ratios: expected at least one")
        if not (self.options or {}).get("calibration"):
            raise UsageError("sensitivity needs --calibration: inputs on which outputs are compared (random is one)")
        assert self.pipeline.passes

    @property
    def pipeline(self) -> Pipeline:
        """The passes that come before; `UsageError` for options that they do not have."""
        return Pipeline.of([(find(name), {}) for name in PASSES], self.options)

    @property
    def known(self) -> dict[str, Any]:
        """What determines the answers, beside the model."""
        options = self.options or {}
        data = [data_print(str(source or ""))
                for source in (options["calibration"], self.evaluate, options.get("preprocess"))]  # fmt: skip
        passes = [(step.name, asdict(step)) for step in self.pipeline.passes]  # type: ignore[call-overload]
        return {"passes": passes, "evaluate": self.evaluate, "lower": self.lower_is_better, "data": data,
                "versions": versions()}  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """What a worker opens: the model in a file, in the working directory `folder`."""

    model: str
    folder: str
    options: tuple[tuple[str, Any], ...]
    evaluate: str
    lower_is_better: bool


@dataclass(frozen=True)
class Question:
    """The losses of group number `place` when `counts` of its indices stay."""

    setup: Setup
    place: int
    name: str
    counts: tuple[int, ...]

    def __str__(self) -> str:
        return self.name


def survey(
    source: Model, request: Request, executor: Executor, journal: Path | None = None, *, watch: Watch
) -> Sensitivity:
    """The curves of all selected groups; those that `journal` has are not measured again.

    Errors: `UsageError` for data, patterns and criteria that cannot be, and where another run uses the journal.
    """
    unit = request.pipeline.run(Unit(source=source, watch=watch))
    assert unit.analysis is not None
    assert unit.candidates is not None
    assert unit.samples is not None
    assert unit.scores is not None
    asked = unit.candidates
    places = {group.atom.id: place for place, group in enumerate(unit.analysis.groups)}
    digest, known = source.digest, request.known
    keys = {g.name: key_of(model=digest, group=place_of(g), counts=_counts(g, request.ratios), **known) for g in asked}
    found: dict[str, dict[str, Any]] = {}
    none: dict[str, Any] = {}
    with _file_of(source) as file, nullcontext(none) if journal is None else Journal(journal) as written:
        setup = Setup(str(file), str(Path.cwd()), tuple((request.options or {}).items()), request.evaluate,
                      request.lower_is_better)  # fmt: skip
        found |= {g.name: written[keys[g.name]] for g in asked if keys[g.name] in written}
        open_ = [group for group in asked if group.name not in found]
        questions = [Question(setup, places[g.atom.id], g.name, _counts(g, request.ratios)) for g in open_]
        watch("sensitivity", len(found), len(asked))
        try:
            for place, answer in executor.map(answered, questions):
                found[open_[place].name] = answer
                if isinstance(written, Journal):
                    written.add(keys[open_[place].name], answer)
                watch("sensitivity", len(found), len(asked))
        finally:
            _bench.cache_clear()
    curves = tuple(_curve(group, found[group.name], request.ratios) for group in asked)
    options = request.options or {}
    measure = next((answer["measure"] for answer in found.values()), "none")
    samples = next((answer["samples"] for answer in found.values()), 0)
    return Sensitivity(
        source.source, measure, request.evaluate or str(options["calibration"]), samples,
        unit.scores.criterion, request.ratios, curves, unit.notes,
    )  # fmt: skip


def _counts(group: Group, ratios: Sequence[float]) -> tuple[int, ...]:
    """How many indices stay at each ratio: one at least."""
    return tuple(max(1, group.size - round(ratio * group.size)) for ratio in ratios)


def _curve(group: Group, answer: Mapping[str, Any], ratios: Sequence[float]) -> GroupCurve:
    losses = dict(zip(answer["counts"], answer["losses"], strict=True))
    points = (
        Point(ratio, 1 - kept / group.size, kept, losses[kept])
        for ratio, kept in zip(ratios, _counts(group, ratios), strict=True)
    )
    return GroupCurve(group.name, group.kind, group.size, tuple(points))


class _file_of:  # noqa: N801 (a context manager, used as a function)
    """The file of a model, for the workers to read; one that came from memory is written, for the time of the block."""

    def __init__(self, source: Model) -> None:
        self._source = source
        self._folder: TemporaryDirectory[str] | None = None

    def __enter__(self) -> Path:
        if self._source.files:
            return self._source.files[0].absolute()
        self._folder = TemporaryDirectory(prefix="onnxprune-")
        path = Path(self._folder.name, "model.onnx")
        self._source.save(path)
        return path

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()


# -- in a worker ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bench:
    """A session that answers for every group."""

    groups: Sequence[Group]
    loss: Loss
    measure: str
    samples: int


def answered(question: Question) -> dict[str, Any]:
    """The loss at each count, and what a loss is."""
    bench = _bench(question.setup)
    atom = bench.groups[question.place].atom.id
    counts = sorted(set(question.counts), reverse=True)
    losses = [float(bench.loss({atom: kept})) for kept in counts]
    return {"counts": counts, "losses": losses, "measure": bench.measure, "samples": bench.samples}


@lru_cache(maxsize=1)
def _bench(setup: Setup) -> _Bench:
    if Path.cwd() != Path(setup.folder):
        os.chdir(setup.folder)
    options = dict(setup.options)
    request = Request(evaluate=setup.evaluate, lower_is_better=setup.lower_is_better, options=options)
    unit = request.pipeline.run(Unit(source=Model.load(setup.model)))
    assert unit.analysis is not None
    assert unit.samples is not None
    assert unit.scores is not None
    threads, seed = int(options.get("threads", 1)), int(options.get("seed", 0))
    evaluate = _metric(unit, request) if setup.evaluate else None
    judged = unit.analysis if evaluate is not None else stand_in(unit.analysis, unit.shift)
    loss = Objective(judged, unit.scores.values, unit.samples, evaluate=evaluate,
                     threads=threads, seed=seed)  # fmt: skip
    measure = f"drop of {loss.measure}" if setup.evaluate else loss.measure
    return _Bench(unit.analysis.groups, loss, measure, 0 if setup.evaluate else min(len(unit.samples), MOST))


def _metric(unit: Unit, request: Request) -> Evaluate:
    """The evaluation that was asked for, its metrics such that more is better."""
    spec = (request.options or {}).get("preprocess")
    measure = evaluation(request.evaluate, unit.source.inputs, Path(spec) if spec else None)
    sign = -1.0 if request.lower_is_better else 1.0

    def signed(run: Run) -> dict[str, float]:
        found = measure(run)
        if not found:
            raise UsageError(f"{request.evaluate}: measured nothing; expected a number or a dict of numbers")
        return {name: sign * value for name, value in found.items()}

    return signed
