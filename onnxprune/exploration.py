"""A search tries many prunings of one model, and knows at any moment what came of those that are finished.

Each trial is one call of `prune` with a target, in a worker, which writes a verified model into the search's folder.
The folder has

* `journal.jsonl`: what was finished; a search that is started again repeats none of it, but tries anew what failed,
* `results.json`, `results.csv`, `front.svg`, `front.png`: all of that and the front, written anew after each trial
  (plots at most every few seconds),
* the models, named after what was asked for and the first digits of the trial's key.

A key is a hash of everything that a trial depends on: the model, every option of every pass, the data, versions, and
the machine. Trials go from coarse to fine, so that a search that is stopped leaves a front of wide steps.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from onnxprune import destination
from onnxprune.errors import GateNotMet, ModelReadError, OnnxPruneError, OutputNotWritten, PassFailed, UsageError
from onnxprune.executor import Executor, WorkerLost
from onnxprune.fingerprints import data_print, versions
from onnxprune.front import Figures, Front, Tried
from onnxprune.journal import Journal, key_of
from onnxprune.model import Model
from onnxprune.passmanager import Pass, Pipeline, find, pipeline_path
from onnxprune.plots import draw_front
from onnxprune.report import Report
from onnxprune.runtime.change import change
from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.isolated import Isolated
from onnxprune.runtime.machine import this_machine
from onnxprune.unit import Unit
from onnxprune.watching import Watch

__all__ = ["JOURNAL", "POINTS", "Request", "Trial", "coarse_to_fine", "comma", "explore", "points_of"]

JOURNAL = "journal.jsonl"
POINTS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
BUDGETS = ("latency", "macs", "params", "size")
RANDOM = "random:64"  # what outputs are compared on where no calibration samples are given
MOST, BATCH = 128, 32  # of the samples on which outputs are compared, and how many at once
ROUNDS = 40
REDRAW = 5.0  # seconds between two plots, at least


class Pruned(Protocol):
    """What comes of a call of `prune`."""

    @property
    def report(self) -> Report:
        """The report."""
        ...


Prune = Callable[..., Pruned]


@dataclass(frozen=True)
class Request:
    """What is to be tried: each budget at each point (the share that may stay), by each allocation and criterion.

    `options` are those of the pipeline `prune`, `lower_is_better` is true of a metric such as a perplexity. Errors:
    `UsageError` for what cannot be, before anything runs.
    """

    budgets: tuple[str, ...] = ("macs",)
    points: tuple[float, ...] = POINTS
    allocations: tuple[str, ...] = ("auto",)
    criteria: tuple[str, ...] = ("auto",)
    lower_is_better: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for budget in self.budgets:
            if budget not in BUDGETS:
                raise UsageError(f"--budget {budget!r}: expected one or more of {', '.join(BUDGETS)}")
        for point in self.points:
            if not 0 < point < 1:
                raise UsageError(f"--points {point:g}: expected shares of the original that stay, above 0 and below 1")
        for what, given in (("budget", self.budgets), ("points", self.points), ("allocation", self.allocations),
                            ("criterion", self.criteria)):  # fmt: skip
            if not given:
                raise UsageError(f"--{what}: expected at least one")
        for name in ("target", "sparsity"):
            if self.options.get(name) not in (None, ()):
                raise UsageError(f"a search sets --{name} of its trials itself: say --budget and --points")
        for options in self.each():
            Pipeline.from_toml(pipeline_path("prune"), **options)

    def each(self) -> Iterator[dict[str, Any]]:
        """The options of every trial, from coarse to fine; a model that misses its target is a point to know, too."""
        rounds = self.options.get("rounds", ROUNDS if "latency" in self.budgets else 0)
        for point in coarse_to_fine(self.points):
            for budget in self.budgets:
                for allocation in self.allocations:
                    for criterion in self.criteria:
                        asked = {"target": (f"{budget}={point:g}",), "allocation": allocation, "criterion": criterion}
                        yield {**self.options, "rounds": rounds, "best_effort": True, **asked}


@dataclass(frozen=True)
class Trial:
    """One call of `prune`: `options` of the model at `model`, into `output`, in the working directory `folder`."""

    key: str
    model: str
    output: str
    folder: str
    options: Mapping[str, Any]

    @property
    def target(self) -> str:
        """What is asked for."""
        return str(self.options["target"][0])

    @property
    def name(self) -> str:
        """What the trial's model is called."""
        words = (self.target.replace("=", "-"), self.options["allocation"], self.options["criterion"], self.key[:8])
        return "-".join("".join(c if c.isalnum() or c in ".-" else "_" for c in word) for word in words)

    def __str__(self) -> str:
        return f"{self.target} {self.options['allocation']} {self.options['criterion']}"


