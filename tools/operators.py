"""Writes docs/operators.md: what onnxprune says of every operator of the ONNX standard, and of those of ONNX Runtime.

    python tools/operators.py [--check]

The standard is that of the installed onnx; of `com.microsoft`, the operators that have a rule are listed. With
`--check` nothing is written, and it ends with 1 if the page is not current.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from onnxprune.rules import Rule, registry

__all__ = ["PAGE", "Row", "page", "rows"]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operators.md"
RUNTIME = "com.microsoft"
NOT_BY_RULE = {"Constant": "its value is a weight, as an initializer is"}

HEAD = """\
# Operators

What onnxprune says of each operator: the first sentence of its rule, and the file in `onnxprune/rules/` where it is;
or, where no cut can ever pass through, why. A node without a rule fixes everything that it touches, and the report
says so. Written by `python tools/operators.py`; a test keeps it current. See
[adding an operator](adding-an-operator.md).
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One operator: its newest version (0: not of the standard) and what is said of it; `kind` is what it counts as."""

    name: str
    version: int
    kind: str
    said: str


def rows() -> Iterator[Row]:
    """Every operator of the standard, by name."""
    newest = onnx.defs.onnx_opset_version()
    schemas = {s.name: s for s in onnx.defs.get_all_schemas() if s.domain == ""}
    for name, schema in sorted(schemas.items()):
        if name in NOT_BY_RULE:
            yield Row(name, schema.since_version, "rule", NOT_BY_RULE[name])
        else:
            kind, said = _said(registry.find("", name, newest))
            yield Row(name, schema.since_version, kind, f"{said} (deprecated)" if schema.deprecated else said)


def _said(rule: Rule | None) -> tuple[str, str]:
    """What a rule counts as, and its first sentence with the file that it is in."""
    if rule is None:
        return "no rule", "**no rule**"
    if rule.nature:
        return "nature", f"*fixed:* {rule.nature}"
    first = (rule.function.__doc__ or "").strip().splitlines()[0].replace("|", "\\|")
    return "rule", f"{first} `{rule.function.__module__.removeprefix('onnxprune.rules.')}.py`"


def page() -> str:
    """The text of docs/operators.md for the installed onnx."""
    standard = list(rows())
    counted = {kind: sum(row.kind == kind for row in standard) for kind in ("rule", "nature", "no rule")}
    parts = [
        HEAD,
        f"## The standard, opset {onnx.defs.onnx_opset_version()}\n",
        f"{len(standard)} operators: {counted['rule']} have a rule, {counted['nature']} are fixed by nature, "
        f"{counted['no rule']} have no rule.\n",
        "| operator | version | what is said of it |\n|---|---|---|",
        *(f"| {row.name} | {row.version} | {row.said} |" for row in standard),
    ]
    runtime = sorted((r.op_type, r) for r in registry if r.domain == RUNTIME)
    if runtime:
        parts += [f"\n## {RUNTIME}\n", "| operator | what is said of it |\n|---|---|"]
        parts += [f"| {name} | {_said(rule)[1]} |" for name, rule in runtime]
    return "\n".join(parts) + "\n"


def main() -> int:
    """0 if the page is current, or was written."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, end with 1 if the page is not current")
    if parser.parse_args().check:
        return int(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
