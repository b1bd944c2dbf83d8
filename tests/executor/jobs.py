"""Jobs that tests give to workers: importable by name, as every job is."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from onnxprune.errors import GateNotMet


def square(x: int) -> int:
    return x * x


def process(_: int) -> int:
    time.sleep(0.2)
    return os.getpid()


def own() -> int:
    return os.getpid()


def meet(folder_and_name: tuple[str, str, int]) -> str:
    """Return when `count` jobs are here at once."""
    folder, name, count = folder_and_name
    Path(folder, name).touch()
    while len(list(Path(folder).iterdir())) < count:
        time.sleep(0.01)
    return name


def die_once(place: str) -> str:
    """Kill the worker the first time; `place` remembers. A place of another name is just returned."""
    if place.startswith("well"):
        return place
    path = Path(place)
    if not path.exists():
        path.write_text("died")
        os.kill(os.getpid(), signal.SIGKILL)
    return path.read_text()


def die(item: str) -> str:
    if item.startswith("well"):
        return item
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def refuse(item: str) -> str:
    raise GateNotMet(f"not {item}")


def crash(item: str) -> str:
    raise ZeroDivisionError(item)


def chatter(item: str) -> str:
    print("words on stdout")
    os.write(1, b"and more\n")
    return item


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds
