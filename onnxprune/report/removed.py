"""What a lossless run says: what was dead and went, by kind, and what stays although it is a constant, and why."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from onnxprune.report.report import Report

__all__ = ["show_removed"]

KINDS: Mapping[str, tuple[str, str]] = {
    "unread": ("index that nothing reads", "indices that nothing reads"),
    "zero": ("index that is always zero", "indices that are always zero"),
    "constant": ("constant index, folded into biases", "constant indices, folded into biases"),
    "duplicate": ("duplicate, merged with its twin", "duplicates, merged with their twins"),
    "nodes": ("node that no output needs", "nodes that no output needs"),
    "initializers": ("initializer that no output needs", "initializers that no output needs"),
    "outputs": ("optional output that nothing reads", "optional outputs that nothing reads"),
    "identities": ("Identity", "Identities"),
}
SCATTERED = 0.05  # the share of zeros among the weights from which on they are worth a word


def show_removed(console: Console, report: Report) -> None:
    """One line for each kind that was found; a plain sentence where nothing was."""
    if not report.removed:
        console.print("nothing to remove: no index is unread, zero, constant or a duplicate; the model stays as it is")
    for kind, names in KINDS.items():
        number = (report.removed or {}).get(kind, 0)
        if number:
            console.print(Text(f"removed: {number:,} {names[number != 1]}"))
    for reason, number in (report.left or {}).items():
        console.print(Text(f"left: {number:,} constant {'index' if number == 1 else 'indices'}, because {reason}"))
    zeros = 0 if report.masks else report.params_after - report.nonzero_after
    if report.params_after and zeros > SCATTERED * report.params_after:
        share = f"{zeros / report.params_after:.0%}"
        console.print(f"left: {zeros:,} zeros ({share} of the parameters) within channels that are needed")
