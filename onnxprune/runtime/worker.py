"""The child process that runs models, and keeps the promises of `child`: jobs on stdin, results on stdout."""

from __future__ import annotations

from typing import Any

from onnxprune.child import answer
from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.messages import Failed, MemoryJob, Ran, RunJob

__all__ = ["main"]


def main() -> None:
    """Answer jobs until the other end closes."""
    answer(_answer)


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
