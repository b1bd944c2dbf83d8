"""Cells of a table that were measured: a file of JSON, a line each, so that a killed run loses none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Cell = TypeVar("Cell", bound=DataclassInstance)

__all__ = ["append", "read", "rewrite"]


def read(path: Path, kind: type[Cell], renamed: Mapping[str, str] | None = None) -> list[Cell]:
    """What was measured before; `renamed` says what fields of earlier files are called now."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [kind(**{(renamed or {}).get(key, key): value for key, value in json.loads(line).items()}) for line in lines]


def append(path: Path, cell: DataclassInstance) -> None:
    """Put down one more."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(cell)) + "\n")


def rewrite(path: Path, cells: list[Cell]) -> None:
    """Put down these, and none of those before."""
    path.write_text("".join(json.dumps(asdict(cell)) + "\n" for cell in cells), encoding="utf-8")
