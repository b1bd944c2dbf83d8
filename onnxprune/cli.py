"""The command line: every command is one call of the Python API, every flag an option of a pass.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxprune import destination
from onnxprune.errors import OnnxPruneError, PassFailed, UsageError
from onnxprune.passmanager import Option, options_of, pipeline_path, read_steps
from onnxprune.runtime.failure import RunFailed

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from onnxprune.unit import Watch

__all__ = ["main"]

INTERRUPTED = 130  # as a shell says it of a process that Ctrl-C ended
SHARED = "Several passes"
WIDTH = 120  # columns where the output is no terminal

Decorator = Callable[[Callable[..., None]], Callable[..., None]]
positive = click.IntRange(min=1)

json_flag = click.option(
    "--json",
    "json_path",
    metavar="OUT",
    help="Write the result as JSON to OUT; '-' prints it, and nothing else.",
)
quiet_flag = click.option("--quiet", is_flag=True, help="Print nothing but errors.")
size_flag = click.option(
    "--size",
    multiple=True,
    metavar="NAME=N",
    help="Size of a symbolic dimension, such as height=320. Repeatable.",
)
inexact_flag = click.option(
    "--allow-inexact",
    multiple=True,
    metavar="KIND[,KIND]",
    help="Show it with what norms, reductions or softmax fix opened: norm, reduce, softmax. Repeatable.",
)
probe_flag = click.option(
    "--probe", is_flag=True, help="Run nodes that no rule knows alone, to infer which dimensions they carry unchanged."
)
threads_flag = click.option(
    "--threads", type=positive, default=1, show_default="1", metavar="N", help="Threads of ONNX Runtime."
)
seed_flag = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default="0", metavar="N",
    help="Seed of everything that is random.",
)  # fmt: skip
output_flag = click.option("-o", "--output", required=True, metavar="OUT", help="Where the pruned model is written.")


class Flag(click.Option):
    """A flag that is an option of passes; `section` is where `--help` lists it."""

    def __init__(self, *names: Any, section: str, **attributes: Any) -> None:
        super().__init__(*names, **attributes)
        self.section = section


class PassCommand(click.Command):
    """A command whose `--help` lists flags by the pass that they belong to."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Our own flags first, then a section for each pass, in the order of the pipeline."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                section = parameter.section if isinstance(parameter, Flag) else "Options"
                sections.setdefault(section, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


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


def pass_options(*pipelines: str) -> Decorator:
    """The options of every pass of some pipelines, as flags; one flag for options of one name, as the first says it."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        found: dict[str, tuple[str, Option, Any]] = {}
        for pipeline in pipelines:
            known = frozenset(found)
            for step, values in read_steps(pipeline_path(pipeline)):
                for o in options_of(step):
                    if o.name not in known:
                        section = SHARED if o.name in found else f"Pass {step.name}"
                        found[o.name] = (section, o, values.get(o.name, o.default))
        in_order = sorted(found.values(), key=lambda f: f[0] == SHARED)
        for section, o, default in reversed(in_order):
            command = _flag(section, o, default)(command)
        return command

    return decorate


def _flag(section: str, o: Option, default: Any) -> Decorator:
    name = f"--{o.name.replace('_', '-')}"
    if o.kind is bool:
        return click.option(name, o.name, cls=Flag, section=section, is_flag=True, default=None, help=o.help)
    shown = o.help + (" Repeatable." if o.many else "")
    if default not in (None, "", ()):
        shown += f"  [default: {default:g}]" if isinstance(default, float) else f"  [default: {default}]"
    kind: Any = click.Choice(o.choices) if o.choices else o.kind
    metavar = o.metavar or None
    return click.option(
        name, o.name, cls=Flag, section=section, type=kind, multiple=o.many, default=None, metavar=metavar, help=shown
    )


@cli.command(cls=PassCommand)
@click.argument("model")
@output_flag
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
    """Show what can be pruned in MODEL: groups, their weights and costs, and what is fixed and why."""
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
