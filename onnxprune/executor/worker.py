"""The child process that works for `Processes`, and keeps the promises of `child`: a function and an item, a result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnxprune.child import answer
from onnxprune.executor.messages import Done, Raised

__all__ = ["main"]


def main() -> None:
    """Work until the parent is gone."""
    answer(_work)


def _work(job: bytes) -> Done | Raised:
    import pickle
    import traceback

    try:
        function: Callable[[Any], Any]
        function, item = pickle.loads(job)
        done = Done(function(item))
        pickle.dumps(done)
        return done
    except Exception as error:  # whatever it is, the parent raises it
        trace = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # an error that cannot travel is told by its words
            return Raised(RuntimeError(f"{type(error).__name__}: {error}"), trace)
        return Raised(error, trace)


if __name__ == "__main__":
    main()
