"""The child process that runs models: `python -m onnxprune.runtime.worker`, jobs on stdin, results on stdout.

It keeps three promises to the process that started it:

1. Nothing but messages is written to that process: what native code prints on stdout goes to stderr.
2. It ends at once when that process is gone, also in the middle of a run: a thread waits for the end of stdin.
3. Ctrl-C is left to that process, which ends this one.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from typing import IO, Any

from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.messages import Failed, MemoryJob, Ran, RunJob, read_message, write_message

__all__ = ["main"]


def main() -> None:
    """Answer jobs until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # promise 3
    jobs_from, results_to = _take_over_streams()
    jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(jobs_from, jobs), daemon=True).start()
    while True:
        write_message(results_to, _answer(jobs.get()))


def _take_over_streams() -> tuple[IO[bytes], IO[bytes]]:
    """Promise 1: the pipes move to descriptors that nobody else knows; 0 reads nothing and 1 is stderr."""
    jobs, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return jobs, results


def _receive(stream: IO[bytes], jobs: queue.SimpleQueue[Any]) -> None:
    """Promise 2: the runtime lets this thread run while it computes."""
    try:
        while True:
            jobs.put(read_message(stream))
    except BaseException:
        os._exit(0)


def _answer(job: Any) -> Ran | Failed:
    try:
        if isinstance(job, RunJob):
            return _run(job)
        if isinstance(job, MemoryJob):
            from onnxprune.runtime.memory import measure_here

            return Ran(measure_here(job.model, job.feeds, job.options, job.runs))
        return Failed(f"the worker does not know the job {type(job).__name__}")
    except RunFailed as failure:
        return Failed(failure.reason)
    except MemoryError:
        return Failed("out of memory")
    except Exception as error:
        return Failed(f"{type(error).__name__}: {error}")


def _run(job: RunJob) -> Ran:
    from onnxprune.runtime.session import Session

    session = Session(job.model, job.options)
    return Ran([session.run(feeds) for feeds in job.feeds])


if __name__ == "__main__":
    main()
