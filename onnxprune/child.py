"""A child process keeps three promises to the one that started it: `python -m MODULE`, messages on stdin and stdout.

1. Nothing but messages is written to the parent: what native code prints on stdout goes to stderr.
2. It ends at once when the parent is gone, also in the middle of its work: a thread waits for the end of stdin.
3. Ctrl-C is left to the parent, which ends its children.

Messages are length-prefixed pickles. The two ends are the same code of the same installation and trust each other:
the child is there to survive a crash or to work beside others, it is not a sandbox. A plain child instead of
`multiprocessing` needs no fork of a process that has threads, and no main guard in the script that calls us.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

__all__ = ["answer", "ending", "environment", "exit_code", "read_message", "take_over_streams", "write_message"]

_LENGTH = struct.Struct("<Q")
_PACKAGE_ROOT = Path(__file__).resolve().parents[1]

# -- the child --------------------------------------------------------------------------------------------------------


def answer(work: Callable[[Any], Any]) -> None:
    """Answer each message with what `work` makes of it, until the parent is gone. Never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # promise 3
    jobs_from, results_to = take_over_streams()
    jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(jobs_from, jobs), daemon=True).start()
    while True:
        write_message(results_to, work(jobs.get()))


def take_over_streams() -> tuple[IO[bytes], IO[bytes]]:
    """Promise 1: the pipes move to descriptors that nobody else knows; 0 reads nothing and 1 is stderr."""
    jobs, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return jobs, results


def _receive(stream: IO[bytes], jobs: queue.SimpleQueue[Any]) -> None:
    """Promise 2: native code lets this thread run while it computes."""
    try:
        while True:
            jobs.put(read_message(stream))
    except BaseException:
        os._exit(0)


# -- both -------------------------------------------------------------------------------------------------------------


def write_message(stream: IO[bytes], message: Any) -> None:
    """One message goes out whole: eight bytes of length (little-endian), then the pickle."""
    payload = pickle.dumps(message, protocol=5)
    stream.write(_LENGTH.pack(len(payload)))
    stream.write(payload)
    stream.flush()


def read_message(stream: IO[bytes]) -> Any:
    """The next message; EOFError where the stream ends, even in the middle of one."""
    (length,) = _LENGTH.unpack(_read_exactly(stream, _LENGTH.size))
    return pickle.loads(_read_exactly(stream, length))


def _read_exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError("the other end is gone")
    return data


# -- the parent -------------------------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """This process's environment, with its import path: the child must find the same packages, and no others."""
    found = dict(os.environ)
    found["PYTHONPATH"] = os.pathsep.join([*(entry for entry in sys.path if entry), str(_PACKAGE_ROOT)])
    found["PYTHONSAFEPATH"] = "1"  # keeps `-m` from putting the current folder first (Python 3.11 and later)
    return found


def exit_code(process: subprocess.Popen[bytes]) -> int:
    """How the child that closed its end has ended, or is made to end."""
    try:
        return process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def ending(code: int, words: str = "") -> str:
    """In words, how a child ended that was not meant to; `words` are its last."""
    if code < 0:
        try:
            return f"killed by signal {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"the worker ended with code {code}" + (f": {words}" if words else "")
