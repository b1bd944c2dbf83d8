"""The command line as users meet it: what it writes, what it refuses, in which words and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxprune.model import Model
from onnxprune.testing import build
from tests.commands import Commands

RESNET = "models/cifar10_resnet20.onnx"
QUICK = ("--rounds", "0")

TINY = """
    x[N,3,8,8] -> y
    h = Conv<pads=[1,1,1,1]>(x, W[8,3,3,3], B[8])
    r = Relu(h)
    y = Conv(r, V[4,8,1,1])
"""
NOTHING = "x[N,3,8,8] -> y; y = Conv(x, W[4,3,1,1])"  # its only output channels are those of the graph


@pytest.fixture
def tiny(desk: Path) -> Path:
    """A model of one group, `W`, of 8 indices."""
    return saved(desk / "tiny.onnx", TINY)


def saved(path: Path, text: str) -> Path:
    build(text).save(path)
    return path


# -- what the commands do ---------------------------------------------------------------------------------------------


def test_prune_writes_a_verified_model_and_says_what_it_did(onnxprune: Commands, desk: Path) -> None:
    """The main job, into a folder that does not exist yet; the report for programs says the same as the console."""
    data = ("--calibration", "models/cifar10_calibration.npz", "--samples", 32)
    ran = onnxprune(
        "prune", RESNET, "-o", "new/folder/small.onnx", "--target", "macs=0.5", *data, *QUICK, "--json", "r.json"
    )
    assert (ran.code, ran.err) == (0, "")
    report = json.loads(Path("r.json").read_text())
    assert report["verified"]
    assert report["verified_batches"] == [1, 3]
    assert report["verified_inputs"] == 4
    assert 0.49 <= report["macs_after"] / report["macs_before"] <= 0.5
    assert report["targets"]["macs"][0] == 0.5
    assert "(0.5 asked)" in ran.out
    assert f"{report['macs_after']:,}" in ran.out
    assert "written: new/folder/small.onnx" in ran.out
    assert onnxprune("verify", RESNET, "new/folder/small.onnx").code == 0
    assert sorted(p.name for p in Path("new/folder").iterdir()) == ["small.onnx"]


def test_json_alone_on_the_console(onnxprune: Commands, tiny: Path) -> None:
    """`--json -` prints JSON and nothing else, for every command that has it."""
    assert json.loads(onnxprune("prune", tiny, "-o", "o.onnx", *QUICK, "--json", "-").out)["verified"]
    assert json.loads(onnxprune("inspect", tiny, "--json", "-").out)["groups"][0]["name"] == "W"
    assert len(json.loads(onnxprune("bench", tiny, "--rounds", 1, "--json", "-").out)["rows"]) == 1


@pytest.mark.parametrize("command", [("prune", "-o", "o.onnx", *QUICK), ("inspect",), ("bench", "--rounds", "1")])
def test_quiet_prints_nothing(onnxprune: Commands, tiny: Path, command: tuple[str, ...]) -> None:
    ran = onnxprune(command[0], tiny, *command[1:], "--quiet")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_quiet_still_says_errors(onnxprune: Commands, tiny: Path) -> None:
    assert "no.onnx" in onnxprune("prune", "no.onnx", "-o", "o.onnx", "--quiet").err


def test_a_stored_pipeline_runs(onnxprune: Commands, tiny: Path) -> None:
    """A file of the user's, and the pipeline that comes with onnxprune by its name."""
    steps = ["analyse", "select", "score", "allocate", "shrink", "verify"]
    lines = {"score": 'criterion = "l1"', "allocate": "sparsity = 0.25"}
    Path("mine.toml").write_text("\n".join(f'[[pass]]\nuse = "{s}"\n{lines.get(s, "")}' for s in steps))
    ran = onnxprune("run", "mine.toml", tiny, "-o", "o.onnx", "--json", "r.json")
    report = json.loads(Path("r.json").read_text())
    assert (ran.code, report["groups"][0]["kept"], report["groups"][0]["criterion"]) == (0, 8, "l1")
    assert "--round-to 1" in ran.out  # rounding to 4 keeps all 8 of the 6 that were asked for
    assert [step["use"] for step in report["pipeline"]] == steps
    assert onnxprune("run", "prune", tiny, "-o", "p.onnx", "--quiet").code == 0


