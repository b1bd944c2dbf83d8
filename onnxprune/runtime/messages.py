"""What a process and its worker that runs models say to each other: the few values below."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from onnxprune.runtime.session import Array, Options, Value

__all__ = ["Failed", "MemoryJob", "Ran", "RunJob"]


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
