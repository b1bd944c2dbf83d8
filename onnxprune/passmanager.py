"""Pipelines of passes: options by name, an order that can work, results that keep their promise.

A pass is a frozen dataclass. Its fields are its options, and so the keys of a pipeline file, the flags of the command
line and the keyword arguments of the Python API. `needs` and `gives` name fields of the `Unit`; an order in which a
need is not given is refused before anything runs, and what a pass gives is checked on its result.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, get_args, get_type_hints, runtime_checkable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from onnxprune.errors import OnnxPruneError, PassFailed, UsageError
from onnxprune.unit import Unit

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["ENTRY_POINTS", "Option", "Pass", "Pipeline", "find", "option", "options_of", "pipeline_path", "read_steps"]

ENTRY_POINTS = "onnxprune.passes"  # the entry-point group in which a package names passes of its own
OURS = ("analyse", "calibrate", "select", "score", "sense", "tabulate", "allocate", "meet", "recover", "repeat",
        "shrink", "rank", "drop", "permute", "mask", "strip", "gemm", "verify", "evaluate", "judge",
        "profile")  # fmt: skip
ROUNDS = 40  # how often a pass may send the run back, at most
UNIT = frozenset(f.name for f in fields(Unit))


@runtime_checkable
class Pass(Protocol):
    """One step: `run` takes a unit and returns the unit that replaces it."""

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    gives: ClassVar[frozenset[str]]

    def run(self, unit: Unit) -> Unit:
        """Do the step; errors are those of `onnxprune.errors`."""
        ...


# -- options ----------------------------------------------------------------------------------------------------------


def option(
    default: Any, help: str, metavar: str = "", choices: Sequence[str] = (), minimum: float | None = None
) -> Any:
    """A dataclass field that is an option: its default, the sentence that explains it, and what it may be."""
    notes = {"help": help, "metavar": metavar, "choices": tuple(choices), "minimum": minimum}
    return field(default=default, metadata=notes)


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a pass: `kind` is `str`, `int`, `float` or `bool`; a tuple of texts where `many`.

    None is a value where `optional`; an option that is `required` has no default.
    """

    name: str
    kind: type
    many: bool
    optional: bool
    required: bool
    default: Any
    help: str
    metavar: str
    choices: tuple[str, ...]
    minimum: float | None


WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def options_of(step: type[Pass]) -> tuple[Option, ...]:
    """The options of a pass class, in order; `UsageError` for a field whose type no option can have."""
    hints = get_type_hints(step)
    found = []
    for f in fields(step):  # type: ignore[arg-type]
        hint = hints[f.name]
        many = hint == tuple[str, ...]
        kinds = [str] if many else [k for k in (get_args(hint) or (hint,)) if k is not type(None)]
        if len(kinds) != 1 or kinds[0] not in WORDS:
            raise UsageError(
                f"pass {step.name!r}: the field {f.name!r} is {hint}, which no option can be; expected str, int, float "
                "or bool, one of them or None, or tuple[str, ...]"
            )
        default = f.default if f.default_factory is MISSING else f.default_factory()
        notes: dict[str, Any] = {"help": "", "metavar": "", "choices": (), "minimum": None, **f.metadata}
        optional = type(None) in get_args(hint)
        found.append(Option(f.name, kinds[0], many, optional, default is MISSING, default, **notes))
    return tuple(found)


def make(step: type[Pass], values: Mapping[str, Any]) -> Pass:
    """A pass with its options set; `UsageError` for an option that it does not have or a value that it cannot be."""
    known = {o.name: o for o in options_of(step)}
    for name in values:
        if name not in known:
            raise UsageError(f"pass {step.name!r} has no option {name!r}; it has {', '.join(known) or 'none'}")
    for o in known.values():
        if o.required and o.name not in values:
            raise UsageError(f"pass {step.name!r} needs its option {o.name!r} ({WORDS[o.kind]}), which is not set")
    return step(**{name: _checked(step.name, known[name], value) for name, value in values.items()})


