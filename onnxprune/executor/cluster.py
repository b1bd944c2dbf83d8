"""The workers of a Dask cluster, of which those that advertise a resource `device` are where times are measured.

A worker is started with `dask worker ADDRESS --nworkers 1 --nthreads 1`, and `--resources device=1` where it is to
measure. It has to have onnxprune, and to see the files of the job under the names that they have here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from onnxprune.errors import PassFailed, UsageError
from onnxprune.executor.seam import Item, Result, WorkerLost, described

if TYPE_CHECKING:
    import types

__all__ = ["PATIENCE", "RESOURCE", "Dask"]

RESOURCE = "device"
TIMEOUT = "10s"  # to find the scheduler
PATIENCE = 120.0  # seconds that a cluster may be without a worker for what is to be done
LOOK = 1.0  # seconds between two looks at the workers, while nothing comes in


class Dask:
    """The cluster whose scheduler is at an address such as `tcp://10.0.0.5:8786`.

    Workers may leave and come while it works. `patience` is for how many seconds there may be none.

    Errors: `UsageError` where Dask is not installed, no scheduler answers, or no worker is there to begin with;
    `PassFailed` where the last worker is gone and none comes, or where the scheduler is gone. What came in before was
    given out before.
    """

    place = "a Dask cluster"

    def __init__(self, address: str, patience: float = PATIENCE) -> None:
        self._distributed = _distributed()
        self._address, self._patience = address, patience
        try:
            self._client: Any = self._distributed.Client(address, timeout=TIMEOUT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"no Dask scheduler answers at {address!r}: {error or type(error).__name__}; start one with 'dask "
                "scheduler', and give the address that it prints"
            ) from error

    @property
    def workers(self) -> int:
        """How many items the cluster works on at a time; at least 1, since workers may still come."""
        return max(1, self._threads(self._known()))

    @property
    def measures(self) -> bool:
        """Whether a worker advertises the resource `device`."""
        return any(RESOURCE in worker["resources"] for worker in self._known().values())

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], *, device: bool = False
    ) -> Iterator[tuple[int, Result]]:
        """Place and result of every item, as they come; a lost worker's items go to another."""
        self._check(device)
        wanted = {RESOURCE: 1} if device else None
        running: dict[Any, int] = {}
        names: dict[int, str] = {}
        lost: dict[int, str] = {}
        waiting = enumerate(items)
        try:
            while True:
                while len(running) < max(1, self._places(device)) and (taken := next(waiting, None)) is not None:
                    place, item = taken
                    names[place] = described(item)
                    future = self._client.submit(function, item, pure=False, resources=wanted)
                    running[future] = place
                if not running:
                    break
                future = self._done(running, device)
                try:
                    result = future.result(timeout=self._patience)
                except self._distributed.KilledWorker as killed:
                    lost[running.pop(future)] = str(killed).partition(". ")[0]
                    continue
                except self._distributed.TimeoutError:
                    if future.status == "error":
                        raise
                    continue  # the worker that had the result is lost, so that it has to be made again
                yield running.pop(future), result
            if lost:
                raise WorkerLost.of(lost, names)
        except self._distributed.CancelledError as cancelled:
            raise self._gone() from cancelled
        finally:
            if running and self._client.status == "running":
                self._client.cancel(list(running), force=True)

    def _done(self, running: Mapping[Any, int], device: bool) -> Any:
        """A future that is done, as soon as there is one; `PassFailed` where nobody has been there to work on them."""
        seen, look = time.monotonic(), min(LOOK, self._patience)
        while True:
            with self._client.as_current(), contextlib.suppress(self._distributed.TimeoutError):
                self._distributed.wait(list(running), timeout=look, return_when="FIRST_COMPLETED")
            for future in running:
                if future.status in ("finished", "error"):
                    return future
            if self._places(device):
                seen = time.monotonic()
            elif time.monotonic() - seen >= self._patience:
                kind, more = (f" with a resource {RESOURCE!r}", f" --resources {RESOURCE}=1") if device else ("", "")
                raise PassFailed(
                    f"the Dask cluster at {self._address!r} has had no worker{kind} for {self._patience:g} seconds, "
                    f"and {len(running)} jobs wait for one: start one with 'dask worker {self._address} --nthreads "
                    f"1{more}', and run the same again"
                )

    def close(self) -> None:
        """Leave the cluster, which stays."""
        self._client.close()

    def _check(self, device: bool) -> None:
        known = self._known()
        if not known:
            raise UsageError(
                f"the Dask scheduler at {self._address!r} has no workers; start one with 'dask worker {self._address}'"
            )
        if device and not self.measures:
            raise UsageError(
                f"none of the {len(known)} workers at {self._address!r} advertises a resource {RESOURCE!r}, on which "
                "times are measured; start one with "
                f"'dask worker {self._address} --nthreads 1 --resources {RESOURCE}=1'"
            )

    def _known(self) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] | None = self._client.scheduler_info(n_workers=-1).get("workers")
        except OSError as error:
            raise self._gone() from error
        if found is None:  # what a client knows that has lost its scheduler
            raise self._gone()
        return found

    def _gone(self) -> PassFailed:
        return PassFailed(
            f"the Dask scheduler at {self._address!r} is gone; start it and its workers, and run the same again"
        )

    def _places(self, device: bool) -> int:
        """How many items can be worked on now."""
        known = self._known()
        if device:
            return int(sum(worker["resources"].get(RESOURCE, 0) for worker in known.values()))
        return self._threads(known)

    @staticmethod
    def _threads(known: Mapping[str, Any]) -> int:
        return sum(int(worker["nthreads"]) for worker in known.values())


def _distributed() -> types.ModuleType:
    try:
        import distributed
    except ImportError as error:
        raise UsageError(
            "--scheduler needs Dask, which is not installed: pip install 'onnxprune[distributed]'"
        ) from error
    module: types.ModuleType = distributed
    return module
