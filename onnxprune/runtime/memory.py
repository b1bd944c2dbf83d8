"""How much memory it takes to load and run a model, measured in a fresh process that does nothing else."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxprune.runtime.isolated import Isolated, model_file
from onnxprune.runtime.messages import MemoryJob
from onnxprune.runtime.session import CPU, Array, Options, Session

__all__ = ["Memory", "measure_here", "peak_memory"]


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes above what the process held before the model; None where this system does not tell.

    `load` is the peak while the model is loaded and optimised (its file is parsed, its weights are packed), `run` the
    peak afterwards, weights included; `arena` what the runtime's own allocator had in use at its peak, by its profile
    (reported since ONNX Runtime 1.31).
    """

    load: int | None
    run: int | None
    arena: int | None

    @property
    def peak(self) -> int | None:
        """The larger of the two: what the process needs."""
        return None if self.load is None or self.run is None else max(self.load, self.run)


def peak_memory(
    model: bytes | Path,
    feeds: Mapping[str, Array],
    *,
    threads: int = 1,
    provider: str = CPU,
    runs: int = 3,
    timeout: float | None = 600.0,
) -> Memory:
    """The peak memory of loading `model` and running it `runs` times on `feeds`; RunFailed if it does not run."""
    with Isolated(threads=threads, timeout=timeout) as worker, model_file(model) as path:
        found = worker.ask(MemoryJob(path, dict(feeds), Options(threads, (provider,)), runs))
    return Memory(**found)


def measure_here(model: Path, feeds: Mapping[str, Array], options: Options, runs: int) -> dict[str, int | None]:
    """The same, measured in this process, which must be fresh: memory that was freed before is used again unseen."""
    import onnxruntime

    assert onnxruntime.get_available_providers()  # the runtime itself is loaded and not part of what is measured
    before = _restart_peak()
    session = Session(model, options)
    loaded = _peak()
    _restart_peak()
    for _ in range(runs):
        session.run(feeds)
    ran = _peak()
    del session
    return {"load": _above(before, loaded), "run": _above(before, ran), "arena": _arena(model, feeds, options, runs)}


def _above(before: int | None, peak: int | None) -> int | None:
    return None if before is None or peak is None else max(0, peak - before)


def _restart_peak() -> int | None:
    """Forget the peak so far and return the resident bytes now; where it cannot be forgotten, the peak so far."""
    if sys.platform != "linux":
        return _peak()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak()
    return _status("VmRSS")


def _peak() -> int | None:
    """The most bytes that were resident at once.

    Linux: VmHWM, which starts with the program; `ru_maxrss` would start with what the parent held when it forked.
    """
    if sys.platform == "linux":
        return _status("VmHWM")
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(field: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), None)


def _arena(model: Path, feeds: Mapping[str, Array], options: Options, runs: int) -> int | None:
    """The largest `mem_in_use_peak` of any node in the profile of another session."""
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder:
        prefix = Path(folder, "profile")
        session = Session(model, Options(options.threads, options.providers, options.optimise, prefix))
        for _ in range(runs):
            session.run(feeds)
        events: list[dict[str, Any]] = json.loads(session.end_profiling().read_text(encoding="utf-8"))
    peaks = [int(e["args"]["mem_in_use_peak"]) for e in events if "mem_in_use_peak" in e.get("args", {})]
    return max(peaks, default=None)