def points_of(trials: int, low: float = POINTS[-1], high: float = POINTS[0]) -> tuple[float, ...]:
    """`trials` points between two, such that more of them are the same and others in between."""
    made, level = [(low + high) / 2, high, low], 4
    while len(made) < trials:
        made += [low + (high - low) * k / level for k in range(level - 1, 0, -2)]
        level *= 2
    return tuple(round(point, 6) for point in made[: max(trials, 1)])


def coarse_to_fine(points: Iterable[float]) -> list[float]:
    """The points in an order that is useful wherever it stops: first the middle, then always the farthest from all
    before, the higher of two that are equally far."""
    left = sorted(set(points), reverse=True)
    if not left:
        return []
    chosen = [left.pop(len(left) // 2)]
    while left:
        chosen.append(left.pop(max(range(len(left)), key=lambda k: (round(_gap(left[k], chosen), 9), left[k]))))
    return chosen


def _gap(point: float, others: Iterable[float]) -> float:
    return min(abs(point - other) for other in others)


def explore(
    source: Model,
    folder: Path,
    request: Request,
    executor: Executor,
    prune: Prune,
    *,
    minutes: float | None = None,
    watch: Watch,
) -> Front:
    """Try everything that is asked for and not yet finished; begin no further trial after so many minutes.

    `prune` is `api.prune`. Errors: `UsageError` where another search is at work in the folder; `GateNotMet` where no
    trial met its target; those of a trial that would be the same of all.
    """
    path = destination.check(folder / JOURNAL, source.files, "the journal of the search").parent
    with Journal(path / JOURNAL) as journal:
        search = _Search(source, path, request, executor, journal, watch)
        search.run(prune, None if minutes is None else time.monotonic() + 60 * minutes)
    front = search.front()
    if front.trials and not any(tried.met for tried in front.trials):
        first = front.trials[0].reason
        raise GateNotMet(
            f"none of {len(front.trials)} trials met its target; the first: {first}. What was made is in {folder}"
        )
    return front


class _Search:
    """One run of a search, with its journal open."""

    def __init__(
        self, source: Model, folder: Path, request: Request, executor: Executor, journal: Journal, watch: Watch
    ) -> None:
        self._source, self._folder, self._request = source, folder, request
        self._executor, self._journal, self._watch = executor, journal, watch
        self._failures: dict[str, dict[str, Any]] = {}
        self._drawn = time.monotonic()
        self._seconds: list[float] = []
        self._trials = self._planned()

    def run(self, prune: Prune, end: float | None) -> None:
        """Try what is not finished."""
        for torn in self._folder.glob(".*.tmp"):  # of a trial that was killed while it wrote
            with suppress(FileNotFoundError):
                torn.unlink()
        waiting = [trial for trial in self._trials if not self._finished(trial)]
        measured = any(trial.options["rounds"] for trial in waiting)
        device = measured and self._executor.measures
        at_once = min(1 if device else self._executor.workers, max(len(waiting), 1))
        self._publish()
        self._tell(len(waiting), at_once)

        def until_the_end() -> Iterator[Trial]:
            for trial in waiting:
                if end is not None and time.monotonic() >= end:
                    return
                yield trial

        left = len(waiting)
        try:
            for place, record in self._executor.map(partial(tried, prune), until_the_end(), device=device):
                trial = waiting[place]
                if record["output"] is None:
                    self._failures[trial.key] = record
                elif Path(trial.output).exists():
                    self._journal.add(trial.key, record)
                else:
                    raise UsageError(
                        f"a worker says that it wrote {trial.output!r}, which is not there: all workers have to see "
                        "the folder of the search under the same name"
                    )
                self._seconds.append(record["seconds"])
                left -= 1
                self._publish()
                self._tell(left, at_once)
        except WorkerLost as lost:
            for place, how in lost.items.items():
                self._failures[waiting[place].key] = _failed(f"its worker died: {how}", 0.0)
        self._publish(last=True)

    def front(self) -> Front:
        """What is known by now."""
        trials, original, quality = [], None, None
        for trial in self._trials:
            record = self._journal.get(trial.key) or self._failures.get(trial.key)
            if record is None:
                continue
            trials.append(_tried(trial, record))
            if record["original"] is not None:
                quality, original = record["quality"], Figures(**record["original"])
        name, of, higher = self._judged_by(quality)
        left = len(self._trials) - len(trials)
        notes = (f"{left} of {len(self._trials)} trials are not finished; the same command goes on",) if left else ()
        return Front(
            self._source.source, str(self._folder), self._request.budgets, name, of, higher, original, tuple(trials),
            len(self._trials), notes,
        ).marked()  # fmt: skip

    def _judged_by(self, quality: str | None) -> tuple[str, str, bool]:
        options = self._request.options
        if options.get("evaluate"):
            return quality or "metric", str(options["evaluate"]), not self._request.lower_is_better
        what = f"the original's outputs on {options.get('calibration') or RANDOM}"
        if options.get("calibration"):
            what += ", which a repair has seen"
        return quality or "divergence", what, False

    def _planned(self) -> list[Trial]:
        folder = Path.cwd()
        given = self._request.options
        data = [data_print(str(given.get(name) or "")) for name in ("calibration", "evaluate", "preprocess")]
        known = {
            "model": self._source.digest,
            "data": data,
            "versions": versions(),
            "where": self._executor.place or str(this_machine()),
        }
        model = self._stored()
        trials: dict[str, Trial] = {}
        for options in self._request.each():
            steps = Pipeline.from_toml(pipeline_path("prune"), **options).passes
            key = key_of(passes=[(step.name, asdict(step)) for step in steps], **known)  # type: ignore[call-overload]
            trial = Trial(key, str(model), "", str(folder), options)
            trials[key] = replace(trial, output=str((self._folder / f"{trial.name}.onnx").absolute()))
        return list(trials.values())

    def _stored(self) -> Path:
        """The file of the model, for the workers to read; one that came from memory is written."""
        if self._source.files:
            return self._source.files[0].absolute()
        path = (self._folder / "original.onnx").absolute()
        if not path.exists() or Model.load(path).digest != self._source.digest:
            self._source.save(path)
        return path

    def _finished(self, trial: Trial) -> bool:
        return trial.key in self._journal and Path(trial.output).exists()

    def _publish(self, last: bool = False) -> None:
        """Write what is known, each file all or nothing; plots, which take a moment, not at every one of many."""
        front = self.front()
        destination.write_text(self._folder / "results.json", front.to_json())
        destination.write_text(self._folder / "results.csv", front.to_csv())
        if last or time.monotonic() - self._drawn > REDRAW:
            for form in ("svg", "png"):
                drawn = draw_front(front, form)
                if drawn is not None:
                    destination.write_bytes(self._folder / f"front.{form}", drawn)
            self._drawn = time.monotonic()

    def _tell(self, left: int, at_once: int) -> None:
        done = len(self._trials) - left
        text = f"search: {done} of {len(self._trials)} trials"
        if self._seconds and left:
            seconds = sum(self._seconds) / len(self._seconds) * -(-left // at_once)
            text += f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"
        self._watch(text, done, len(self._trials))


# -- in a worker ------------------------------------------------------------------------------------------------------


def tried(prune: Prune, trial: Trial) -> dict[str, Any]:
    """Make one trial, and tell what came of it in values that JSON has.

    A pass or a verification that fails is what came of it, this time. Errors that the other trials would have, too, are
    raised.
    """
    if Path.cwd() != Path(trial.folder):
        _enter(trial.folder)
    start = time.perf_counter()
    try:
        result = prune(trial.model, trial.output, **trial.options)
        figures, original, name = _judged(trial, result.report)
    except (UsageError, ModelReadError, OutputNotWritten):
        raise
    except OnnxPruneError as error:
        return _failed(str(error), time.perf_counter() - start)
    report = result.report
    met = report.targets_met
    return {
        "output": Path(trial.output).name, "met": met, "reason": "" if met else "; ".join(report.notes),
        "figures": asdict(figures), "original": asdict(original), "quality": name,
        "metrics": {metric: after for metric, (_, after) in report.metrics.items()},
        "seconds": time.perf_counter() - start,
    }  # fmt: skip


def _enter(folder: str) -> None:
    """Work where the search was started: paths and functions of the user's are named from there."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise UsageError(
            f"a worker cannot enter {folder!r}, where the search was started: {error.strerror}; all workers have to "
            "see the files of the search under the same names"
        ) from error


def _failed(reason: str, seconds: float) -> dict[str, Any]:
    return {"output": None, "met": False, "reason": reason, "figures": None, "original": None, "quality": None,
            "metrics": {}, "seconds": seconds}  # fmt: skip


def _judged(trial: Trial, report: Report) -> tuple[Figures, Figures, str]:
    """The figures of the pruned model and of the original, and the name of what they are judged by."""
    after = Figures(report.params_after, report.macs_after, report.bytes_after)
    before = Figures(report.params_before, report.macs_before, report.bytes_before)
    if report.latency_before_ms is not None and report.speedup is not None:
        after = replace(after, latency=1 / report.speedup, latency_ms=report.latency_after_ms)
        before = replace(before, latency=1.0, latency_ms=report.latency_before_ms)
    if report.metric is not None:
        metrics = replace(after, quality=report.metric_after), replace(before, quality=report.metric_before)
        return *metrics, report.metric
    divergence, name = _divergence(trial)
    return replace(after, quality=divergence), replace(before, quality=0.0), name


def _divergence(trial: Trial) -> tuple[float, str]:
    """How far the pruned model's outputs are from the original's, and in which sense."""
    options = dict(trial.options)
    options["calibration"] = options.get("calibration") or RANDOM
    steps: list[tuple[type[Pass], Mapping[str, Any]]] = [(find(name), {}) for name in ("analyse", "calibrate")]
    known = {name for name in ("size", "probe", "calibration", "samples", "preprocess", "seed") if name in options}
    source = Model.load(trial.model)
    samples = Pipeline.of(steps, {name: options[name] for name in known}).run(Unit(source=source)).samples
    assert samples is not None
    feeds = list(samples.take(MOST, int(options.get("seed", 0))).batches(BATCH))
    try:
        with Isolated(int(options.get("threads", 1))) as worker:
            before, after = (worker.run(Path(model), feeds) for model in (trial.model, trial.output))
    except RunFailed as failure:
        raise PassFailed(f"the outputs cannot be compared: {failure.reason}") from failure
    found = change(before, after)
    return (found.relative, "relative change") if found.divergence is None else (found.divergence, "KL divergence")


def _tried(trial: Trial, record: Mapping[str, Any]) -> Tried:
    figures = None if record["figures"] is None else Figures(**record["figures"])
    return Tried(
        trial.name, trial.target, str(trial.options["allocation"]), str(trial.options["criterion"]), record["met"],
        record["reason"], record["output"], figures, record["metrics"], record["seconds"],
    )  # fmt: skip


def comma(given: str | Sequence[str]) -> tuple[str, ...]:
    """Texts that were given one by one or with commas between them."""
    texts = (given,) if isinstance(given, str) else given
    return tuple(dict.fromkeys(part.strip() for text in texts for part in text.split(",") if part.strip()))
