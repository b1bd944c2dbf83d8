"""What pruned models should take, from the stamps that say how many indices of each group of an original stayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onnxprune import stamp
from onnxprune.allocators import candidates
from onnxprune.calibration import Cache
from onnxprune.dependency import Analysis, analyse
from onnxprune.latency import LatencyModel, latency_model
from onnxprune.model import Array, Model
from onnxprune.probing import IsolatedProber
from onnxprune.runtime.machine import conv_block
from onnxprune.runtime.session import CPU

__all__ = ["predictions"]


def predictions(
    models: Sequence[Model],
    feed: Mapping[str, Array],
    sizes: Mapping[str, int],
    *,
    threads: int = 1,
    provider: str = CPU,
    seed: int = 0,
    watch: Callable[[str, int, int], None] | None = None,
    cache: Cache | None = None,
) -> list[float | None]:
    """Milliseconds of the first model, and of each that its stamp says was made from it; None for any other.

    None, too, where a stamp says that branches went: only widths are known. `feed` is an input of the first model,
    `sizes` are example sizes of its symbolic dimensions. Models that were analysed alike share one table. Errors:
    `RunFailed` where the first model does not run, `UsageError` for a stamp that is damaged.
    """
    original = models[0]
    tables: dict[tuple[object, ...], tuple[Analysis, LatencyModel]] = {}

    def table(stated: Mapping[str, Any]) -> tuple[Analysis, LatencyModel]:
        """The first model as it was analysed when another was pruned from it."""
        own, allow, probe = {**stated["sizes"], **sizes}, frozenset(stated["allow"]), bool(stated["probe"])
        key = (tuple(sorted(own.items())), allow, probe)
        if key not in tables:
            analysis = analyse(original, own, allow=allow, prober=IsolatedProber() if probe else None)
            chosen = candidates(analysis, analysis.groups, block=conv_block())
            tables[key] = (
                analysis,
                latency_model(
                    analysis, chosen, feed, threads=threads, provider=provider, seed=seed, watch=watch, cache=cache
                ),
            )
        return tables[key]

    def predicted(model: Model) -> float | None:
        if stamp.KEY not in model.metadata:
            return None
        stated = stamp.read(model)
        if stated["original"] != original.digest or stated["dropped"]:
            return None
        analysis, latency = table(stated)
        return latency.predict(stamp.plan_of(model, analysis).counts)

    others = [predicted(model) for model in models[1:]]
    _, latency = next(iter(tables.values()), None) or table({"sizes": {}, "allow": (), "probe": False})
    return [latency.predict({}), *others]