def test_bench_takes_one_model_twice_and_models_of_other_inputs(onnxprune: Commands, tiny: Path) -> None:
    other = saved(tiny.with_name("other.onnx"), "ids[N,5]:int64 -> y; h = Gather(E[9,4], ids); y = MatMul(h, W[4,2])")
    ran = onnxprune("bench", tiny, tiny, other, "--rounds", 3, "--batch", 2, "--per-layer")
    assert ran.code == 0, ran.err
    assert "tiny.onnx (2)" in ran.out
    assert "other.onnx" in ran.out
    assert "too few" in ran.out  # no claim from three rounds
    assert ran.out.count("between nodes") == 3


def test_explain_says_why(onnxprune: Commands, tiny: Path) -> None:
    assert "prunable, group 'W'" in onnxprune("explain", tiny, "W").out
    assert "a graph output" in onnxprune("explain", tiny, "V").out
    both = onnxprune("explain", tiny, "W", "V").out
    assert "W[0] and V[1] share 8 indices" in both
    assert "Relu" in both
    ran = onnxprune("explain", tiny, "VV")
    assert (ran.code, "did you mean 'V'" in ran.err) == (2, True)


# -- what must not happen ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny.onnx", "./tiny.onnx", "sub/../tiny.onnx", "link.onnx", "hard.onnx", "ABSOLUTE"])
def test_the_input_is_never_the_output(onnxprune: Commands, tiny: Path, name: str) -> None:
    """By no other name either: relative, absolute, a link; neither for the model nor for the report."""
    Path("sub").mkdir()
    Path("link.onnx").symlink_to(tiny)
    os.link(tiny, "hard.onnx")
    before = tiny.read_bytes()
    name = str(tiny) if name == "ABSOLUTE" else name
    for arguments in (("-o", name), ("-o", "o.onnx", "--json", name)):
        ran = onnxprune("prune", "tiny.onnx", *arguments, *QUICK)
        assert (ran.code, ran.out) == (2, "")
        assert "read from" in ran.err
    assert onnxprune("inspect", "tiny.onnx", "--json", name).code == 2
    assert onnxprune("bench", "tiny.onnx", "--json", name).code == 2
    assert tiny.read_bytes() == before
    assert not Path("o.onnx").exists()


def test_the_data_of_the_input_is_never_written_over(onnxprune: Commands, desk: Path) -> None:
    """An output whose `.data` would be the file in which the input keeps its weights is refused."""
    external(desk / "model.onnx", "small.onnx.data")
    ran = onnxprune("prune", "model.onnx", "-o", "small.onnx", *QUICK)
    assert (ran.code, "small.onnx.data" in ran.err) == (2, True)
    assert onnxprune("prune", "model.onnx", "-o", "other.onnx", *QUICK).code == 0
    assert onnxprune("verify", "model.onnx", "other.onnx").code == 0


@pytest.mark.parametrize("arguments", [("-o", "file/o.onnx"), ("-o", "folder"), ("-o", os.devnull),
                                       ("-o", "o.onnx", "--json", "file/r.json"), ("-o", "o.onnx", "--json", "folder"),
                                       ("-o", "n" * 300)])  # fmt: skip
def test_an_output_that_cannot_be_written(onnxprune: Commands, tiny: Path, arguments: tuple[str, ...]) -> None:
    """It is said before any work, with exit code 4, and nothing is left behind."""
    Path("file").write_text("a file")
    Path("folder").mkdir()
    here = sorted(Path().iterdir())
    ran = onnxprune("prune", tiny, *arguments, *QUICK)
    assert (ran.code, ran.out) == (4, "")
    assert "cannot write" in ran.err
    assert "another" in ran.err
    assert sorted(Path().iterdir()) == here
    assert Path(os.devnull).is_char_device()


