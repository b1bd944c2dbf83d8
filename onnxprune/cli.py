"""The command line: every command is one call of the Python API, every flag an option of a pass.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxprune import destination
from onnxprune.curves import PASSES
from onnxprune.errors import OnnxPruneError, PassFailed, UsageError
from onnxprune.flags import (
    PassCommand,
    inexact_flag,
    journal_flag,
    json_flag,
    lower_flag,
    numbers,
    output_flag,
    pass_options,
    positive,
    probe_flag,
    quiet_flag,
    scheduler_flag,
    seed_flag,
    size_flag,
    threads_flag,
    workers_flag,
)
from onnxprune.runtime.failure import RunFailed

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from onnxprune.watching import Watch

__all__ = ["main"]

# Options of prune that a search sets itself.
OWN = ("target", "sparsity", "allocation", "criterion", "best_effort", "rounds")
INTERRUPTED = 130  # as a shell says it of a process that Ctrl-C ended
WIDTH = 120  # columns where the output is no terminal


def _version(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"onnxprune {version('onnxprune')}")
        except PackageNotFoundError:
            click.echo("onnxprune, from a checkout that is not installed")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def cli() -> None:
    """Prune ONNX models: smaller, faster, and proven in ONNX Runtime to be the model that they claim to be.

    Exit codes: 0 done, 1 a target or gate was not met, 2 usage, 3 the model cannot be read, 4 a pass failed,
    5 verification failed.
    """


@cli.command(cls=PassCommand)
@click.argument("model")
@output_flag
@journal_flag
@json_flag
@quiet_flag
@pass_options("prune", "mask")
def prune(model: str, output: str, json_path: str | None, quiet: bool, **options: Any) -> None:
    """Prune MODEL, verify the result, measure it, and write it to OUT.

    Nothing is written unless the result is verified and every target is met.
    """
    _run_pipeline("prune", model, output, json_path, quiet, options)


@cli.command(cls=PassCommand)
@click.argument("model")
@output_flag
@json_flag
@quiet_flag
@pass_options("shrink")
def shrink(model: str, output: str, json_path: str | None, quiet: bool, **options: Any) -> None:
    """Remove from MODEL what is dead already, change no output, and write it to OUT.

    Channels that are zero, constant, equal to another or never read go, as a sparse training run or a mask of a
    framework leaves them, and nodes and initializers that no output needs.
    """
    _run_pipeline("shrink", model, output, json_path, quiet, options)


@cli.command()
@click.argument("pipeline")
@click.argument("model")
@output_flag
@json_flag
@quiet_flag
def run(pipeline: str, model: str, output: str, json_path: str | None, quiet: bool) -> None:
    """Run PIPELINE on MODEL: a TOML file, or the name of a pipeline that comes with onnxprune."""
    _run_pipeline(pipeline, model, output, json_path, quiet, {})


def _run_pipeline(
    pipeline: str, model: str, output: str, json_path: str | None, quiet: bool, options: dict[str, Any]
) -> None:
    from onnxprune import api

    given = {name: value for name, value in options.items() if value not in (None, ())}
    source = api.load(model)
    _check_json(json_path, [*source.files, Path(output), Path(f"{output}.data")])
    with _progress(quiet) as watch:
        result = api.prune(source, output, pipeline=pipeline, watch=watch, **given)
    _write_json(json_path, result.report.to_json())
    if not quiet and json_path != "-":
        from onnxprune.report.console import show_report

        show_report(_console(), result.report)


@cli.command()
@click.argument("model")
@size_flag
@inexact_flag
@probe_flag
@click.option("--sparsity", is_flag=True, help="Show the zeros of each layer, and which N:M holds along which axis.")
@json_flag
@quiet_flag
def inspect(
    model: str,
    size: Sequence[str],
    allow_inexact: Sequence[str],
    probe: bool,
    sparsity: bool,
    json_path: str | None,
    quiet: bool,
) -> None:
    """Show what can be pruned in MODEL: groups, weights and costs, and what is fixed and why."""
    from onnxprune import api

    source = api.load(model)
    _check_json(json_path, source.files)
    with _progress(quiet) as watch:
        watch("analyse", 0, 0)
        inspection = api.inspect(source, size=size, allow_inexact=allow_inexact, probe=probe, sparsity=sparsity)
    _write_json(json_path, inspection.to_json())
    if not quiet and json_path != "-":
        from onnxprune.report.console import show_inspection

        show_inspection(_console(), inspection)


@cli.command()
@click.argument("model")
@click.argument("name")
@click.argument("other", metavar="[NAME]", required=False)
@size_flag
@inexact_flag
@probe_flag
def explain(
    model: str, name: str, other: str | None, size: Sequence[str], allow_inexact: Sequence[str], probe: bool
) -> None:
    """Explain why NAME is fixed or prunable, or why two NAMEs are pruned together.

    A NAME is that of a group (see 'onnxprune inspect'), a tensor or a node.
    """
    from onnxprune import api

    with _progress(quiet=False) as watch:
        watch("analyse", 0, 0)
        explanations = api.explain(model, name, other, size=size, allow_inexact=allow_inexact, probe=probe)
    for explanation in explanations:
        click.echo(str(explanation))


@cli.command()
@click.argument("model")
@click.argument("output", metavar="OUT")
@seed_flag
@threads_flag
@quiet_flag
def verify(model: str, output: str, seed: int, threads: int, quiet: bool) -> None:
    """Prove again that OUT is MODEL with the indices silenced that OUT says were removed."""
    from onnxprune import api

    with _progress(quiet) as watch:
        watch("verify", 0, 0)
        verdict = api.verify(model, output, seed=seed, threads=threads)
    if not quiet:
        from onnxprune.report.console import show_verdict

        show_verdict(_console(), verdict)
    if not verdict.passed:
        raise SystemExit(5)


@cli.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL [MODEL ...]")
@click.option("--rounds", type=positive, default=40, show_default="40", metavar="N", help="Timed calls of each model.")
@click.option(
    "--sessions", type=positive, default=3, show_default="3", metavar="N", help="Fresh sessions of each model."
)
@click.option(
    "--seconds", type=click.FloatRange(min=0), metavar="S", help="Begin no further round after so many seconds."
)
@click.option(
    "--batch", type=positive, default=1, show_default="1", metavar="N",
    help="Samples in one call, where the batch is free.",
)  # fmt: skip
@size_flag
@click.option(
    "--provider", default="CPUExecutionProvider", show_default=True, metavar="NAME",
    help="Execution provider of ONNX Runtime.",
)  # fmt: skip
@click.option("--per-layer", is_flag=True, help="Show the time of each node.")
@click.option("--predict", is_flag=True, help="Show what is predicted for what was pruned from the first MODEL, too.")
@threads_flag
@seed_flag
@json_flag
@quiet_flag
def bench(models: Sequence[str], json_path: str | None, quiet: bool, size: Sequence[str], **options: Any) -> None:
    """Measure latency, memory and size of models side by side; the first MODEL is the baseline."""
    from onnxprune import api

    sources = [api.load(model) for model in models]
    _check_json(json_path, [file for source in sources for file in source.files])
    with _progress(quiet) as watch:
        result = api.bench(
            sources, size=size, watch=watch, on_round=lambda n, of: watch("measure latency", n, of), **options
        )
    _write_json(json_path, result.to_json())
    if not quiet and json_path != "-":
        from onnxprune.report.console import show_bench

        show_bench(_console(), result)


@cli.command(cls=PassCommand)
@click.argument("model")
@click.option("--evaluate", default="", metavar="PATH",
              help="Judge by a metric: labelled data for top-1 accuracy, or module:function.")  # fmt: skip
@click.option("--ratios", callback=numbers, metavar="F,F,...",
              help="Fractions of a group's indices to remove.  [default: 0.1,0.2,...,0.9]")  # fmt: skip
@lower_flag
@workers_flag
@scheduler_flag
@journal_flag
@click.option("-o", "--output", metavar="DIR", help="A folder for journal.jsonl, sensitivity.json, .csv and .svg.")
@click.option("--csv", "csv_path", metavar="OUT", help="Write the curves as CSV to OUT.")
@click.option("--plot", metavar="OUT", help="Draw the curves: OUT ends in .svg, .png or .pdf. Needs matplotlib.")
@json_flag
@quiet_flag
@pass_options("prune", only=PASSES)
def sensitivity(
    model: str,
    journal: str | None,
    output: str | None,
    csv_path: str | None,
    plot: str | None,
    json_path: str | None,
    quiet: bool,
    ratios: tuple[float, ...] | None,
    **options: Any,
) -> None:
    """Show what MODEL loses when one group alone loses indices: a curve for each group."""
    from onnxprune import api, plots

    form = None if plot is None else plots.check_plot(plot)
    given = {name: value for name, value in options.items() if value not in (None, ())}
    given.update({} if ratios is None else {"ratios": ratios}, workers=options["workers"])
    source = api.load(model)
    _check_json(json_path, source.files)
    for path in (csv_path, plot):
        _check_json(path, source.files)
    notes = []
    if output is not None:
        journal = journal or str(Path(output, "journal.jsonl"))
    with _progress(quiet) as watch:
        found = api.sensitivity(source, journal=journal, watch=watch, calibration=given.pop("calibration", ""), **given)
    if output is not None:
        destination.write_text(Path(output, "sensitivity.json"), found.to_json())
        destination.write_text(Path(output, "sensitivity.csv"), found.to_csv())
        if plots.drawable():
            destination.write_bytes(Path(output, "sensitivity.svg"), plots.draw_curves(found, "svg"))
        else:
            notes.append(f"no plot was made: {plots.REMEDY}")
    if plot is not None and form is not None:
        destination.write_bytes(plot, plots.draw_curves(found, form))
    _write_json(csv_path, found.to_csv())
    _write_json(json_path, found.to_json())
    if not quiet and "-" not in (json_path, csv_path):
        from onnxprune.report.tradeoffs import show_sensitivity

        show_sensitivity(_console(), found, notes)


@cli.command(cls=PassCommand)
@click.argument("model")
@click.option(
    "-o", "--output", required=True, metavar="DIR", help="The folder of the search; one that is there goes on."
)
@click.option("--budget", default="macs", show_default=True, metavar="NAME[,NAME]",
              help="What is bounded: latency, macs, params, size.")  # fmt: skip
@click.option("--points", callback=numbers, metavar="F,F,...",
              help="Shares of the original that may stay.  [default: 0.9,0.8,...,0.3]")  # fmt: skip
@click.option("--trials", type=positive, metavar="N", help="Instead of --points: N of them between 0.9 and 0.3.")
@click.option("--allocation", default="auto", show_default=True, metavar="NAME[,NAME]",
              help="How much to take from where; each is tried.")  # fmt: skip
@click.option("--criterion", default="auto", show_default=True, metavar="NAME[,NAME]",
              help="What makes an index important; each is tried.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(min=0), metavar="N",
              help="Timed calls of each model.  [default: 40 where latency is a budget, else 0]")  # fmt: skip
@lower_flag
@workers_flag
@scheduler_flag
@click.option("--minutes", type=click.FloatRange(min=0), metavar="M", help="Begin no further trial after M minutes.")
@json_flag
@quiet_flag
@pass_options("prune", without=OWN)
def search(model: str, output: str, json_path: str | None, quiet: bool, **options: Any) -> None:
    """Prune MODEL in many ways: what each is worth, what it costs, and which no other beats.

    Each trial is a verified model in DIR. A search that was interrupted goes on where it was.
    """
    from onnxprune import api, plots

    given = {name: value for name, value in options.items() if value not in (None, ())}
    source = api.load(model)
    _check_json(json_path, source.files)
    with _progress(quiet) as watch:
        front = api.search(source, output, watch=watch, **given)
    _write_json(json_path, front.to_json())
    if not quiet and json_path != "-":
        from onnxprune.report.tradeoffs import show_front

        show_front(_console(), front, [] if plots.drawable() else [f"no plot was made: {plots.REMEDY}"])


def _console() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH
    return Console(highlight=False, soft_wrap=False, width=width)


@contextmanager
def _progress(quiet: bool) -> Iterator[Watch]:
    """A progress bar on the error stream of a terminal; nothing where nobody looks."""
    if quiet or not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    # Seldom refreshed, because what it shows the progress of may be a measurement of time.
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=2) as progress:
        task = progress.add_task("read", total=None)
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total or None)


def _check_json(path: str | None, taken: Sequence[Path]) -> None:
    """Refuse now what could not be written after all the work."""
    if path not in (None, "-"):
        destination.check(path, taken, "the report", special=True)


def _write_json(path: str | None, text: str) -> None:
    if path == "-":
        click.echo(text, nl=False)
    elif path is not None:
        destination.write_text(path, text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with the exit code of what happened."""
    try:
        cli.main(None if arguments is None else list(arguments), prog_name="onnxprune", standalone_mode=False)
    except OnnxPruneError as error:
        _show_cause(error)
        click.echo(f"onnxprune: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(UsageError.exit_code) from None
    except (click.Abort, KeyboardInterrupt):
        click.echo("onnxprune: interrupted; what was not finished was not written", err=True)
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        traceback.print_exc()
        click.echo(
            f"onnxprune: an error that should not happen: {type(error).__name__}: {error}. Please report it with the "
            "lines above",
            err=True,
        )
        raise SystemExit(PassFailed.exit_code) from None


def _show_cause(error: OnnxPruneError) -> None:
    """The lines of code that led to an error that is not ours: those of a function of the user's, or of a pass.

    What onnxprune raises on purpose needs none: its sentence says it all.
    """
    cause = error.__cause__
    if cause is None or isinstance(cause, (OSError, RunFailed)):
        return
    frames = cause.__traceback__
    if not isinstance(error, PassFailed):
        frames = _outside(frames)
    if frames is not None:
        lines = traceback.format_exception(type(cause), cause, frames)
        click.echo("".join(lines), err=True, nl=False)


def _outside(frames: TracebackType | None) -> TracebackType | None:
    """The traceback from the first line on that is neither onnxprune's nor a library's; None where there is none."""
    ours, libraries = str(Path(__file__).resolve().parent), (os.path.dirname(os.__file__), "site-packages")
    while frames is not None:
        name = frames.tb_frame.f_code.co_filename
        file = os.path.realpath(name)
        if not name.startswith("<") and not file.startswith(ours) and not any(place in file for place in libraries):
            return frames
        frames = frames.tb_next
    return None
