"""Statistics on disk, by what they were computed from: the model, the samples' bytes, and what was asked of them.

The folder is `$ONNXPRUNE_CACHE`, else `onnxprune` in `$XDG_CACHE_HOME` or `~/.cache`; an empty `ONNXPRUNE_CACHE` turns
the cache off. A file is whole or it is not there; one that cannot be read counts as absent. When all files together
are larger than the limit, those go that were not used for longest.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxprune.data import Samples
from onnxprune.model import Array

__all__ = ["VARIABLE", "Cache", "fingerprint"]

VARIABLE = "ONNXPRUNE_CACHE"
VERSION = 1  # of what a statistic is: another number makes every stored one absent
LIMIT = 4 << 30


def fingerprint(*parts: str | bytes) -> str:
    """The SHA-256, in hex, of some texts and bytes in order, and of `VERSION`."""
    state = hashlib.sha256(f"{VERSION}".encode())
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(f"|{len(data)}|".encode() + data)
    return state.hexdigest()


def samples_print(samples: Samples) -> str:
    """The fingerprint of what samples hold."""
    state = hashlib.sha256(f"{samples.fixed_batch}".encode())
    for name, array in samples.arrays.items():
        state.update(f"|{name}|{array.dtype}|{array.shape}|".encode())
        if array.dtype == object:
            state.update(repr(array.tolist()).encode())
        else:
            state.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    return state.hexdigest()


@dataclass(frozen=True, slots=True)
class Cache:
    """Named arrays by key, in the files of one folder, which take at most `limit` bytes."""

    folder: Path
    limit: int = LIMIT

    @classmethod
    def of_user(cls) -> Cache | None:
        """The cache that the environment names; None where it is turned off, or the user has no home."""
        named = os.environ.get(VARIABLE)
        if named is not None:
            return cls(Path(named)) if named else None
        base = os.environ.get("XDG_CACHE_HOME")
        try:
            return cls((Path(base) if base else Path.home() / ".cache") / "onnxprune")
        except RuntimeError:  # nobody's home is known
            return None

    def get(self, key: str) -> Mapping[str, Array] | None:
        """What is stored; None where there is nothing that can be read."""
        path = self._path(key)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                found = dict(stored)
            os.utime(path)
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            return None
        return found

    def put(self, key: str, arrays: Mapping[str, Array]) -> None:
        """Store arrays, all or nothing; a folder that cannot be written to is left as it is."""
        with suppress(OSError):  # the numbers are at hand: not to find them again later is no failure of this run
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.folder, suffix=".part")
            try:
                with os.fdopen(handle, "wb") as file:
                    np.savez(file, **arrays)  # type: ignore[arg-type]
                Path(temporary).replace(self._path(key))
            finally:
                Path(temporary).unlink(missing_ok=True)

    def trim(self) -> None:
        """Remove what was not used for longest, until the rest is within the limit."""
        kept = 0
        for path, _, size in sorted(self._files(), key=lambda found: found[1], reverse=True):
            kept += size
            if kept > self.limit:
                with suppress(OSError):  # another process has removed it, or uses it
                    path.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"

    def _files(self) -> Iterable[tuple[Path, float, int]]:
        """Every file of ours, when it was last used, and its size."""
        for path in self.folder.glob("*.npz"):
            with suppress(OSError):  # gone since it was listed
                stat = path.stat()
                yield path, stat.st_mtime, stat.st_size
