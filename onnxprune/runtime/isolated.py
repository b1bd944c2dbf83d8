"""Models run in a child process, so that a model that kills ONNX Runtime fails alone.

An emptied axis, a broken kernel or an endless loop ends in a `RunFailed` that says so, and the next job finds a
fresh worker. The child is a plain `python -m onnxprune.runtime.worker`: no fork of a process that has threads, and no
need for a main guard in the script that calls us.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from onnxprune.child import ending, environment, exit_code, read_message, write_message
from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.messages import Failed, MemoryJob, Ran, RunJob
from onnxprune.runtime.session import CPU, Array, Options, Value

__all__ = ["Isolated", "model_file"]

_BY_FILE = 64 << 20
"""Bytes above which a model goes to the worker as a temporary file instead of through the pipe."""


class Isolated:
    """A worker that runs models one after another and is replaced when it dies. One thread at a time may use it.

    `timeout` is the seconds that one job (loading and all its feeds) may take, None for no limit. The worker starts
    with the first job and ends with the `with` block, or with this process however that ends.
    """

    def __init__(self, threads: int = 1, timeout: float | None = 600.0, providers: Sequence[str] = (CPU,)) -> None:
        self._threads = threads
        self._timeout = timeout
        self._providers = tuple(providers)
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: Any = None

    def run(
        self, model: bytes | Path, feeds: Sequence[Mapping[str, Array]], optimise: bool = True
    ) -> list[dict[str, Value]]:
        """The outputs of `model` for each of `feeds`, in their order; RunFailed(reason) if there are none.

        `optimise=False` runs the graph as it is written, with every optimisation of the runtime off.
        """
        options = Options(self._threads, self._providers, "all" if optimise else "off")
        every = tuple(dict(feed) for feed in feeds)
        if isinstance(model, bytes) and len(model) <= _BY_FILE:
            result = self.ask(RunJob(model, every, options))
        else:
            with model_file(model) as path:
                result = self.ask(RunJob(path, every, options))
        assert isinstance(result, list)
        return result

    def ask(self, job: RunJob | MemoryJob) -> Any:
        """The worker's result for `job`; RunFailed says what happened to the job or to the worker."""
        try:
            return self._ask(job)
        except RunFailed:
            raise
        except BaseException:  # Ctrl-C or a bug: the worker may be in the middle of a job, so it is of no more use
            self.close()
            raise

    def _ask(self, job: RunJob | MemoryJob) -> Any:
        process = self._ready()
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Event()

        def too_late() -> None:
            late.set()
            process.kill()

        alarm = None if self._timeout is None else threading.Timer(self._timeout, too_late)
        if alarm is not None:
            alarm.daemon = True
            alarm.start()
        try:
            write_message(process.stdin, job)
            reply = read_message(process.stdout)
        except (EOFError, OSError) as error:
            code = exit_code(process)
            words = self._last_words()
            self.close()
            reason = f"timeout: no result within {self._timeout:g} s" if late.is_set() else ending(code, words)
            raise RunFailed(reason) from error
        finally:
            if alarm is not None:
                alarm.cancel()
        if isinstance(reply, Failed):
            raise RunFailed(reply.reason)
        assert isinstance(reply, Ran)
        return reply.result

    def close(self) -> None:
        """End the worker, if there is one; the next job starts another."""
        process, self._process = self._process, None
        errors, self._errors = self._errors, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                with suppress(OSError):  # what was not yet written has nobody left to read it
                    stream.close()
        if errors is not None:
            errors.close()

    @property
    def pid(self) -> int | None:
        """The process id of the worker, None while there is none."""
        return None if self._process is None else self._process.pid

    def _ready(self) -> subprocess.Popen[bytes]:
        """The worker, alive: one that died while nobody asked anything of it is replaced without a word."""
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the worker)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "onnxprune.runtime.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment(),
            )
        return self._process

    def _last_words(self) -> str:
        """The last line that the worker wrote on stderr."""
        self._errors.seek(0)
        lines = self._errors.read()[-4096:].decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def __enter__(self) -> Isolated:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):  # the interpreter may be half gone; the worker ends with us anyway
            self.close()


@contextmanager
def model_file(model: bytes | Path) -> Iterator[Path]:
    """The path of `model`: its own, or that of a temporary file with its bytes, removed afterwards."""
    if not isinstance(model, bytes):
        yield Path(model).absolute()
        return
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(model)
        yield path
