from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from onnxprune.runtime import isolated
from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.isolated import Isolated
from onnxprune.runtime.session import Session
from tests.runtime.graphs import endless, linear

posix = pytest.mark.skipif(os.name != "posix", reason="signals")
X = {"x": np.ones((2, 3), np.float32)}
LOOP = {"x": np.ones(4, np.float32)}


def gone(pid: int, within: float = 10.0) -> bool:
    """No process has the id any more, at the latest after `within` seconds."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        try:  # where nobody reaps orphans, the dead stay as zombies
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            pass
        time.sleep(0.02)
    return False


def test_outputs_are_those_of_a_session_here(tmp_path: Path) -> None:
    """Every feed is run, in order, from bytes and from a path, optimised or not, by one worker."""
    path = tmp_path / "model.onnx"
    path.write_bytes(linear())
    feeds = [{"x": np.full((n, 3), n, np.float32)} for n in (1, 2, 5)]
    session = Session(linear())
    with Isolated() as worker:
        for model, optimise in ((linear(), True), (path, True), (linear(), False)):
            found = worker.run(model, feeds, optimise)
            assert len(found) == 3
            for one, feed in zip(found, feeds, strict=True):
                np.testing.assert_allclose(one["y"], session.run(feed)["y"], rtol=1e-5)
        first = worker.pid
        worker.run(linear(), feeds)
        assert worker.pid == first


def test_large_models_go_by_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model over the limit is written to a temporary file, which is gone afterwards, and gives the same outputs."""
    monkeypatch.setattr(isolated, "_BY_FILE", 10)
    with Isolated() as worker:
        np.testing.assert_allclose(worker.run(linear(), [X])[0]["y"], Session(linear()).run(X)["y"])
    with isolated.model_file(linear()) as path:
        assert path.read_bytes() == linear()
    assert not path.exists()


def test_the_runtime_s_own_failure_leaves_the_worker_alive() -> None:
    """A model that cannot be loaded, or a feed that does not fit, is reported in ORT's words by the same worker."""
    with Isolated() as worker:
        worker.run(linear(), [X])
        pid = worker.pid
        with pytest.raises(RunFailed, match=r"(?i)protobuf"):
            worker.run(b"no model", [X])
        with pytest.raises(RunFailed, match="dimensions"):
            worker.run(linear(), [{"x": np.ones((2, 5), np.float32)}])
        assert worker.pid == pid


@posix
@pytest.mark.parametrize("name", ["SIGFPE", "SIGSEGV", "SIGKILL"])
def test_a_crash_is_named_and_the_next_job_works(name: str) -> None:
    """A worker that dies of a signal in the middle of a run fails that run alone."""
    with Isolated() as worker:
        worker.run(linear(), [X])
        pid = worker.pid
        assert pid is not None
        killer = threading.Timer(0.2, os.kill, (pid, getattr(signal, name)))
        killer.start()
        with pytest.raises(RunFailed, match=f"^killed by signal {name}$"):
            worker.run(endless(), [LOOP])
        killer.join()
        assert worker.run(linear(), [X])[0]["y"].shape == (2, 4)
        assert worker.pid != pid


@posix
def test_a_worker_that_died_at_rest_is_replaced_unseen() -> None:
    """Nobody's job failed, so nobody is told."""
    with Isolated() as worker:
        worker.run(linear(), [X])
        pid = worker.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
        assert worker.run(linear(), [X])[0]["y"].shape == (2, 4)


def test_a_job_that_takes_too_long_is_ended() -> None:
    """The timeout names itself and its length, ends the worker, and the next job works."""
    with Isolated(timeout=2.0) as worker:
        with pytest.raises(RunFailed, match=r"^timeout: no result within 2 s$"):
            worker.run(endless(), [LOOP])
        assert worker.run(linear(), [X])[0]["y"].shape == (2, 4)


def test_what_native_code_prints_does_not_reach_the_results() -> None:
    """Descriptor 1 of the worker is stderr: whatever is printed there, the messages stay whole."""
    code = (
        "import os; from onnxprune.child import take_over_streams; r = take_over_streams()[1]; "
        "os.write(1, b'noise'); r.write(b'result'); r.flush()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, stdin=subprocess.DEVNULL, check=True)
    assert (done.stdout, done.stderr) == (b"result", b"noise")


def test_a_worker_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The last line on stderr is the reason."""
    (tmp_path / "onnxprune").mkdir()
    (tmp_path / "onnxprune" / "__init__.py").write_text("import a_module_that_is_missing\n", encoding="utf-8")
    monkeypatch.setattr(isolated, "environment", lambda: {**os.environ, "PYTHONPATH": str(tmp_path)})
    monkeypatch.chdir(tmp_path)
    with Isolated() as worker, pytest.raises(RunFailed, match=r"ended with code 1: .*[Nn]o module named"):
        worker.run(linear(), [X])


def test_an_interrupted_caller_has_no_worker_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C that the caller survives ends the worker at once, which may be in the middle of the job."""
    with Isolated() as worker:
        worker.run(linear(), [X])
        pid = worker.pid
        assert pid is not None

        def interrupted(stream: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(isolated, "read_message", interrupted)
            with pytest.raises(KeyboardInterrupt):
                worker.run(endless(), [LOOP])
        assert worker.pid is None
        assert os.name != "posix" or gone(pid)
        assert worker.run(linear(), [X])[0]["y"].shape == (2, 4)


SCRIPT = """
    import sys
    import numpy as np
    from onnxprune.runtime.isolated import Isolated
    from tests.runtime.graphs import endless, linear

    worker = Isolated()
    worker.run(linear(), [{"x": np.ones((1, 3), np.float32)}])
    print(worker.pid, flush=True)
    worker.run(endless(), [{"x": np.ones(4, np.float32)}])
"""


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_no_child_is_left_behind(name: str, tmp_path: Path) -> None:
    """A script without a main guard that is ended in the middle of a run leaves no worker, however it is ended."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.3)
        if name == "SIGINT":
            os.killpg(parent.pid, signal.SIGINT)  # what a terminal does
        else:
            parent.send_signal(getattr(signal, name))
        parent.wait(timeout=20)
    assert gone(pid)
