"""Two runs of equal fingerprints read the same data with the same software: what one found, the other would find."""

from __future__ import annotations

import hashlib
import inspect
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from onnxprune.data import load_function, names_function
from onnxprune.errors import UsageError
from onnxprune.journal import key_of

__all__ = ["data_print", "versions"]

SOFTWARE = ("onnxprune", "onnxruntime", "onnx", "numpy")
CHUNK = 1 << 20


def data_print(source: str) -> str:
    """The fingerprint of what a user named as data: the bytes of a file and of a `data.toml` beside it; the names,
    sizes and times of a folder's files; the file that a function is in; else the words themselves."""
    path = Path(source)
    if not source:
        return ""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return key_of(files=[(str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns) for f in files])
    if path.is_file():
        beside = path.with_name("data.toml")
        return key_of(source=_bytes(path), beside=_bytes(beside) if beside.is_file() else "")
    if names_function(source):
        try:
            file = inspect.getsourcefile(load_function(source))
        except TypeError:  # a function that is not written in Python
            file = None
        return key_of(source=source, file=_bytes(Path(file)) if file and Path(file).is_file() else "")
    return source


def versions() -> dict[str, str]:
    """The versions of what computes a result."""
    found = {}
    for name in SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a checkout that is not installed, a build by another name
            found[name] = ""
    return found


def _bytes(path: Path) -> str:
    state = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while data := file.read(CHUNK):
                state.update(data)
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    return state.hexdigest()