def _checked(step: str, o: Option, value: Any) -> Any:
    """`value` as the option holds it: whole numbers pass for numbers, numbers for texts, one text for a list of one."""
    where = f"option {o.name!r} of pass {step!r}"
    if o.many:
        if isinstance(value, Mapping):
            value = [f"{k}={v}" for k, v in value.items()]
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
            raise UsageError(f"{where}: expected a list of texts, found {value!r}")
        return tuple(value)
    if value is None and o.optional:
        return None
    if type(value) in (int, float) and o.kind is str:
        value = str(value)
    if type(value) is int and o.kind is float:
        value = float(value)
    if isinstance(value, Path) and o.kind is str:
        value = str(value)
    if type(value) is not o.kind:
        raise UsageError(f"{where}: expected {WORDS[o.kind]}, found {value!r}")
    if o.choices and value not in o.choices:
        raise UsageError(f"{where}: expected {' or '.join(o.choices)}, found {value!r}")
    if o.minimum is not None and not (isinstance(value, (int, float)) and value >= o.minimum):
        raise UsageError(f"{where}: expected at least {o.minimum:g}, found {value!r}")
    return value


# -- pipelines --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pipeline:
    """Passes in an order that can work.

    Errors: `UsageError` when a pass needs what none before it gives; `PassFailed` around an unexpected failure, with
    the pass and those that ran before it; errors of `onnxprune.errors` pass through as they are.
    """

    passes: tuple[Pass, ...]

    def __post_init__(self) -> None:
        order = " -> ".join(s.name for s in self.passes)
        given = {"source"}
        for step in self.passes:
            strange = sorted((step.needs | step.gives) - UNIT)
            if strange:
                raise UsageError(
                    f"pass {step.name!r} speaks of {', '.join(strange)}, but a unit has {', '.join(sorted(UNIT))}"
                )
            missing = sorted(step.needs - given)
            if missing:
                raise UsageError(
                    f"pass {step.name!r} needs {', '.join(missing)}, which no pass before it gives: {order}"
                )
            given |= step.gives

    @staticmethod
    def from_toml(path: str | Path, **overrides: Any) -> Pipeline:
        """Read a pipeline file: one `[[pass]]` table for each pass, `use` is its name, the other keys its options.

        `overrides` set an option of every pass that has it; `UsageError` for one that no pass has.
        """
        return Pipeline.of(read_steps(Path(path)), overrides)

    @staticmethod
    def of(
        steps: Sequence[tuple[type[Pass], Mapping[str, Any]]], overrides: Mapping[str, Any] | None = None
    ) -> Pipeline:
        """Passes from their classes and options, with overrides as in `from_toml`."""
        overrides = overrides or {}
        known = {o.name for step, _ in steps for o in options_of(step)}
        unknown = sorted(set(overrides) - known)
        if unknown:
            raise UsageError(
                f"no pass of this pipeline has an option {', '.join(map(repr, unknown))}; known: "
                f"{', '.join(sorted(known))}"
            )
        made = []
        for step, values in steps:
            names = {o.name for o in options_of(step)}
            made.append(make(step, {**values, **{k: v for k, v in overrides.items() if k in names}}))
        return Pipeline(tuple(made))

    def run(self, unit: Unit) -> Unit:
        """Run every pass in turn; a pass may send the run back to one before it, which it names in `unit.redo`.

        What passes told since then is told anew.
        """
        options = tuple((step.name, asdict(step)) for step in self.passes)  # type: ignore[call-overload]
        unit = replace(unit, options=options)
        position, rounds = 0, 0
        notes: dict[int, tuple[str, ...]] = {}
        while position < len(self.passes):
            notes[position] = unit.notes
            unit = self._run_one(position, unit)
            position += 1
            back = next((i for i, s in enumerate(self.passes[:position]) if s.name == unit.redo), None)
            if back is not None:
                rounds += 1
                if rounds > ROUNDS:
                    raise PassFailed(f"pass {self.passes[position - 1].name!r} sent the run back {ROUNDS} times")
                position = back
                unit = replace(unit, notes=notes[back])
            unit = replace(unit, redo=None)
        return unit

    def _run_one(self, position: int, unit: Unit) -> Unit:
        step = self.passes[position]
        before = f"(passes that ran before it: {', '.join(s.name for s in self.passes[:position]) or 'none'})"
        unit.watch(step.name, position, len(self.passes))
        start = time.perf_counter()
        try:
            result = step.run(unit)
        except OnnxPruneError:
            raise
        except Exception as error:
            raise PassFailed(f"pass {step.name!r} failed: {type(error).__name__}: {error} {before}") from error
        if not isinstance(result, Unit):
            raise PassFailed(f"pass {step.name!r} returned {type(result).__name__}, expected a Unit {before}")
        lacking = sorted(name for name in step.gives if getattr(result, name) is None)
        if lacking:
            raise PassFailed(f"pass {step.name!r} promised {', '.join(lacking)} and did not give it {before}")
        spent = result.seconds.get(step.name, 0.0) + time.perf_counter() - start
        return replace(result, seconds={**result.seconds, step.name: spent})


