"""Worker processes on this machine, each with one item at a time: whose item killed its worker is always known.

`concurrent.futures.ProcessPoolExecutor` breaks as a whole when one of its processes dies, leaves the others behind when
this process is killed, and needs a main guard in the script that calls us. So its threads alone are used, each of which
talks to a child (see `child`) that is replaced when it dies.
"""

from __future__ import annotations

import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from onnxprune.child import ending, environment, exit_code, read_message, write_message
from onnxprune.errors import OnnxPruneError, UsageError
from onnxprune.executor.messages import Raised
from onnxprune.executor.seam import RETRIES, Item, Result, WorkerLost, described

__all__ = ["Processes"]


@dataclass(frozen=True)
class _Lost:
    """How the worker of an item ended, the last time."""

    how: str


class _Worker:
    """One child process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "onnxprune.executor.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, job: bytes) -> Any:
        """What the child made of a job; `_Lost` where it died of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            write_message(self._process.stdin, job)
            return read_message(self._process.stdout)
        except (EOFError, OSError):
            return _Lost(ending(exit_code(self._process)))

    def kill(self) -> None:
        """End the child, which another thread may be listening to."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End the child, which nobody listens to."""
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(OSError):  # what was not yet written has nobody left to read it
                stream.close()


class Processes:
    """`count` worker processes, started when they are needed, which stay for the next `map` until `close`."""

    measures = True
    place = ""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise UsageError(f"asked for {count} worker processes; expected at least 1")
        self.workers = count
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        self._busy: set[_Worker] = set()
        self._lock = threading.Lock()
        self._ending = False

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], *, device: bool = False
    ) -> Iterator[tuple[int, Result]]:
        """Place and result of every item, as they come; items that are measured are worked on one at a time."""
        count = 1 if device else self.workers
        threads = ThreadPoolExecutor(count, thread_name_prefix="onnxprune-worker")
        running: dict[Future[Any], int] = {}
        names: dict[int, str] = {}
        lost: dict[int, str] = {}
        waiting = enumerate(items)
        try:
            while True:
                while len(running) < count and (taken := next(waiting, None)) is not None:
                    place, item = taken
                    names[place] = described(item)
                    running[threads.submit(self._tried, pickle.dumps((function, item)))] = place
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    place, answer = running.pop(future), future.result()
                    if isinstance(answer, _Lost):
                        lost[place] = answer.how
                    elif isinstance(answer, Raised):
                        raise _raised(answer)
                    else:
                        yield place, answer.result
            if lost:
                raise WorkerLost.of(lost, names)
        finally:
            self._end_busy()
            threads.shutdown(wait=True, cancel_futures=True)
            self._ending = False

    def close(self) -> None:
        """End all workers; the next `map` starts others."""
        self._end_busy()
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()
        self._ending = False

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that have an item."""
        with self._lock:
            return [worker.pid for worker in self._busy]

    def _tried(self, job: bytes) -> Any:
        """The answer to a job, from a worker that survived it, or the last one's end."""
        answer: Any = None
        for _ in range(RETRIES + 1):
            with self._lock:
                if self._ending:
                    return None
                worker = self._free()
                self._busy.add(worker)
            answer = worker.ask(job)
            with self._lock:
                self._busy.discard(worker)
            if not isinstance(answer, _Lost):
                self._idle.put(worker)
                return answer
            worker.close()
        return answer

    def _free(self) -> _Worker:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return _Worker()

    def _end_busy(self) -> None:
        with self._lock:
            self._ending = True
            for worker in self._busy:
                worker.kill()

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _raised(answer: Raised) -> Exception:
    """The error of a worker, as it is where it is one of ours, else with the lines that led to it."""
    if not isinstance(answer.error, OnnxPruneError) and sys.version_info >= (3, 11):
        answer.error.add_note(f"in a worker process:\n{answer.trace}")
    return answer.error
