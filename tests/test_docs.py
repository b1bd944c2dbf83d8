"""What README.md and docs/ show is true: Python runs, commands parse, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import click
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")])
HAS_API = (ROOT / "onnxprune" / "api.py").exists()
HAS_CLI = (ROOT / "onnxprune" / "cli.py").exists()


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: `line` is that of its first line of content."""

    page: Path
    line: int
    language: str
    text: str


def blocks(page: Path, *languages: str) -> Iterator[Block]:
    """The blocks of `page` in one of `languages`; a fence may be indented under a list."""
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL):
        if match[2] in languages:
            line = text.count("\n", 0, match.start(3)) + 1
            yield Block(page, line, match[2], re.sub(f"^{match[1]}", "", match[3], flags=re.MULTILINE))


def commands(page: Path) -> Iterator[list[str]]:
    """The arguments of every onnxprune command in a bash or console block, wherever onnxprune is installed."""
    for block in blocks(page, "bash", "console"):
        for line in block.text.replace("\\\n", " ").splitlines():
            for command in line.removeprefix("$ ").split("&&"):
                words = shlex.split(command, comments=True)
                if words and Path(words[0]).name == "onnxprune":
                    yield words[1:]


def code_pages() -> list[Path]:
    return [page for page in PAGES if HAS_API and any(blocks(page, "python"))]


def command_lines() -> list[list[str]]:
    return [words for page in PAGES for words in commands(page)] if HAS_CLI else []


@pytest.mark.parametrize("page", code_pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_in_a_page_runs(page: Path, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python blocks of a page run from top to bottom in one namespace, as a reader would type them."""
    module = ModuleType("__docs__")
    monkeypatch.setitem(sys.modules, "__docs__", module)  # a dataclass looks its module up
    for block in blocks(page, "python"):
        exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), module.__dict__)


@pytest.mark.parametrize("words", command_lines(), ids=" ".join)
def test_a_command_in_a_page_parses(words: list[str], desk: Path) -> None:
    """Each onnxprune command names a command and options that there are, with values that they take."""
    (group,) = {value for value in vars(import_module("onnxprune.cli")).values() if isinstance(value, click.Group)}
    for word in words:
        if word.startswith("out/"):  # what an example writes, a later one may read
            Path(word).parent.mkdir(exist_ok=True)
            Path(word).touch()
    with click.Context(group, **group.context_settings) as context:
        name, command, rest = group.resolve_command(context, list(words))
        assert command is not None
        if "--help" not in rest:
            command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    """A relative link in a page names a file or a folder that exists."""
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_blocks_are_found_with_their_lines(tmp_path: Path) -> None:
    """Blocks under a list lose their indent, other languages are left out, commands may follow others or go on."""
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\n* item\n\n  ```python\n  a = 1\n    \n  ```\n\n```toml\nb = 2\n```\n\n"
        "```bash\npip install . && .venv/bin/onnxprune prune m.onnx \\\n  -o out/m.onnx  # why\nls\n```\n"
    )
    (block,) = blocks(page, "python")
    assert (block.line, block.text) == (6, "a = 1\n  \n")
    assert list(commands(page)) == [["prune", "m.onnx", "-o", "out/m.onnx"]]


def test_the_readme_shows_its_two_commands() -> None:
    """The first command sets everything up and prunes; the second runs the checks, as CI does."""
    lines = [line for block in blocks(ROOT / "README.md", "bash") for line in block.text.splitlines()]
    assert " onnxprune prune models/" in lines[0].replace(".venv/bin/", " ").replace("  ", " ")
    assert lines[1] == "python3 tools/check.py"
    assert "tools/check.py" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
