"""Searches: every trial once, whatever ends the run, and files that are whole at any moment."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import onnxprune as package
from onnxprune import exploration
from onnxprune.errors import UsageError, VerificationFailed
from onnxprune.front import Figures, Front, Tried, pareto
from onnxprune.testing import build
from tests.commands import Commands

TINY = """
    x[N,3,8,8] -> y
    h = Conv<pads=[1,1,1,1]>(x, W[64,3,3,3], B[64])
    r = Relu(h)
    y = Conv(r, V[4,64,1,1])
"""
JUDGE = """
import os, time

def judge(run):
    time.sleep(0.15)
    with open("log.txt", "a") as log:
        log.write(f"{os.getpid()}\\n")
    return 0.5
"""
POINTS = ("--points", "0.9,0.7,0.5,0.3", "--round-to", "1")


@pytest.fixture
def tiny(desk: Path) -> Path:
    build(TINY).save(desk / "tiny.onnx")
    (desk / "judging.py").write_text(JUDGE)
    return desk / "tiny.onnx"


def lines(journal: Path) -> list[dict[str, object]]:
    """The whole lines of a journal after its first."""
    whole = journal.read_text().rpartition("\n")[0].splitlines()[1:] if journal.exists() else []
    return [json.loads(line) for line in whole]


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """When each model of a folder was written, and as which file."""
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.glob("*.onnx")}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(("end", "workers"), [(signal.SIGKILL, "2"), (signal.SIGINT, "1")])
def test_a_search_that_is_ended_goes_on(tiny: Path, end: signal.Signals, workers: str, root: Path) -> None:
    """Nothing that was finished runs again, nothing is lost, and nobody is left at work."""
    command = [sys.executable, "-m", "onnxprune", "search", "tiny.onnx", "-o", "front", *POINTS, "--evaluate",
               "judging:judge", "--workers", workers, "--quiet"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(root)}
    folder, journal = Path("front"), Path("front", exploration.JOURNAL)
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as run:
        while len(lines(journal)) < 2:
            assert run.poll() is None, run.communicate()
            time.sleep(0.01)
        run.send_signal(end)
        _, said = run.communicate()
    assert run.returncode == (-9 if end == signal.SIGKILL else 130), said
    deadline = time.monotonic() + 10
    while any(map(alive, map(int, Path("log.txt").read_text().split()))):
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.02)
    finished = lines(journal)
    assert 2 <= len(finished) < 4
    before = {str(line["value"]["output"]) for line in finished}  # type: ignore[index]
    written = stamps(folder)
    json.loads((folder / "results.json").read_text())
    package.verify("tiny.onnx", folder / before.copy().pop())

    again = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert again.stderr == b""
    everything = lines(journal)
    assert everything[: len(finished)] == finished
    assert len({str(line["key"]) for line in everything}) == len(everything) == 4
    assert {name: stamp for name, stamp in stamps(folder).items() if name in before} == {n: written[n] for n in before}
    assert len(stamps(folder)) == 4
    assert list(folder.glob(".*")) == []
    evaluations = len(Path("log.txt").read_text().split())
    assert 8 <= evaluations <= 8 + 2 * int(workers)  # two for each trial, and those that were under way
    assert len(json.loads((folder / "results.json").read_text())["trials"]) == 4

    subprocess.run(command, env=environment, check=True)  # a third run has nothing to do
    assert len(Path("log.txt").read_text().split()) == evaluations


def test_what_a_search_writes_and_says(onnxprune: Commands, tiny: Path) -> None:
    ran = onnxprune("search", tiny, "-o", "front", "--points", "0.8,0.01", "--round-to", 1, "--allocation",
                    "uniform", "--budget", "macs,params", "--calibration", "random:16", "--json", "r.json",
                    "--workers", 1)  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(Path("front/results.json").read_text())
    assert found == json.loads(Path("r.json").read_text())
    assert found["schema_version"] == 1
    assert found["quality"] == "relative change"
    assert found["budgets"] == ["macs", "params"]
    assert found["asked"] == 4
    trials = found["trials"]
    assert {trial["target"]: trial["met"] for trial in trials} == {
        "macs=0.8": True, "params=0.8": True, "macs=0.01": False, "params=0.01": False
    }  # fmt: skip
    assert all(
        "not be reached" in trial["reason"] or "asked" in trial["reason"] for trial in trials if not trial["met"]
    )
    for trial in trials:
        assert package.verify(tiny, Path("front", trial["output"])).passed
        assert trial["figures"]["size"] == Path("front", trial["output"]).stat().st_size
    picks = [trial for trial in trials if "macs" in trial["front"]]
    assert picks
    assert f"{len(picks)} of 4 on the front of macs" in ran.out
    rows = list(csv.DictReader(Path("front/results.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == ["original", *(trial["name"] for trial in trials)]
    assert Path("front/front.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in Path("front/front.svg").read_text()


def test_more_points_repeat_nothing(onnxprune: Commands, tiny: Path) -> None:
    """A wider search in the same folder makes what is new; a model that was removed is made again."""
    quick = ("--round-to", 1, "--workers", 1, "--quiet")
    assert onnxprune("search", tiny, "-o", "front", "--trials", 1, *quick).code == 0
    first = stamps(Path("front"))
    assert onnxprune("search", tiny, "-o", "front", "--trials", 2, *quick).code == 0
    second = stamps(Path("front"))
    assert (len(first), len(second)) == (1, 2)
    assert first.items() <= second.items()
    Path("front", next(iter(first))).unlink()
    assert onnxprune("search", tiny, "-o", "front", "--trials", 2, *quick).code == 0
    assert stamps(Path("front")).keys() == second.keys()
    assert onnxprune("search", tiny, "-o", "front", "--trials", 1, *quick, "--seed", 1).code == 0
    assert len(stamps(Path("front"))) == 3  # another question has another answer


def test_no_time_is_no_trial(onnxprune: Commands, tiny: Path) -> None:
    ran = onnxprune("search", tiny, "-o", "front", *POINTS, "--minutes", 0, "--workers", 1)
    assert ran.code == 0
    assert "4 of 4 trials are not finished; the same command goes on" in ran.out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--points", "0.5,1.5"), 2, "--points 1.5"),
        (("--points", "half"), 2, "expected numbers"),
        (("--points", "0.5", "--trials", "2"), 2, "give one of them"),
        (("--budget", "joules"), 2, "--budget 'joules'"),
        (("--budget", ","), 2, "--budget: expected at least one"),
        (("--allocation", "nosuch", "--points", "0.5"), 2, "nosuch"),
        (("--criterion", "nosuch", "--points", "0.5"), 2, "nosuch"),
        (("--include", "nosuch", "--points", "0.5"), 2, "nosuch"),
        (("--granularity", "2:4"), 2, "granularity"),
        (("--points", "0.001"), 1, "none of 1 trials met its target"),
        (("--workers", "2", "--scheduler", "tcp://127.0.0.1:1"), 2, "has its own"),
    ],
)
def test_what_a_search_refuses(
    onnxprune: Commands, tiny: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    workers = () if "--workers" in arguments else ("--workers", "1")
    ran = onnxprune("search", tiny, "-o", "front", *arguments, *workers)
    assert ran.code == code, ran
    assert words in ran.err
    assert code != 2 or not list(Path("front").glob("*.onnx"))


def test_one_search_at_a_time_in_a_folder(onnxprune: Commands, tiny: Path) -> None:
    from onnxprune.journal import Journal

    with Journal(Path("front", exploration.JOURNAL)):
        ran = onnxprune("search", tiny, "-o", "front", "--workers", 1)
    assert (ran.code, "another run is at work" in ran.err) == (2, True)


def test_a_model_from_memory_and_latency_of_real_files(tiny: Path) -> None:
    """Python: the model is written for the workers; with rounds, what is measured is part of the front."""
    front = package.search(tiny.read_bytes(), "front", points=[0.5], round_to="1", rounds=2, workers=1)
    assert Path("front/original.onnx").exists()
    (trial,) = front.trials
    assert trial.figures is not None
    assert trial.figures.latency is not None
    assert front.original is not None
    assert front.original.latency == 1.0
    with pytest.raises(UsageError, match="sets --target"):
        package.search(tiny, "front", target="macs=0.5", workers=1)


def test_a_trial_that_fails_is_told_and_tried_again(
    onnxprune: Commands, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search goes on without it; what failed is not finished, so the next start tries it."""
    from onnxprune import api

    prune, calls = api.prune, []

    def failing(model: object, output: str, **options: Any) -> object:
        calls.append(options["target"])
        if options["target"] == ("macs=0.5",) and len(calls) < 3:
            raise VerificationFailed("they differ")
        return prune(model, output, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(api, "prune", failing)
    command = ("search", tiny, "-o", "front", "--points", "0.7,0.5", "--round-to", 1, "--workers", 1)
    ran = onnxprune(*command)
    assert ran.code == 0
    assert "macs=0.5 auto auto: they differ" in ran.out
    ran = onnxprune(*command)
    assert (ran.code, "they differ" in ran.out) == (0, False)
    assert sorted(calls) == [("macs=0.5",), ("macs=0.5",), ("macs=0.7",)]
    assert len(stamps(Path("front"))) == 2


def test_a_search_on_a_cluster(tiny: Path) -> None:
    """What is measured goes to the worker that advertises a device, anything else to whoever is free."""
    pytest.importorskip("distributed")
    from tests.executor.clusters import cluster, scheduler, worker

    with (
        scheduler() as address,
        worker(address) as plain,
        worker(address, "--resources", "device=1") as judge,
        cluster(address, 2),
    ):
        common: dict[str, Any] = {"round_to": "1", "evaluate": "judging:judge", "scheduler": address}
        front = package.search(tiny, "front", points=[0.7, 0.5, 0.3], **common)
        assert len(front.trials) == 3
        assert all(Path("front", str(trial.output)).exists() for trial in front.trials)
        assert set(Path("log.txt").read_text().split()) == {str(plain.pid), str(judge.pid)}
        Path("log.txt").unlink()
        package.search(tiny, "front", points=[0.5], rounds=2, **common)
        assert set(Path("log.txt").read_text().split()) == {str(judge.pid)}
        curves = package.sensitivity(tiny, calibration="random:8", ratios=[0.5], scheduler=address, workers=None)
        assert curves.groups == package.sensitivity(tiny, calibration="random:8", ratios=[0.5]).groups


def test_without_matplotlib_there_is_no_plot_and_a_word(
    onnxprune: Commands, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxprune.plots.drawable", lambda: False)
    ran = onnxprune("search", tiny, "-o", "front", "--points", "0.5", "--round-to", 1, "--workers", 1)
    assert ran.code == 0
    assert "pip install 'onnxprune[plots]'" in ran.out
    assert not list(Path("front").glob("front.*"))


def test_coarse_to_fine() -> None:
    """The middle, the ends, then what lies between; more trials are the same and others."""
    assert exploration.coarse_to_fine([0.3, 0.5, 0.4, 0.9, 0.8, 0.6, 0.7]) == [0.6, 0.9, 0.3, 0.8, 0.7, 0.5, 0.4]
    assert exploration.coarse_to_fine([]) == []
    for n in range(1, 12):
        points = exploration.points_of(n)
        assert len(set(points)) == n
        assert set(points) < set(exploration.points_of(n + 1))
        assert all(0.3 <= point <= 0.9 for point in points)


def test_what_is_on_the_front() -> None:
    """What costs no more and is worth more beats; what was not measured takes no part."""

    def figures(macs: int, quality: float | None) -> Figures:
        return Figures(1, macs, 1, quality)

    points = {"a": figures(10, 0.9), "b": figures(8, 0.95), "c": figures(5, 0.5), "d": figures(5, 0.6),
              "e": figures(1, None), "f": figures(2, float("nan"))}  # fmt: skip
    assert pareto(points, "macs", higher_is_better=True) == {"b", "d"}
    assert pareto(points, "macs", higher_is_better=False) == {"c"}
    assert pareto(points, "latency", higher_is_better=True) == set()
    trials = tuple(Tried(name, "", "", "", True, output=name, figures=f) for name, f in points.items())
    front = Front("m", "o", ("macs",), "q", "", True, figures(20, 0.97), trials, 6).marked()
    assert [tried.name for tried in front.picks()] == ["b", "d"]
    worse = Front("m", "o", ("macs",), "q", "", True, figures(4, 0.97), trials, 6).marked()
    assert worse.picks() == ()  # the original beats them all
