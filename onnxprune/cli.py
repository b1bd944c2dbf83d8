"""The command line: every command is one call of the Python API, every flag an option of a pass.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnxprune.errors import OnnxPruneError, OutputNotWritten, UsageError
from onnxprune.passmanager import Option, options_of, read_steps

if TYPE_CHECKING:
    from rich.console import Console

    from onnxprune.unit import Watch

__all__ = ["main"]

PIPELINES = Path(__file__).parent / "passes" / "pipelines"

json_flag = click.option(
    "--json", "json_path", metavar="OUT", help="Write the result as JSON to OUT ('-': to the console)."
)
quiet_flag = click.option("--quiet", is_flag=True, help="Print nothing but errors.")
size_flag = click.option("--size", multiple=True, metavar="NAME=N", help="Example size of a symbolic dimension.")
threads_flag = click.option("--threads", default=1, show_default=True, metavar="N", help="Threads of ONNX Runtime.")
seed_flag = click.option("--seed", default=0, show_default=True, metavar="N", help="Seed of everything that is random.")
output_flag = click.option("-o", "--output", required=True, metavar="OUT", help="Where the pruned model is written.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="onnxprune")
def cli() -> None:
    """Prune ONNX models: smaller, faster, and proven in ONNX Runtime to be the model that they claim to be.

    Exit codes: 0 done, 1 a target or gate was not met, 2 usage, 3 the model cannot be read, 4 a pass failed,
    5 verification failed.
    """


def pass_options(pipeline: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of every pass of a pipeline, as flags; one flag for options of one name."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        found: dict[str, Option] = {}
        for step, values in read_steps(PIPELINES / f"{pipeline}.toml"):
            for o in options_of(step):
                if o.name in values:
                    o = Option(o.name, o.type, values[o.name], o.help, o.metavar, o.choices)
                found.setdefault(o.name, o)
        for o in reversed(found.values()):
            command = _flag(o)(command)
        return command

    return decorate


def _flag(o: Option) -> Callable[[Callable[..., None]], Callable[..., None]]:
    name = f"--{o.name.replace('_', '-')}"
    if o.type is bool:
        return click.option(name, o.name, is_flag=True, default=None, help=o.help)
    if o.type == tuple[str, ...]:
        return click.option(name, o.name, multiple=True, metavar=o.metavar or None, help=f"{o.help} Repeatable.")
    kind: Any = {int: int, float: float, float | None: float, int | None: int}.get(o.type, str)
    if o.choices:
        kind = click.Choice(o.choices)
    shown = "" if o.default in (None, "") else f"  [default: {o.default}]"
    return click.option(name, o.name, type=kind, default=None, metavar=o.metavar or None, help=o.help + shown)


@cli.command()
@click.argument("model")
@output_flag
@pass_options("prune")
@json_flag
@quiet_flag
def prune(model: str, output: str, json_path: str | None, quiet: bool, **options: Any) -> None:
    """Prune MODEL, verify the result, measure it, and write it to OUT."""
    _run_pipeline("prune", model, output, json_path, quiet, options)


@cli.command()
@click.argument("pipeline")
@click.argument("model")
@output_flag
@json_flag
@quiet_flag
def run(pipeline: str, model: str, output: str, json_path: str | None, quiet: bool) -> None:
    """Run a stored pipeline, a TOML file or the name of one that comes with onnxprune, on MODEL."""
    _run_pipeline(pipeline, model, output, json_path, quiet, {})


def _run_pipeline(
    pipeline: str, model: str, output: str, json_path: str | None, quiet: bool, options: dict[str, Any]
) -> None:
    from onnxprune import api

    given = {name: value for name, value in options.items() if value not in (None, ())}
    with _progress(quiet) as watch:
        result = api.prune(model, output, pipeline=pipeline, watch=watch, **given)
    _write_json(json_path, result.report.to_json())
    if not quiet and json_path != "-":
        from onnxprune.report.console import show_report

        show_report(_console(), result.report)


@cli.command()
@click.argument("model")
@size_flag
@json_flag
@quiet_flag
def inspect(model: str, size: Sequence[str], json_path: str | None, quiet: bool) -> None:
    """Show what can be pruned in MODEL: groups, their weights and costs, and what is fixed and why."""
    from onnxprune import api

    inspection = api.inspect(model, size=size)
    _write_json(json_path, inspection.to_json())
    if not quiet and json_path != "-":
        from onnxprune.report.console import show_inspection

        show_inspection(_console(), inspection)


@cli.command()
@click.argument("model")
@click.argument("name")
@click.argument("other", required=False)
@size_flag
def explain(model: str, name: str, other: str | None, size: Sequence[str]) -> None:
    """Explain why NAME (a group, tensor or node) is fixed or prunable, or why NAME and OTHER are pruned together."""
    from onnxprune import api

    for explanation in api.explain(model, name, other, size=size):
        click.echo(str(explanation))


@cli.command()
@click.argument("model")
@click.argument("output")
@seed_flag
@threads_flag
@quiet_flag
def verify(model: str, output: str, seed: int, threads: int, quiet: bool) -> None:
    """Prove again that OUTPUT is MODEL with the indices silenced that OUTPUT says were removed."""
    from onnxprune import api

    verdict = api.verify(model, output, seed=seed, threads=threads)
    if not quiet:
        from onnxprune.report.console import show_verdict

        show_verdict(_console(), verdict)
    if not verdict.passed:
        raise SystemExit(5)


@cli.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL [MODEL ...]")
@click.option("--rounds", default=40, show_default=True, metavar="N", help="Timed calls of each model.")
@click.option("--sessions", default=3, show_default=True, metavar="N", help="Fresh sessions of each model.")
@click.option("--seconds", type=float, metavar="S", help="Stop timing after so many seconds.")
@click.option(
    "--batch", default=1, show_default=True, metavar="N", help="Samples in one call, where the batch is free."
)
@click.option("--size", multiple=True, metavar="NAME=N", help="Size of a symbolic dimension.")
@click.option("--provider", default="CPUExecutionProvider", show_default=True, help="Execution provider.")
@click.option("--per-layer", is_flag=True, help="Show the time of each node.")
@threads_flag
@seed_flag
@json_flag
@quiet_flag
def bench(models: Sequence[str], json_path: str | None, quiet: bool, size: Sequence[str], **options: Any) -> None:
    """Measure latency, memory and size of models side by side; the first MODEL is the baseline."""
    from onnxprune import api

    with _progress(quiet) as watch:
        result = api.bench(models, size=size, on_round=lambda n, of: watch("measure latency", n, of), **options)
    _write_json(json_path, result.to_json())
    if not quiet and json_path != "-":
        from onnxprune.report.console import show_bench

        show_bench(_console(), result)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


@contextmanager
def _progress(quiet: bool) -> Iterator[Watch]:
    """A progress bar on the error stream of a terminal; nothing where nobody looks."""
    if quiet or not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks: dict[int, Any] = {}

        def watch(what: str, done: int, total: int) -> None:
            if total not in tasks:
                tasks[total] = progress.add_task(what, total=total or None)
            progress.update(tasks[total], description=what, completed=done)

        yield watch


def _write_json(path: str | None, text: str) -> None:
    if path == "-":
        click.echo(text, nl=False)
    elif path is not None:
        try:
            Path(path).write_text(text, encoding="utf-8")
        except OSError as error:
            raise OutputNotWritten(f"cannot write the report {path!r}: {error.strerror or error}") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with the exit code of what happened."""
    try:
        cli.main(args=None if arguments is None else list(arguments), standalone_mode=False)
    except OnnxPruneError as error:
        click.echo(f"onnxprune: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(UsageError.exit_code) from None
    except (click.Abort, KeyboardInterrupt):
        click.echo("onnxprune: interrupted; nothing was written", err=True)
        raise SystemExit(130) from None
