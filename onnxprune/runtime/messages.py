"""What a process and its worker say to each other: length-prefixed pickles of the few values below.

The two ends are the same code of the same installation and trust each other: the child is there to survive a crash
of the runtime, it is not a sandbox.
"""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from onnxprune.runtime.session import Array, Options, Value

__all__ = ["Failed", "MemoryJob", "Ran", "RunJob", "read_message", "write_message"]

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class RunJob:
    """Load `model` and run it once for each of `feeds`."""

    model: bytes | Path
    feeds: tuple[dict[str, Array], ...]
    options: Options


@dataclass(frozen=True)
class MemoryJob:
    """Load the model at `model`, run it `runs` times, and tell how much memory that took at its peak."""

    model: Path
    feeds: dict[str, Array]
    options: Options
    runs: int


@dataclass(frozen=True)
class Ran:
    """What the job came to: the outputs of a `RunJob`, the numbers of a `MemoryJob`."""

    result: list[dict[str, Value]] | dict[str, int | None]


@dataclass(frozen=True)
class Failed:
    """The job could not be done, and the worker is still well."""

    reason: str


def write_message(stream: IO[bytes], message: Any) -> None:
    """One message goes out whole: eight bytes of length (little-endian), then the pickle."""
    payload = pickle.dumps(message, protocol=5)
    stream.write(_LENGTH.pack(len(payload)))
    stream.write(payload)
    stream.flush()


def read_message(stream: IO[bytes]) -> Any:
    """The next message; EOFError where the stream ends, even in the middle of one."""
    (length,) = _LENGTH.unpack(_read_exactly(stream, _LENGTH.size))
    return pickle.loads(_read_exactly(stream, length))


def _read_exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError("the other end is gone")
    return data
