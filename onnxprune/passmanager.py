"""Pipelines of passes: options by name, an order that can work, results that keep their promise.

A pass is a frozen dataclass. Its fields are its options, and so the keys of a pipeline file, the flags of the command
line and the keyword arguments of the Python API. `needs` and `gives` name fields of the `Unit`; an order in which a
need is not given is refused before anything runs, and what a pass gives is checked on its result.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, get_type_hints, runtime_checkable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from onnxprune.errors import OnnxPruneError, PassFailed, UsageError
from onnxprune.unit import Unit

__all__ = ["Option", "Pass", "Pipeline", "option", "options_of"]

ROUNDS = 3  # how often a verification may send the pipeline back


@runtime_checkable
class Pass(Protocol):
    """One step: `run` takes a unit and returns the unit that replaces it."""

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    gives: ClassVar[frozenset[str]]

    def run(self, unit: Unit) -> Unit:
        """Do the step; errors are those of `onnxprune.errors`."""
        ...


def option(default: Any, help: str, metavar: str = "", choices: Sequence[str] = ()) -> Any:
    """A dataclass field that is an option, with the sentence that explains it."""
    return field(default=default, metadata={"help": help, "metavar": metavar, "choices": tuple(choices)})


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a pass: its name, type (`str`, `int`, `float`, `bool`, or a tuple of `str`), default, help."""

    name: str
    type: Any
    default: Any
    help: str
    metavar: str
    choices: tuple[str, ...]


def options_of(step: type[Pass]) -> tuple[Option, ...]:
    """The options of a pass class, in order."""
    hints = get_type_hints(step)
    found = []
    for f in fields(step):  # type: ignore[arg-type]
        notes = f.metadata
        found.append(
            Option(
                f.name,
                hints[f.name],
                f.default,
                notes.get("help", ""),
                notes.get("metavar", ""),
                notes.get("choices", ()),
            )
        )
    return tuple(found)


def make(step: type[Pass], values: Mapping[str, Any]) -> Pass:
    """A pass with its options set; `UsageError` for an option that it does not have or a value of another type."""
    known = {o.name: o for o in options_of(step)}
    made: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise UsageError(f"pass {step.name!r} has no option {name!r}; it has {', '.join(known) or 'none'}")
        made[name] = _checked(step.name, known[name], value)
    return step(**made)


def _checked(step: str, option: Option, value: Any) -> Any:
    where = f"option {option.name!r} of pass {step!r}"
    if option.type == tuple[str, ...]:
        if isinstance(value, Mapping):
            value = [f"{k}={v}" for k, v in value.items()]
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
            raise UsageError(f"{where}: expected a list of texts, found {value!r}")
        return tuple(value)
    if option.type is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    expected = option.type if isinstance(option.type, type) else None
    if option.type in (float | None, int | None):
        expected = float if option.type == float | None else int
        if value is None:
            return None
        if expected is float and isinstance(value, int):
            value = float(value)
    if expected is not None and (not isinstance(value, expected) or (expected is not bool and isinstance(value, bool))):
        if expected is str and isinstance(value, (int, float)):
            return str(value)
        raise UsageError(f"{where}: expected {expected.__name__}, found {value!r}")
    if option.choices and value not in option.choices:
        raise UsageError(f"{where}: expected one of {', '.join(option.choices)}, found {value!r}")
    return value


