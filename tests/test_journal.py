"""Journals: what was written is there, once, after any end; what was torn never was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from onnxprune.errors import OutputNotWritten, UsageError
from onnxprune.journal import Journal, key_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "journal.jsonl"


def test_what_was_added_is_there(path: Path) -> None:
    with Journal(path) as journal:
        assert dict(journal) == {}
        journal.add("a", {"loss": 0.5, "name": "é\n"})
        journal.add("b", None)
        assert "a" in journal
    with Journal(path) as journal:
        assert dict(journal) == {"a": {"loss": 0.5, "name": "é\n"}, "b": None}
        assert len(path.read_text(encoding="utf-8").splitlines()) == 3


def test_a_torn_last_line_never_was(path: Path) -> None:
    """Cut anywhere in its last line, the journal has all lines before that, and goes on."""
    with Journal(path) as journal:
        journal.add("a", 1)
        whole = path.read_bytes()
        journal.add("b", 2)
    full = path.read_bytes()
    for end in range(len(whole), len(full)):
        path.write_bytes(full[:end])
        with Journal(path) as journal:
            assert dict(journal) == {"a": 1}
            journal.add("c", 3)
        with Journal(path) as journal:
            assert dict(journal) == {"a": 1, "c": 3}


def test_a_torn_first_line_is_a_new_journal(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'{"onnxprune_j')
    with Journal(path) as journal:
        journal.add("a", 1)
    with Journal(path) as journal:
        assert dict(journal) == {"a": 1}


@pytest.mark.parametrize("text", ["hello", "hello\n", '{"onnxprune_journal": 99}\n', '{"onnxprune_journal": 1}\nx\n',
                                  '{"onnxprune_journal": 1}\n{"a": 1}\n{"key": "b", "value": 1}\n'])  # fmt: skip
def test_what_is_no_journal_is_left_alone(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UsageError, match=r"line [12] of .* is damaged"):
        Journal(path)
    assert path.read_text() == text


def test_one_run_at_a_time(path: Path) -> None:
    with Journal(path), pytest.raises(UsageError, match="another run is at work"):
        Journal(path)
    Journal(path).close()


def test_a_killed_run_frees_it_and_leaves_its_lines(path: Path) -> None:
    code = (
        "import os, signal, sys; from onnxprune.journal import Journal; j = Journal(sys.argv[1]); j.add('a', 1); "
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        run.stdout.readline()
        with pytest.raises(UsageError, match="another run"):
            Journal(path)
        os.kill(run.pid, signal.SIGKILL)
    with Journal(path) as journal:
        assert dict(journal) == {"a": 1}


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputNotWritten, match="cannot write the journal"):
        Journal(tmp_path / "file" / "journal")


def test_a_key_is_of_everything_and_no_order() -> None:
    assert key_of(a=1, b=["x", 2.5]) == key_of(b=["x", 2.5], a=1)
    assert len({key_of(a=1), key_of(a=2), key_of(b=1), key_of(a="1")}) == 4
