"""The workers of a Dask cluster, of which those that advertise a resource `device` are where times are measured.

A worker is started with `dask worker ADDRESS --nworkers 1 --nthreads 1`, and `--resources device=1` where it is to
measure. It has to have onnxprune, and to see the files of the job under the names that they have here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from onnxprune.errors import UsageError
from onnxprune.executor.seam import Item, Result, WorkerLost, described

if TYPE_CHECKING:
    import types

__all__ = ["RESOURCE", "Dask"]

RESOURCE = "device"
TIMEOUT = "10s"  # to find the scheduler


class Dask:
    """The cluster whose scheduler is at an address such as `tcp://10.0.0.5:8786`.

    Errors: `UsageError` where Dask is not installed, no scheduler answers, or no worker is there to do the job.
    """

    place = "a Dask cluster"

    def __init__(self, address: str) -> None:
        self._distributed = _distributed()
        self._address = address
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
        completed = self._distributed.as_completed(loop=self._client.loop)
        running: dict[Any, int] = {}
        names: dict[int, str] = {}
        lost: dict[int, str] = {}
        waiting = enumerate(items)
        try:
            while True:
                while len(running) < self._places(device) and (taken := next(waiting, None)) is not None:
                    place, item = taken
                    names[place] = described(item)
                    future = self._client.submit(function, item, pure=False, resources=wanted)
                    running[future] = place
                    completed.add(future)
                if not running:
                    break
                future = next(completed)
                place = running.pop(future)
                try:
                    yield place, future.result()
                except self._distributed.KilledWorker as killed:
                    lost[place] = str(killed).partition(". ")[0]
            if lost:
                raise WorkerLost.of(lost, names)
        finally:
            if running:
                self._client.cancel(list(running), force=True)

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
        found: Mapping[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        return found

    def _places(self, device: bool) -> int:
        """How many items may be on their way: as many as there are threads to work on them, and one at least."""
        known = self._known()
        if device:
            return max(1, int(sum(worker["resources"].get(RESOURCE, 0) for worker in known.values())))
        return max(1, self._threads(known))

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
