"""Writes docs/operators.md: what onnxprune says of every operator of the ONNX standard, and of those of ONNX Runtime.

    python tools/operators.py [--check]

The standard is that of the installed onnx; `com.microsoft` is what the installed ONNX Runtime knows, with a mark where
it has a CPU kernel. With `--check` nothing is written, and it ends with 1 if the page is not current.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from onnxprune.rules import Rule, registry

__all__ = ["PAGE", "STATED_FOR", "Row", "page", "rows", "runtime_rows"]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operators.md"
RUNTIME = "com.microsoft"
STATED_FOR = (
    f"## The standard, opset {onnx.defs.onnx_opset_version()}\n",
    f"## {RUNTIME}, ONNX Runtime {onnxruntime.__version__} on {platform.machine()}\n",
)
CPU = "CPUExecutionProvider"
NO_KERNEL = """\
The rule of an operator without a CPU kernel is proven on a function that writes the operator out; a model of such nodes
is verified where it runs. What has a kernel and no rule is written neither by an optimiser of ONNX Runtime nor by an
exporter that we know."""
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
    """One operator, what is said of it, and the `kind` that it counts as.

    `version` is its newest one in the standard; 0 where a runtime that does not have the standard's names it.
    `runs` says whether ONNX Runtime has a CPU kernel for it.
    """

    name: str
    version: int
    kind: str
    said: str
    runs: bool = True


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


def runtime_rows() -> Iterator[Row]:
    """Every operator of `com.microsoft` that the installed ONNX Runtime or a rule knows, by name."""
    kernels = {k.op_name for k in runtime.get_all_opkernel_def() if k.domain == RUNTIME and k.provider == CPU}
    known = {s.name for s in runtime.get_all_operator_schema() if s.domain == RUNTIME}
    known.update(rule.op_type for rule in registry if rule.domain == RUNTIME)
    for name in sorted(known):
        yield Row(name, 0, *_said(registry.find(RUNTIME, name, 1)), name in kernels)


def _counted(found: list[Row]) -> str:
    counts = {kind: sum(row.kind == kind for row in found) for kind in ("rule", "nature", "no rule")}
    return (
        f"{len(found)} operators: {counts['rule']} have a rule, {counts['nature']} are fixed by nature, "
        f"{counts['no rule']} have no rule.\n"
    )


def page() -> str:
    """The text of docs/operators.md for the installed onnx and ONNX Runtime."""
    standard, others = list(rows()), list(runtime_rows())
    parts = [
        HEAD,
        STATED_FOR[0],
        _counted(standard),
        "| operator | version | what is said of it |\n|---|---|---|",
        *(f"| {row.name} | {row.version} | {row.said} |" for row in standard),
        f"\n{STATED_FOR[1]}",
        f"{_counted(others)}\n{NO_KERNEL}\n",
        "| operator | CPU | what is said of it |\n|---|---|---|",
        *(f"| {row.name} | {'yes' if row.runs else ''} | {row.said} |" for row in others),
    ]
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