def test_the_report_and_the_model_are_two_files(onnxprune: Commands, tiny: Path) -> None:
    assert onnxprune("prune", tiny, "-o", "o.onnx", "--json", "o.onnx").code == 2
    assert not Path("o.onnx").exists()


def test_ctrl_c_leaves_nothing(onnxprune: Commands, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("onnxprune.cut.shrink", interrupt)
    ran = onnxprune("prune", tiny, "-o", "o.onnx", *QUICK)
    assert (ran.code, ran.out) == (130, "")
    assert ran.err.strip().startswith("onnxprune: interrupted")
    assert sorted(p.name for p in Path().iterdir()) == ["models", "passes", "tiny.onnx"]


TELLS = """\
from onnxprune import cli
from onnxprune.runtime import timing

measure = timing.measure


def told(*models, on_round, **options):
    def tell(done, total):
        if done == 1:
            print("measuring", flush=True)
        on_round(done, total)

    return measure(*models, on_round=tell, **options)


timing.measure = told
cli.main()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
def test_ctrl_c_in_a_process_of_its_own(tiny: Path) -> None:
    """Ctrl-C while latency is measured: one line, exit code 130, no file, no child left."""
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", TELLS, "prune", str(tiny), "-o", "o.onnx", "--rounds", "1000000"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "measuring\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert err.strip() == "onnxprune: interrupted; what was not finished was not written"
    assert not Path("o.onnx").exists()


# -- errors -----------------------------------------------------------------------------------------------------------


def external(path: Path, location: str, make: bool = True) -> Path:
    """The tiny model with its weights in the file `location`."""
    proto = build(TINY).to_proto()
    data = b""
    for tensor in proto.graph.initializer:
        raw = onnx.numpy_helper.to_array(tensor).tobytes()
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", str(len(data))), ("length", str(len(raw)))):
            tensor.external_data.add(key=key, value=value)
        data += raw
    path.write_bytes(proto.SerializeToString())
    if make:
        (path.parent / location).write_bytes(data)
    return path


def opset(path: Path, version: int) -> Path:
    proto = build(TINY).to_proto()
    proto.opset_import[0].version = version
    path.write_bytes(proto.SerializeToString())
    return path


def custom(path: Path) -> Path:
    """A model with an operator that ONNX Runtime does not have."""
    proto = build(TINY).to_proto()
    proto.opset_import.add(domain="com.example", version=1)
    proto.graph.node[1].domain, proto.graph.node[1].op_type = "com.example", "Mystery"
    path.write_bytes(proto.SerializeToString())
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


BAD_MODELS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no such file": (lambda p: p, "No such file"),
    "a folder": (lambda p: p.parent, "directory"),
    "empty": (lambda p: written(p, b""), "is not an ONNX model"),
    "a text": (lambda p: written(p, b"this is no model\n" * 9), "is not an ONNX model"),
    "cut short": (lambda p: written(p, Path(RESNET).read_bytes()[:100_000]), "cut short"),
    "opset of the future": (lambda p: opset(p, 999), "upgrade onnx"),
    "data missing": (lambda p: external(p, "gone.data", make=False), "Put that file beside the model"),
    "data outside": (lambda p: external(p, "../gone.data", make=False), "outside the model's folder"),
    "data absolute": (lambda p: external(p, "/etc/hostname", make=False), "outside the model's folder"),
}


@pytest.mark.parametrize("what", BAD_MODELS)
@pytest.mark.parametrize("command", ["prune", "inspect", "explain", "verify", "bench", "run"])
def test_a_model_that_cannot_be_read(onnxprune: Commands, desk: Path, what: str, command: str) -> None:
    """Exit code 3 from every command, one sentence that names the file, and nothing written."""
    make, words = BAD_MODELS[what]
    path = make(desk / "bad.onnx")
    more = {"prune": ("-o", "o.onnx"), "explain": ("W",), "verify": (RESNET,)}.get(command, ())
    arguments = ("prune", path, "-o", "o.onnx") if command == "run" else (path, *more)
    ran = onnxprune(command, *arguments)
    assert (ran.code, ran.out) == (3, "")
    assert words in ran.err
    assert path.name in ran.err
    assert ran.err.startswith("onnxprune: ")
    assert "Traceback" not in ran.err
    assert not Path("o.onnx").exists()


@dataclass(frozen=True)
class Wrong:
    """Arguments of prune that are refused, and the words of the refusal."""

    arguments: tuple[object, ...]
    words: tuple[str, ...]
    code: int = 2


WRONG = {
    "a pattern that matches nothing": Wrong(("--include", "hh*"), ("'hh*' matches no prunable", "are W")),
    "an exclusion that matches nothing": Wrong(("--exclude", "W?"), ("'W?' matches no prunable group",)),
    "both a sparsity and a target": Wrong(("--sparsity", 0.5, "--target", "macs=0.5"), ("--sparsity and --target",)),
    "all of it": Wrong(("--sparsity", 1), ("--sparsity 1", "below 1")),
    "less than nothing": Wrong(("--sparsity", -0.1), ("at least 0",)),
    "no number": Wrong(("--sparsity", "nan"), ("--sparsity nan",)),
    "a word for a number": Wrong(("--sparsity", "half"), ("'half' is not a valid float",)),
    "a target without a fraction": Wrong(("--target", "macs"), ("--target 'macs'", "macs=0.5")),
    "a target in other units": Wrong(("--target", "macs=40ms"), ("--target 'macs=40ms'", "no unit 'ms'", "K, M, G")),
    "a target above the whole": Wrong(("--target", "macs=2"), ("at most 1",)),
    "a target of nothing": Wrong(("--target", "macs=0"), ("above 0",)),
    "an infinite target": Wrong(("--target", "macs=inf"), ("macs=inf", "expected a budget")),
    "one target twice": Wrong(("--target", "macs=0.5", "--target", "macs=0.4"), ("macs twice",)),
    "an unknown budget": Wrong(("--target", "watts=0.5"), ("watts=0.5", "macs, params")),
    "a metric without an evaluation": Wrong(("--target", "metric>=0.9"), ("metric>=0.9", "--evaluate")),
    "a metric and a sparsity": Wrong(
        ("--target", "metric>=0.9", "--evaluate", "x.npz", "--sparsity", "0.5"), ("--sparsity", "one of them")
    ),
    "an unknown criterion": Wrong(("--criterion", "l3"), ("no criterion 'l3'", "choose one of ")),
    "an unknown allocation": Wrong(("--allocation", "fair"), ("no allocation 'fair'", "global, knapsack")),
    "an unknown granularity": Wrong(("--granularity", "toe"), ("'toe'", "channel")),
    "heads where there are none": Wrong(("--granularity", "head"), ("no attention heads", "inspect")),
    "an unknown option": Wrong(("--sparsityy", 0.5), ("--sparsityy", "--sparsity")),
    "rounding to nothing": Wrong(("--round-to", "0"), ("--round-to '0'", "positive")),
    "rounding to a word": Wrong(("--round-to", "nice"), ("--round-to 'nice'", "auto")),
    "keeping none": Wrong(("--keep-min", 0), ("'keep_min'", "at least 1")),
    "no samples": Wrong(("--samples", 0), ("'samples'", "at least 1")),
    "no threads": Wrong(("--threads", 0), ("'threads'", "at least 1")),
    "a negative seed": Wrong(("--seed", -1), ("'seed'", "at least 0")),
    "a size without a number": Wrong(("--size", "N"), ("--size 'N'", "NAME=N")),
    "a size of no dimension": Wrong(("--size", "height=3"), ("'height'", "N")),
    "no such data": Wrong(("--calibration", "no.npz"), ("no.npz: no such file",)),
    "data of another kind": Wrong(("--calibration", "tiny.onnx"), ("unknown kind of data",)),
    "data that does not fit": Wrong(("--calibration", "wrong.npz"), ("expected shape samples x 3 x 8 x 8", "7 x 2")),
    "damaged data": Wrong(("--calibration", "damaged.npz"), ("damaged.npz: not readable",)),
    "an evaluation without labels": Wrong(("--evaluate", "right.npz"), ("no array 'labels'",)),
    "no such preprocessing": Wrong(("--calibration", "right.npz", "--preprocess", "no.toml"), ("no.toml",)),
    "no such module": Wrong(("--evaluate", "nomodule:f"), ("cannot import 'nomodule'",)),
    "no such function": Wrong(("--evaluate", "mine:missing"), ("'mine' has no function 'missing'",)),
    "a function that says nothing": Wrong(("--evaluate", "mine:silent"), ("expected a number", "found None")),
    "a function of moods": Wrong(("--evaluate", "mine:moody"), ("expected the same numbers of both",)),
    "no such provider": Wrong((*("--provider", "Abacus"), "--rounds", 3), ("Abacus", "--rounds 0"), 4),
    "a target out of reach": Wrong(
        ("--target", "macs=0.01"), ("macs=0.01 was asked and macs=0.1", "Nothing was written", "--best-effort"), 1
    ),
    "a target held by a minimum": Wrong(("--target", "params=0.3", "--keep-min", 7), ("params=0.3 was asked",), 1),
    "nothing left by exclusion": Wrong(("--exclude", "*"), ("nothing was pruned", "leave none of the 1 groups"), 1),
}  # fmt: skip

MINE = """
calls = 0

def broken(run=None):
    values = [1, 2, 3]
    return values[7]  # the line to see

def silent(run):
    return None

def moody(run):
    global calls
    calls += 1
    return {f"metric{calls}": 1.0}
"""


@pytest.fixture
def data(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that fits the tiny model, data that does not, and a module of the user's."""
    zeros = np.zeros((4, 3, 8, 8), np.float32)
    np.savez("right.npz", x=zeros)
    np.savez("wrong.npz", x=np.zeros((7, 2), np.float32))
    written(Path("damaged.npz"), Path("right.npz").read_bytes()[:300])
    Path("mine.py").write_text(MINE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "mine", raising=False)


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("what", WRONG)
def test_a_request_that_is_refused(onnxprune: Commands, tiny: Path, what: str) -> None:
    """Each mistake has a sentence that says what was wrong and what there is, its exit code, and leaves nothing."""
    case = WRONG[what]
    timed = () if "--rounds" in case.arguments else QUICK
    ran = onnxprune("prune", tiny, "-o", "o.onnx", *timed, *case.arguments)
    assert (ran.code, ran.out) == (case.code, ""), ran.err
    for words in case.words:
        assert words in ran.err
    assert "Traceback" not in ran.err
    assert not Path("o.onnx").exists()


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("option", ["--calibration", "--evaluate"])
def test_a_function_that_raises_is_shown_where_it_did(onnxprune: Commands, tiny: Path, option: str) -> None:
    """The line of the user's function that raised, none of ours, and the sentence that says whose it is."""
    ran = onnxprune("prune", tiny, "-o", "o.onnx", *QUICK, option, "mine:broken")
    assert ran.code == 2
    assert "return values[7]  # the line to see" in ran.err
    assert "onnxprune: mine:broken: failed: IndexError: list index out of range" in ran.err
    assert ran.err.count('File "') == 1


def test_best_effort_writes_what_can_be_had(onnxprune: Commands, tiny: Path) -> None:
    ran = onnxprune("prune", tiny, "-o", "o.onnx", *QUICK, "--target", "macs=0.01", "--best-effort", "--json", "r.json")
    assert ran.code == 0
    assert "note: macs=0.01 was asked" in ran.out
    report = json.loads(Path("r.json").read_text())
    assert (report["targets_met"], report["groups"][0]["kept"]) == (False, 1)


def test_a_model_with_nothing_to_prune(onnxprune: Commands, desk: Path) -> None:
    """It is said plainly, and is a request that was not met; with --best-effort the model is written as it was."""
    model = saved(desk / "n.onnx", NOTHING)
    ran = onnxprune("prune", model, "-o", "o.onnx", *QUICK)
    assert (ran.code, ran.out) == (1, "")
    assert "nothing was pruned: every dimension of the model is fixed" in ran.err
    assert not Path("o.onnx").exists()
    ran = onnxprune("prune", model, "-o", "o.onnx", *QUICK, "--best-effort")
    assert ran.code == 0
    assert "nothing can be pruned" in ran.out
    assert dict(Model.load("o.onnx").tensors) == dict(Model.load(model).tensors)
    assert onnxprune("prune", model, "-o", "p.onnx", *QUICK, "--sparsity", 0).code == 0
    ran = onnxprune("inspect", model)
    assert (ran.code, "nothing can be pruned" in ran.out) == (0, True)


def test_a_model_that_the_runtime_does_not_run(onnxprune: Commands, desk: Path) -> None:
    """Nothing can be proven of it, so it is not written; it can still be inspected."""
    model = custom(desk / "custom.onnx")
    ran = onnxprune("prune", model, "-o", "o.onnx", *QUICK, "--best-effort")
    assert ran.code == 5
    assert "does not run in ONNX Runtime" in ran.err
    assert "Mystery" in ran.err
    assert not Path("o.onnx").exists()
    ran = onnxprune("inspect", model)
    assert (ran.code, "com.example" in ran.out) == (0, True)
    ran = onnxprune("bench", RESNET, model, "--rounds", 1)
    assert (ran.code, "custom.onnx" in ran.err, "Mystery" in ran.err) == (4, True, True)


@pytest.mark.parametrize("arguments", [("--rounds", 0), ("--batch", 0), ("--threads", -1), ("--size", "height=3"), ()])
def test_bench_refuses_what_it_cannot_measure(onnxprune: Commands, tiny: Path, arguments: tuple[object, ...]) -> None:
    assert onnxprune("bench", *([tiny] if arguments else []), *arguments).code == 2


def test_an_error_that_should_not_happen_is_shown_whole(
    onnxprune: Commands, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of ours, in a pass or beside one, ends with exit code 4, its traceback and a sentence."""

    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("onnxprune.cut.shrink", bug)
    ran = onnxprune("prune", tiny, "-o", "o.onnx", *QUICK)
    assert ran.code == 4
    assert "in bug" in ran.err
    last = ran.err.splitlines()[-1]
    assert "pass 'shrink' failed: ZeroDivisionError: a bug" in last
    assert "analyse, calibrate, select, score, sense, tabulate, allocate" in last
    monkeypatch.setattr("onnxprune.api.inspect", bug)
    ran = onnxprune("inspect", tiny)
    assert (ran.code, "in bug" in ran.err, "Please report" in ran.err) == (4, True, True)


# -- the program ------------------------------------------------------------------------------------------------------


def test_help_lists_options_by_pass(onnxprune: Commands) -> None:
    """Options stand under the pass that they belong to; how quick help is, tools/speed.py measures."""
    shown = onnxprune("prune", "--help").out
    sections = [line.removesuffix(":") for line in shown.splitlines() if line.endswith(":") and line[0] != " "]
    passes = ["analyse", "calibrate", "select", "score", "sense", "allocate", "recover", "repeat", "profile", "permute",
              "mask", "gemm"]  # fmt: skip
    assert sections == ["Options", *(f"Pass {name}" for name in passes), "Several passes"]


def test_progress_is_shown_on_a_terminal_alone(tiny: Path) -> None:
    """With a terminal as its error stream prune shows what it does; its output stays what it was."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root), "TERM": "xterm"}
    command = [sys.executable, "-m", "onnxprune", "prune", str(tiny), "-o", "o.onnx", *QUICK]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment, check=True)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "\x1b" not in ran.stdout
    assert "verify" in shown or "read" in shown


def test_the_version_is_told_installed_or_not(onnxprune: Commands) -> None:
    ran = onnxprune("--version")
    assert (ran.code, ran.out.startswith("onnxprune")) == (0, True)


def test_without_a_command_the_help_is_shown(onnxprune: Commands) -> None:
    ran = onnxprune()
    assert (ran.code, "Commands:" in ran.err) == (2, True)
