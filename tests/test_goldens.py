"""What commands print, word for word: each file of tests/goldens is a command and all that came of it.

`pytest tests/test_goldens.py --update-golden` writes the files again; the difference is then read, and committed.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from onnxprune.jsontext import json_text
from onnxprune.report.report import MEASURED
from onnxprune.testing import build
from tests.commands import Commands

GOLDENS = Path(__file__).resolve().parent / "goldens"
NOISE = (
    (re.compile(r"\b\d\.\d+e[-+]\d+\b"), "<error>"),  # float noise differs from machine to machine
    (re.compile(r'"onnxprune_version": "[^"]*"'), '"onnxprune_version": "<version>"'),
    (re.compile(r'"max_error": [^,]*'), '"max_error": <error>'),
)

DEAD = """
    x[N,2] -> y, z
    h = MatMul(x, A{1.0,0.0,2.0,0.0,1.0,0.5, 1.0,0.0,0.5,0.0,1.0,0.5}[2,6]); b = Add(h, B{0.0,0.5,0.0,0.0,0.0,1.0})
    r = Relu(b); y = Gemm(r, V[6,3], C[3]); k = Gemm(x, U[2,3]); s = Sigmoid(x); i = Identity(s)
    p = Reshape(i, {-1,2,1,1}); q = Conv(p, W{0.0,0.0,1.0,1.0}[2,2,1,1], D{1.0,0.0})
    z = Conv<pads=[1,1,1,1]>(q, T[1,2,3,3])
"""


def without_measurements(out: str) -> str:
    """JSON without what is measured; anything else as it is."""
    if not out.startswith("{"):
        return out
    return json_text({key: value for key, value in json.loads(out).items() if key not in MEASURED})


@pytest.mark.parametrize("golden", sorted(GOLDENS.glob("*.txt")), ids=lambda path: path.stem)
def test_a_command_prints_what_it_printed(
    golden: Path, onnxprune: Commands, desk: Path, request: pytest.FixtureRequest
) -> None:
    """The first line is the command (`&&` runs several, the last is what counts); the rest is its output and end."""
    text = golden.read_text(encoding="utf-8")
    command = text.splitlines()[0].removeprefix("$ ")
    build("x[N,3,8,8] -> y; a = Conv(x, A[4,3,1,1]); y = Softmax<axis=1>(a)").save("nothing_to_prune.onnx")
    build(DEAD).save("dead.onnx")
    for part in command.split(" && "):
        ran = onnxprune(*shlex.split(part)[1:])
    out = without_measurements(ran.out)
    found = f"$ {command}\n{out}{ran.err}[exit code {ran.code}]\n"
    for pattern, word in NOISE:
        found = pattern.sub(word, found)
    found = "\n".join(line.rstrip() for line in found.split("\n"))
    if request.config.getoption("--update-golden"):
        golden.write_text(found, encoding="utf-8")
    assert found == text or request.config.getoption("--update-golden")
