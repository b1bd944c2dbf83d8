"""Arrays in memory up to a limit, and beyond it in files of a temporary folder that are read as they are needed.

The tensors that a model's pieces hand on are as many as there are samples: a few hundred images of a detector at its
widest place are gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, TypeAlias
from weakref import finalize

import numpy as np
import numpy.typing as npt

__all__ = ["Shelf"]

Array: TypeAlias = npt.NDArray[Any]
Key: TypeAlias = tuple[int, str]
"""A batch, and the name of a tensor."""
LIMIT = 512 << 20  # bytes in memory on one shelf


@dataclass(frozen=True, slots=True)
class _File:
    """An array in a file."""

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def read(self) -> Array:
        """The array, mapped while somebody holds it."""
        return np.memmap(self.path, self.dtype, "r", shape=self.shape).view(np.ndarray)


class Shelf:
    """Arrays by key. Beyond `limit` bytes, those that are added lie in files; the folder goes with the shelf."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = LIMIT if limit is None else limit
        self._arrays: dict[Key, Array] = {}
        self._files: dict[Key, _File] = {}  # read anew each time: what is mapped counts as memory
        self.folder = ""  # where the files lie, once there are any
        self._number = self.held = 0  # files so far, and bytes in memory

    def __getitem__(self, key: Key) -> Array:
        file = self._files.get(key)
        return self._arrays[key] if file is None else file.read()

    def __contains__(self, key: object) -> bool:
        return key in self._arrays or key in self._files

    def __iter__(self) -> Iterator[Key]:
        return chain(self._arrays, self._files)

    @property
    def spilled(self) -> int:
        """How many arrays lie in files now."""
        return len(self._files)

    def put(self, key: Key, array: Array) -> None:
        """Add an array; text and arrays without a number stay in memory."""
        self.drop([key])
        if self.held + array.nbytes <= self._limit or array.dtype.hasobject or not array.nbytes:
            self._arrays[key] = array
            self.held += array.nbytes
            return
        if not self.folder:
            self.folder = mkdtemp(prefix="onnxprune-")
            finalize(self, rmtree, self.folder, ignore_errors=True)
        self._files[key] = file = _File(Path(self.folder) / str(self._number), array.dtype, array.shape)
        self._number += 1
        np.ascontiguousarray(array).tofile(file.path)

    def drop(self, keys: Iterable[Key]) -> None:
        """Forget these arrays, where they are there."""
        for key in keys:
            array = self._arrays.pop(key, None)
            if array is not None:
                self.held -= array.nbytes
            file = self._files.pop(key, None)
            if file is not None:
                with suppress(PermissionError):  # somebody reads it still, where such files cannot go: it goes with all
                    file.path.unlink()
