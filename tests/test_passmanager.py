"""Pipelines: an order that cannot work is refused before any work, options are checked, promises are kept."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from onnxprune.errors import GateNotMet, PassFailed, UsageError
from onnxprune.passmanager import ROUNDS, Pipeline, find, make, option, options_of, pipeline_path, read_steps
from onnxprune.testing import build
from onnxprune.unit import Unit
from tests.commands import Commands

NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Note:
    """Writes a note; the pass of another package."""

    name: ClassVar[str] = "note"
    needs: ClassVar[frozenset[str]] = frozenset({"source"})
    gives: ClassVar[frozenset[str]] = NONE

    text: str = option("hello", "What to note.", "TEXT")
    times: int = option(1, "How often.", "N", minimum=1)
    scale: float | None = option(None, "A number or nothing.")
    loud: bool = option(False, "In capitals.")
    tags: tuple[str, ...] = option((), "Words to add.")
    tone: str = option("kind", "How.", choices=("kind", "rude"))

    def run(self, unit: Unit) -> Unit:
        """Add the note."""
        text = " ".join((self.text.upper() if self.loud else self.text, *self.tags))
        return replace(unit, notes=(*unit.notes, *(text for _ in range(self.times))))


@dataclass(frozen=True)
class Fails:
    """Raises what it is told to."""

    name: ClassVar[str] = "fails"
    needs: ClassVar[frozenset[str]] = frozenset({"source"})
    gives: ClassVar[frozenset[str]] = frozenset({"analysis"})

    error: str = option("bug", "What goes wrong.")

    def run(self, unit: Unit) -> Unit:
        """Go wrong."""
        if self.error == "gate":
            raise GateNotMet("not met")
        if self.error == "broken promise":
            return unit
        if self.error == "no unit":
            return None  # type: ignore[return-value]
        raise ZeroDivisionError("a bug")


@dataclass(frozen=True)
class Needs:
    """Needs what `fails` gives; must never run in these tests."""

    name: ClassVar[str] = "needs"
    needs: ClassVar[frozenset[str]] = frozenset({"analysis"})
    gives: ClassVar[frozenset[str]] = NONE

    def run(self, unit: Unit) -> Unit:
        """Never."""
        raise AssertionError


def unit() -> Unit:
    return Unit(source=build("x[N,3,8,8] -> y; y = Conv(x, W[4,3,1,1])"))


# -- order and promises -----------------------------------------------------------------------------------------------


def test_an_order_that_cannot_work_is_refused_before_anything_runs() -> None:
    with pytest.raises(UsageError, match="pass 'needs' needs analysis, which no pass before it gives: needs -> fails"):
        Pipeline((Needs(), Fails()))


def test_a_need_that_no_unit_has_is_refused() -> None:
    @dataclass(frozen=True)
    class Strange(Note):
        gives: ClassVar[frozenset[str]] = frozenset({"wings"})

    with pytest.raises(UsageError, match="speaks of wings, but a unit has aims, allocation, analysis"):
        Pipeline((Strange(),))


def test_an_unexpected_failure_names_the_pass_and_those_before_it() -> None:
    with pytest.raises(PassFailed, match=r"pass 'fails' failed: ZeroDivisionError: a bug .*before it: note\)") as found:
        Pipeline((Note(), Fails())).run(unit())
    assert isinstance(found.value.__cause__, ZeroDivisionError)


def test_errors_on_purpose_pass_through() -> None:
    with pytest.raises(GateNotMet, match=r"^not met$"):
        Pipeline((Fails("gate"),)).run(unit())


@pytest.mark.parametrize(
    ("how", "words"),
    [("broken promise", "pass 'fails' promised analysis and did not give it"),
     ("no unit", "pass 'fails' returned NoneType, expected a Unit")],
)  # fmt: skip
def test_what_a_pass_gives_is_checked_on_its_result(how: str, words: str) -> None:
    with pytest.raises(PassFailed, match=words):
        Pipeline((Note(), Fails(how))).run(unit())


def test_a_pass_may_occur_twice_and_all_are_told_and_timed() -> None:
    seen: list[tuple[str, int, int]] = []
    watched = replace(unit(), watch=lambda *step: seen.append(step))
    result = Pipeline((Note("a"), Note("b", times=2))).run(watched)
    assert result.notes == ("a", "b", "b")
    assert [(name, options["text"]) for name, options in result.options] == [("note", "a"), ("note", "b")]
    assert seen == [("note", 0, 2), ("note", 1, 2)]
    assert result.seconds.keys() == {"note"}


def test_a_pass_that_sends_the_run_back_for_ever_is_stopped() -> None:
    @dataclass(frozen=True)
    class Back(Note):
        name: ClassVar[str] = "back"
        until: int = option(0, "How many rounds are enough; 0: never.")

        def run(self, unit: Unit) -> Unit:
            return replace(unit, step=unit.step + 1, redo=None if unit.step == self.until else "note")

    done = Pipeline((Note(), Back(until=3))).run(unit())
    assert (done.step, done.notes) == (4, ("hello",))  # three rounds, and what is told again is told once
    with pytest.raises(PassFailed, match=f"'back' sent the run back {ROUNDS} times"):
        Pipeline((Note(), Back())).run(unit())
    assert Pipeline((Back(),)).run(unit()).redo is None  # there is no such pass to go back to


# -- options ----------------------------------------------------------------------------------------------------------


def test_overrides_reach_every_pass_that_has_the_option() -> None:
    steps: list[Any] = [(Note, {"text": "a", "times": 2}), (Fails, {}), (Note, {})]
    assert Pipeline.of(steps, {"text": "b"}).passes == (Note("b", times=2), Fails(), Note("b"))


def test_an_override_that_no_pass_has_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"no pass of this pipeline has an option 'sparsityy'; known: error"):
        Pipeline.of([(Fails, {})], {"sparsityy": 0.5})


@pytest.mark.parametrize(
    ("values", "made"),
    [
        ({"scale": 2}, Note(scale=2.0)),
        ({"scale": None}, Note()),
        ({"text": 8}, Note("8")),
        ({"text": Path("a.npz")}, Note("a.npz")),
        ({"tags": "one"}, Note(tags=("one",))),
        ({"tags": ["a", "b"]}, Note(tags=("a", "b"))),
        ({"tags": {"macs": 0.5}}, Note(tags=("macs=0.5",))),
        ({"loud": True}, Note(loud=True)),
    ],
)
def test_values_that_mean_the_same_are_taken(values: dict[str, Any], made: Note) -> None:
    assert make(Note, values) == made


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"txt": "a"}, "pass 'note' has no option 'txt'; it has text, times, scale, loud, tags, tone"),
        ({"times": "two"}, "option 'times' of pass 'note': expected a whole number, found 'two'"),
        ({"times": 2.0}, "expected a whole number, found 2.0"),
        ({"times": True}, "expected a whole number, found True"),
        ({"times": 0}, "expected at least 1, found 0"),
        ({"times": None}, "expected a whole number, found None"),
        ({"scale": True}, "expected a number, found True"),
        ({"scale": "much"}, "expected a number, found 'much'"),
        ({"loud": 1}, "expected true or false, found 1"),
        ({"text": True}, "expected a text, found True"),
        ({"tags": 5}, "expected a list of texts, found 5"),
        ({"tags": [1]}, r"expected a list of texts, found \[1\]"),
        ({"tone": "loud"}, "expected kind or rude, found 'loud'"),
    ],
)
def test_values_that_an_option_cannot_be_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make(Note, values)


def test_options_of_plain_fields() -> None:
    """A field without `option` is an option without help; one without default must be set; odd types are refused."""

    @dataclass(frozen=True)
    class Plain(Note):
        more: tuple[str, ...] = field(default_factory=tuple)

    assert [(o.name, o.default, o.help) for o in options_of(Plain)][-1] == ("more", (), "")

    @dataclass(frozen=True)
    class Must:
        name: ClassVar[str] = "must"
        needs: ClassVar[frozenset[str]] = NONE
        gives: ClassVar[frozenset[str]] = NONE
        path: str

        def run(self, unit: Unit) -> Unit:
            return unit

    with pytest.raises(UsageError, match="pass 'must' needs its option 'path'"):
        make(Must, {})
    assert make(Must, {"path": "p"}) == Must("p")

    @dataclass(frozen=True)
    class Odd(Note):
        where: Path = Path()

    with pytest.raises(UsageError, match=r"the field 'where' is .*Path.*, which no option can be"):
        options_of(Odd)


# -- files ------------------------------------------------------------------------------------------------------------

BAD_FILES = {
    "not TOML": ("[[pass", "is not a TOML file"),
    "empty": ("", r"expected one \[\[pass\]\] table for each pass and nothing else, found nothing"),
    "more than passes": ('title = "x"\n[[pass]]\nuse = "analyse"', "found title, pass"),
    "no list": ('pass = "analyse"', "expected one"),
    "a list of names": ('pass = ["analyse"]', "expected one"),
    "a pass without a name": ('[[pass]]\nuse = "analyse"\n[[pass]]\nsize = []', "number 2 does not say which pass"),
    "an unknown pass": ('[[pass]]\nuse = "prune"', "no pass 'prune'; known: allocate, analyse, calibrate"),
    "an unknown option": ('[[pass]]\nuse = "shrink"\nhow = 1', "pass 'shrink' has no option 'how'; it has none"),
    "a wrong type": ('[[pass]]\nuse = "analyse"\n[[pass]]\nuse = "select"\n[[pass]]\nuse = "score"\nseed = "x"',
                     "option 'seed' of pass 'score': expected a whole number, found 'x'"),
    "a wrong order": ('[[pass]]\nuse = "shrink"\n[[pass]]\nuse = "analyse"', "pass 'shrink' needs analysis, plan"),
    "no verification": ('[[pass]]\nuse = "analyse"', "it needs shrink and verify"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_pipeline_file_that_cannot_work(what: str, onnxprune: Commands, desk: Path) -> None:
    """Exit code 2 and a sentence that says what is wrong, before any work."""
    text, words = BAD_FILES[what]
    Path("p.toml").write_text(text)
    ran = onnxprune("run", "p.toml", "models/kws_dscnn.onnx", "-o", "o.onnx")
    assert (ran.code, ran.out) == (2, "")
    with pytest.raises(UsageError, match=words):
        raise UsageError(ran.err)
    assert not Path("o.onnx").exists()


def test_pipelines_have_names_and_paths(tmp_path: Path) -> None:
    assert pipeline_path("prune").name == "prune.toml"
    assert [step.name for step, _ in read_steps(pipeline_path("prune"))][-1] == "profile"
    assert pipeline_path("mine.toml") == Path("mine.toml")
    known = "known: branch, mask, prune, shrink, or give the path"
    with pytest.raises(UsageError, match=f"no pipeline 'mine'; {known} of a .toml file"):
        pipeline_path("mine")
    with pytest.raises(UsageError, match=r"cannot read the pipeline .*No such file"):
        read_steps(tmp_path / "no.toml")


# -- passes of other packages -----------------------------------------------------------------------------------------


def offer(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """As an installed package would: an entry point `name` = `value`."""
    entries = EntryPoints([EntryPoint(name, value, "onnxprune.passes")])
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **wanted: entries.select(**wanted))


def test_a_pass_of_another_package_runs(monkeypatch: pytest.MonkeyPatch, onnxprune: Commands, desk: Path) -> None:
    offer(monkeypatch, "note", f"{__name__}:Note")
    text = pipeline_path("prune").read_text() + '[[pass]]\nuse = "note"\ntext = "from afar"\n'
    Path("p.toml").write_text(text.replace('use = "profile"', 'use = "profile"\nrounds = 0'))
    ran = onnxprune("run", "p.toml", "models/kws_dscnn.onnx", "-o", "o.onnx")
    assert (ran.code, "note: from afar" in ran.out) == (0, True), ran.err


def test_a_name_of_ours_stays_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "verify", f"{__name__}:Note")
    assert find("verify").__module__ == "onnxprune.passes.verify"


def test_a_pass_of_another_package_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "odd", f"{__name__}:unit")
    with pytest.raises(UsageError, match="entered as the pass 'odd', is no dataclass with name, needs, gives, run"):
        find("odd")
    offer(monkeypatch, "gone", "no_such_module:Pass")
    with pytest.raises(UsageError, match=r"the pass 'gone' \(no_such_module:Pass\) cannot be imported"):
        find("gone")
    monkeypatch.setitem(sys.modules, "empty_module", ModuleType("empty_module"))
    offer(monkeypatch, "empty", "empty_module:Pass")
    with pytest.raises(UsageError, match="cannot be imported: AttributeError"):
        find("empty")
    with pytest.raises(UsageError, match=r"no pass 'other'; known: allocate, .*, empty, evaluate"):
        find("other")
