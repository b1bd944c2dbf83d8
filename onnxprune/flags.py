"""Flags that commands share, and those that are made of the options of passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from onnxprune.passmanager import Option, options_of, pipeline_path, read_steps

__all__ = [
    "PassCommand",
    "inexact_flag",
    "journal_flag",
    "json_flag",
    "lower_flag",
    "numbers",
    "output_flag",
    "pass_options",
    "positive",
    "probe_flag",
    "quiet_flag",
    "scheduler_flag",
    "seed_flag",
    "size_flag",
    "threads_flag",
    "workers_flag",
]

SHARED = "Several passes"

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
journal_flag = click.option("--journal", metavar="FILE", help="Keep in FILE what was tried, and do not try it again.")
workers_flag = click.option(
    "--workers", type=positive, metavar="N", help="Processes to work with.  [default: one for each core]"
)
scheduler_flag = click.option(
    "--scheduler", default="", metavar="ADDRESS", help="Work on the Dask cluster whose scheduler is at ADDRESS."
)
lower_flag = click.option("--lower-is-better", is_flag=True, help="The metric of --evaluate is a loss or a perplexity.")


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


def pass_options(*pipelines: str, only: Sequence[str] = (), without: Sequence[str] = ()) -> Decorator:
    """The options of every pass of some pipelines, as flags; one flag for options of one name, as the first says it.

    `only` names the passes, where not all are meant; options named in `without` are the command's own.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        found: dict[str, tuple[str, Option, Any]] = {}
        own = frozenset(without)
        for pipeline in pipelines:
            known = frozenset(found)
            for step, values in read_steps(pipeline_path(pipeline)):
                if only and step.name not in only:
                    continue
                for o in options_of(step):
                    if o.name not in known | own:
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


def numbers(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    """Numbers with commas between them, as the value of an option."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: expected numbers with commas between them, such as 0.7,0.5") from error
