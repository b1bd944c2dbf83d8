"""The command line as a test runs it: in this process, with what it printed and how it ended."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from onnxprune.cli import main


@dataclass(frozen=True)
class Ran:
    """What a command ended with and printed."""

    code: int
    out: str
    err: str


class Commands:
    """Runs `onnxprune` commands; output is captured, and 120 columns wide."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Ran:
        """Run one command to its end."""
        self._capsys.readouterr()
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = self._capsys.readouterr()
        return Ran(code, out, err)