# -- files ------------------------------------------------------------------------------------------------------------


def pipeline_path(pipeline: str | Path) -> Path:
    """The file of a pipeline: one that comes with onnxprune, by name, or any TOML file, by path."""
    if isinstance(pipeline, Path) or pipeline.endswith(".toml"):
        return Path(pipeline)
    spec = importlib.util.find_spec("onnxprune.passes")
    folders = [] if spec is None else [Path(place, "pipelines") for place in spec.submodule_search_locations or ()]
    known = {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}
    if pipeline not in known:
        raise UsageError(f"no pipeline {pipeline!r}; known: {', '.join(known)}, or give the path of a .toml file")
    return known[pipeline]


def read_steps(path: Path) -> list[tuple[type[Pass], Mapping[str, Any]]]:
    """The pass classes and options of a pipeline file; `UsageError` says what is wrong with it and where."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the pipeline {str(path)!r}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{str(path)!r} is not a TOML file: {error}") from error
    entries = table.get("pass")
    if set(table) != {"pass"} or not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        found = ", ".join(table) or "nothing"
        raise UsageError(f"{str(path)!r}: expected one [[pass]] table for each pass and nothing else, found {found}")
    steps: list[tuple[type[Pass], Mapping[str, Any]]] = []
    for number, entry in enumerate(entries, 1):
        name = entry.get("use")
        if not isinstance(name, str):
            raise UsageError(f'{str(path)!r}: [[pass]] number {number} does not say which pass it is: use = "NAME"')
        try:
            steps.append((find(name), {k: v for k, v in entry.items() if k != "use"}))
        except UsageError as error:
            raise UsageError(f"{str(path)!r}: {error}") from error
    return steps


def find(name: str) -> type[Pass]:
    """The pass class of a name: ours, or a third party's (entry points `onnxprune.passes`), imported when asked for."""
    if name in OURS:
        found: type[Pass] = getattr(importlib.import_module(f"onnxprune.passes.{name}"), name.capitalize())
        return found
    from importlib.metadata import entry_points  # not free, and the passes that are ours do without

    others = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if name not in others:
        raise UsageError(f"no pass {name!r}; known: {', '.join(sorted({*OURS, *others}))}")
    return _loaded(others[name])


def _loaded(entry: EntryPoint) -> type[Pass]:
    try:
        found: Any = entry.load()
    except Exception as error:  # a third party's module may fail in any way
        raise UsageError(
            f"the pass {entry.name!r} ({entry.value}) cannot be imported: {type(error).__name__}: {error}"
        ) from error
    parts = ("name", "needs", "gives", "run")
    if not (isinstance(found, type) and is_dataclass(found) and all(hasattr(found, part) for part in parts)):
        raise UsageError(f"{entry.value}, entered as the pass {entry.name!r}, is no dataclass with {', '.join(parts)}")
    step: Any = found
    return step  # type: ignore[no-any-return]