@dataclass(frozen=True)
class Pipeline:
    """Passes in an order that can work.

    Errors: `UsageError` when a pass needs what none before it gives; `PassFailed` around an unexpected failure, with
    the pass and those that ran before it; errors of `onnxprune.errors` pass through as they are.
    """

    passes: tuple[Pass, ...]

    def __post_init__(self) -> None:
        given = {"source"}
        for step in self.passes:
            missing = sorted(step.needs - given)
            if missing:
                raise UsageError(
                    f"pass {step.name!r} needs {', '.join(missing)}, which no pass before it gives: "
                    f"{' -> '.join(s.name for s in self.passes)}"
                )
            given |= step.gives

    @staticmethod
    def from_toml(path: str | Path, **overrides: Any) -> Pipeline:
        """Read a pipeline file: one `[[pass]]` table for each pass, `use` is its name, the other keys its options.

        `overrides` set an option of every pass that has it; `UsageError` for one that no pass has.
        """
        return Pipeline.of(read_steps(Path(path)), overrides)

    @staticmethod
    def of(steps: Sequence[tuple[type[Pass], Mapping[str, Any]]], overrides: Mapping[str, Any]) -> Pipeline:
        """Passes from their classes and options, with overrides as in `from_toml`."""
        made = []
        used = set()
        for step, values in steps:
            names = {o.name for o in options_of(step)}
            chosen = {k: v for k, v in overrides.items() if k in names}
            used |= set(chosen)
            made.append(make(step, {**values, **chosen}))
        unknown = sorted(set(overrides) - used)
        if unknown:
            known = sorted({o.name for step, _ in steps for o in options_of(step)})
            raise UsageError(f"no pass of this pipeline has an option {', '.join(unknown)}; known: {', '.join(known)}")
        return Pipeline(tuple(made))

    def run(self, unit: Unit) -> Unit:
        """Run every pass in turn; a verification that finds faults sends the run back to the pass that it names."""
        unit = replace(unit, options={step.name: _plain(step) for step in self.passes})
        position, rounds = 0, 0
        while position < len(self.passes):
            unit = self._run_one(position, unit)
            position += 1
            if unit.redo is not None:
                back = next((i for i, s in enumerate(self.passes[:position]) if s.name == unit.redo), position)
                rounds += 1
                position = back if rounds < ROUNDS else position
                unit = replace(unit, redo=None)
        return unit

    def _run_one(self, position: int, unit: Unit) -> Unit:
        step = self.passes[position]
        before = ", ".join(s.name for s in self.passes[:position]) or "none"
        unit.watch(step.name, position, len(self.passes))
        start = time.perf_counter()
        try:
            result = step.run(unit)
        except (OnnxPruneError, KeyboardInterrupt):
            raise
        except Exception as error:
            raise PassFailed(
                f"pass {step.name!r} failed: {type(error).__name__}: {error} (passes that ran before it: {before})"
            ) from error
        lacking = sorted(name for name in step.gives if getattr(result, name) is None)
        if lacking:
            raise PassFailed(f"pass {step.name!r} promised {', '.join(lacking)} and did not give it")
        spent = result.seconds.get(step.name, 0.0) + time.perf_counter() - start
        return replace(result, seconds={**result.seconds, step.name: spent})


def _plain(step: Pass) -> dict[str, Any]:
    return dataclasses.asdict(step)  # type: ignore[call-overload, no-any-return]


def read_steps(path: Path) -> list[tuple[type[Pass], Mapping[str, Any]]]:
    """The pass classes and options of a pipeline file; `UsageError` says what is wrong with it and where."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the pipeline {str(path)!r}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{str(path)!r} is not a TOML file: {error}") from error
    entries = table.get("pass")
    if not isinstance(entries, list) or not entries or set(table) - {"pass"}:
        raise UsageError(f"{str(path)!r}: expected one [[pass]] table for each pass and nothing else")
    return [_step(path, entry) for entry in entries]


def _step(path: Path, entry: Mapping[str, Any]) -> tuple[type[Pass], Mapping[str, Any]]:
    name = entry.get("use")
    if not isinstance(name, str):
        raise UsageError(f'{str(path)!r}: a [[pass]] table without its name; write use = "..."')
    return find(name), {k: v for k, v in entry.items() if k != "use"}


def find(name: str) -> type[Pass]:
    """The pass class of a name, ours or a third party's (entry points `onnxprune.passes`)."""
    places = dict(_places())
    if name not in places:
        raise UsageError(f"no pass {name!r}; known: {', '.join(sorted(places))}")
    module, _, attribute = places[name].partition(":")
    found: type[Pass] = getattr(importlib.import_module(module), attribute)
    return found


def _places() -> Iterator[tuple[str, str]]:
    """Where each pass lives, `module:class` by name; nothing is imported until a pass is asked for."""
    from importlib.metadata import entry_points

    for name in ("analyse", "calibrate", "select", "score", "allocate", "shrink", "verify", "evaluate", "profile"):
        yield name, f"onnxprune.passes.{name}:{name.capitalize()}"
    for entry in entry_points(group="onnxprune.passes"):
        yield entry.name, entry.value
