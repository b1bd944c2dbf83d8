"""The shape of the code, read from its text: imports point down, rooms keep to themselves, files stay small."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parent.parent

# The one table of who may import whom: a room imports rooms above it in this list, never below. Rooms that share a
# line are strangers to each other. The first name under `onnxprune` is the room; `onnxprune` itself is its __init__.
ORDER: Sequence[Sequence[str]] = (
    ("errors", "jsontext", "child", "watching"),
    ("dimensions", "solvers", "schedules", "repairs", "targets", "aiming", "executor", "journal"),
    ("unification", "families"),
    ("model", "quantization"),
    ("weights", "destination"),
    ("rules",),
    ("groups", "centring"),
    ("analysis",),
    ("dependency",),
    ("plan", "portions", "explanation", "rescaling", "branches", "silencing", "layers"),
    ("statistics", "consumers"),
    ("cut", "stamp", "gating", "permutation", "gemm"),
    ("continuity", "liveness", "silenced", "regrowth"),
    ("lossless",),
    ("cost",),
    ("criteria", "allocators"),
    ("sparsity", "budgets"),
    ("preprocess",),
    ("images", "tokens", "pictures"),
    ("data",),
    ("evaluation",),
    ("runtime",),
    ("trials", "calibration", "noise", "unexplained", "gradients"),
    ("verification", "probing", "divergence", "recovery", "latency"),
    ("resuming",),
    ("objective", "prediction", "depth"),
    ("unit", "benchmark", "front", "curves"),
    ("report", "plots", "remedies"),
    ("passmanager", "fingerprints"),
    ("exploration", "survey", "flags"),
    ("testing",),
    ("passes",),
    ("api",),
    ("cli",),
    ("onnxprune", "__main__"),
)
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}

OWNERS = {"onnx": "model", "onnx_graphsurgeon": "model", "onnxruntime": "runtime"}  # library -> the room that may
PUBLIC_FACE = {"api", "cli", "onnxprune", "__main__"}  # what may import passes
HEAVY = {"numpy", "onnx", "onnx_graphsurgeon", "onnxruntime", "networkx", "rich", "scipy", "google"}
VAGUE = {"utils", "util", "core", "base", "common", "helpers", "misc"}
MODULE_LINES, PASS_LINES, RULE_LINES = 500, 150, 25


@dataclass(frozen=True)
class Source:
    """One Python file of the repository; `path` is relative to the root, `module` is how it is imported."""

    path: Path

    def __str__(self) -> str:
        return self.path.as_posix()

    @cached_property
    def text(self) -> str:
        return (ROOT / self.path).read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def module(self) -> str:
        parts = self.path.with_suffix("").parts
        parts = ("onnxprune", *parts) if parts[0] == "passes" else parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def room(self) -> str:
        return room_of(self.module)

    @property
    def imports(self) -> Iterator[str]:
        """Every module or member that this file imports, by absolute name, wherever in the file it stands."""
        package = self.module if self.path.name == "__init__.py" else self.module.rpartition(".")[0]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
                origin = ".".join([*above, *([node.module] if node.module else [])])
                yield from (f"{origin}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def sources(*folders: str) -> list[Source]:
    """The Python files under `folders`; the link onnxprune/passes is not followed, the folder passes/ is what it is."""
    link = Path("onnxprune", "passes")
    found = (path.relative_to(ROOT) for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return [Source(path) for path in found if link not in path.parents]


LIBRARY = sources("onnxprune", "passes")
EVERYTHING = LIBRARY + sources("tests", "tools")
MODULES = {source.module: source for source in LIBRARY}


def target(name: str) -> str | None:
    """The module of ours that an imported name stands for: the module itself, or the one that the member is in."""
    if name in MODULES:
        return name
    parent = name.rpartition(".")[0]
    return parent if parent in MODULES else None


def each(found: Sequence[Source]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("source", found, ids=str)


def test_the_files_are_found() -> None:
    """The checks below see the library, the passes and the tests, and each module once."""
    assert {"onnxprune", "onnxprune.errors", "onnxprune.passes"} <= MODULES.keys()
    assert len(MODULES) == len(LIBRARY)


@each(LIBRARY)
def test_every_room_has_its_place(source: Source) -> None:
    """A new module is entered in ORDER before it is imported anywhere."""
    assert source.room in RANK, f"{source}: enter '{source.room}' in ORDER"


@each(LIBRARY)
def test_imports_point_down(source: Source) -> None:
    """A room imports only rooms that stand before it in ORDER, type annotations and lazy imports included."""
    for name in source.imports:
        if name.split(".")[0] == "onnxprune":
            found = target(name)
            assert found is not None or name == "onnxprune.__version__", f"{source}: there is no {name}"
            room = room_of(found or name)
            assert room == source.room or RANK[room] < RANK[source.room], f"{source} imports {name}, which is above it"


@each(LIBRARY)
def test_a_library_has_one_owner(source: Source) -> None:
    """onnx and onnx-graphsurgeon are touched in model/ alone, onnxruntime in runtime/ alone (tests and tools aside)."""
    for name in source.imports:
        owner = OWNERS.get(name.split(".")[0])
        assert owner in (None, source.room), f"{source} imports {name}: only onnxprune/{owner} does"


@each(EVERYTHING)
def test_passes_is_imported_by_its_full_name(source: Source) -> None:
    """`import passes` would make a second copy of every pass: it is onnxprune.passes."""
    assert all(name.split(".")[0] != "passes" for name in source.imports), f"{source} imports bare passes"


@each([source for source in LIBRARY if source.room not in PUBLIC_FACE | {"passes"}])
def test_the_machine_knows_no_pass(source: Source) -> None:
    """Only the public face imports passes: what passes build on never looks up at them."""
    assert all(room_of(name) != "passes" for name in source.imports if name.startswith("onnxprune."))


def test_no_import_goes_round() -> None:
    """No module imports itself through others, lazily or not."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for module, source in MODULES.items():
        found = {target(name) for name in source.imports if name.split(".")[0] == "onnxprune"}
        graph.add_edges_from((module, other) for other in found if other is not None)
    assert list(nx.simple_cycles(graph)) == []


