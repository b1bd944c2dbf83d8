"""Tables as every report has them: plain lines, numbers at the right, names that are never read as styles."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

__all__ = ["SHOWN", "add", "table"]

SHOWN = 40  # rows in a table; the JSON has them all
NUMBERS = frozenset(
    {"before", "after", "kept", "of", "size", "parameters", "MACs", "ms", "share", "latency", "wall", "memory",
     "bytes", "axes", "numbers", "not zero", "zero", "asked", "mean loss"}
)  # fmt: skip


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table with these columns."""
    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        numeric = column in NUMBERS
        made.add_column(column, justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
    return made


def add(to: Table, *cells: str) -> None:
    """Add a row of plain texts: a name in square brackets is a name, not a style."""
    to.add_row(*(Text(cell) for cell in cells))
