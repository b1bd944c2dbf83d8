"""Where results may be written: never over what was read, and known to be possible before any work is done.

A file is written to a temporary one beside it and renamed, so that it is there completely or not at all. What is no
plain file (`/dev/null`, a pipe) is written to, and never replaced.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from onnxprune.errors import OutputNotWritten, UsageError

__all__ = ["check", "write_bytes", "write_text"]


def check(path: str | Path, taken: Iterable[Path] = (), what: str = "the output", special: bool = False) -> Path:
    """The path, if a file can be made there and it is none of those in `taken`, by whatever name.

    `special` allows what is no plain file. Errors: `UsageError` for a path that is taken, `OutputNotWritten` for one
    at which nothing can be written.
    """
    path = Path(path)
    for other in taken:
        if _same(path, other):
            raise UsageError(f"{what} {str(path)!r} is {str(other)!r}, which is read from; choose another path")
    problem = _problem(path, special)
    if problem:
        raise OutputNotWritten(f"cannot write {what} {str(path)!r}: {problem}. Nothing was done; choose another path")
    return path


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one of the two does not exist
        return os.path.realpath(path) == os.path.realpath(other)


def _problem(path: Path, special: bool) -> str:
    """Why no file can be made at `path`; empty where nothing speaks against it."""
    try:
        if path.is_dir() or not path.name:
            return "it is a folder"
        if path.exists() and not path.is_file():
            return "" if special else "it is no plain file"
        folder = path.absolute().parent
        while not folder.exists():
            folder = folder.parent
    except OSError as error:
        return error.strerror or str(error)
    if not folder.is_dir():
        return f"{str(folder)!r} is no folder"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"no permission to write in {str(folder)!r}"


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, all or nothing; folders that do not exist are made. Errors: `OutputNotWritten`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file, all or nothing; folders that do not exist are made. Errors: `OutputNotWritten`."""
    path = Path(path)
    temporary = None
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise OutputNotWritten(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