@each(EVERYTHING)
def test_a_name_says_what_is_inside(source: Source) -> None:
    """No file or folder is called utils, core, base or common."""
    assert not VAGUE & {part.removesuffix(".py").strip("_") for part in source.path.parts}


@each(EVERYTHING)
def test_a_module_is_one_subject(source: Source) -> None:
    """No module is longer than 500 lines, no pass longer than 150."""
    limit = PASS_LINES if source.path.parts[0] == "passes" else MODULE_LINES
    assert len(source.text.splitlines()) <= limit


def code_lines(function: ast.FunctionDef, text: str) -> int:
    """The lines of `function` that hold code: no docstring, no comment, no blank line, no decorator."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return 0
    ignored = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in ignored
        for line in range(token.start[0], token.end[0] + 1)
        if body[0].lineno <= line <= (function.end_lineno or line)
    }
    return len(lines) + 1


def rules(source: Source) -> list[ast.FunctionDef]:
    """The functions of a file that are decorated with @rule or @rule(...)."""

    def is_rule(decorator: ast.expr) -> bool:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        return (called.id if isinstance(called, ast.Name) else getattr(called, "attr", None)) == "rule"

    functions = (node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef))
    return [node for node in functions if any(map(is_rule, node.decorator_list))]


@each([source for source in LIBRARY if source.room == "rules"])
def test_a_rule_is_short(source: Source) -> None:
    """The rule of an operator is at most 25 lines of code: it states facts and does nothing."""
    for function in rules(source):
        count = code_lines(function, source.text)
        assert count <= RULE_LINES, f"{source}:{function.lineno} {function.name} is {count} lines"


def test_lines_of_code_are_counted_as_said() -> None:
    """One for the def, one for each line that holds code; the docstring, comments, blanks and decorators are free."""
    text = (
        '@rule("X")\ndef f(x):\n    """Doc.\n\n    More."""\n\n    # why\n    a = [\n        x,\n    ]\n    return a\n'
    )
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    assert code_lines(function, text) == 5


def test_relative_imports_are_resolved() -> None:
    """The checks see through `from . import x` and `from ..a import b`."""
    source = Source(Path("onnxprune/rules/conv.py"))
    source.__dict__["tree"] = ast.parse("from . import facts\nfrom ..model import Node\nfrom .facts import same")
    assert list(source.imports) == ["onnxprune.rules.facts", "onnxprune.model.Node", "onnxprune.rules.facts.same"]


@pytest.mark.parametrize("module", [m for m in ("onnxprune", "onnxprune.cli") if m in MODULES])
def test_importing_is_quick(module: str) -> None:
    """`import onnxprune` and the command line's `--help` load no library that takes longer than they do."""
    code = f"import sys, {module}; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not HEAVY & set(run.stdout.split())
