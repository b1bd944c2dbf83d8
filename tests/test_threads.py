"""What several threads make of batches is what one makes; how many samples are run at once follows from the model."""

from __future__ import annotations

from pathlib import Path
from threading import Barrier, get_ident

import numpy as np
import pytest

from onnxprune.dependency import analyse
from onnxprune.model import Model
from onnxprune.plan import Plan
from onnxprune.portions import FEWEST, there, there_and_back
from onnxprune.recovery.reconstruct import repaired
from onnxprune.recovery.threads import Threads
from onnxprune.silenced import silenced
from onnxprune.testing import build


def test_results_come_in_order_and_no_more_run_than_there_are_threads() -> None:
    """Two at once: each waits for the other; a failure is the caller's."""
    both = Barrier(2, timeout=30)

    def pair(item: int) -> tuple[int, int]:
        both.wait()
        return item, get_ident()

    with Threads(2) as threads:
        found = list(threads.map(pair, range(6)))
        with pytest.raises(ZeroDivisionError):
            list(threads.map(lambda item: 1 / item, [1, 0]))
    assert [item for item, _ in found] == list(range(6))
    assert len({thread for _, thread in found}) == 2
    with Threads(1) as threads:
        assert list(threads.map(lambda item: (item, get_ident()), range(3))) == [(k, get_ident()) for k in range(3)]


def test_a_repair_does_not_depend_on_the_number_of_threads(models: Path) -> None:
    """Positions, sums and orders are the same."""
    analysis = analyse(Model.load(models / "cifar10_resnet20.onnx"))
    plan = Plan.of(analysis.groups, {g.atom.id: np.arange(g.size) % 2 == 0 for g in analysis.groups[2:5]})
    with np.load(models / "cifar10_calibration.npz") as data:
        (x,) = (array[:48] for name, array in data.items() if array.ndim == 4)
    (info,) = analysis.model.inputs
    x = np.ascontiguousarray((x / 128.0 - 1).transpose(0, 3, 1, 2), np.float32) if x.shape[-1] == 3 else x
    batches = [{info.name: x[k : k + 8].astype(np.float32)} for k in range(0, 48, 8)]
    one, two = (repaired(analysis, silenced(analysis, plan), batches, threads=n) for n in (1, 2))
    assert one.values.keys() == two.values.keys()
    assert one.values
    for name, array in one.values.items():
        np.testing.assert_allclose(array, two.values[name], rtol=1e-3, atol=2e-4)  # rounding in front


@pytest.mark.parametrize(("size", "some"), [(8, 64), (512, 9), (2048, FEWEST)])
def test_fewer_samples_at_once_where_each_is_large(size: int, some: int) -> None:
    """By the widest node there, and by all that is made there and back."""
    model = build(f"x[N,3,{size},{size}] -> y\na = Conv<pads=[1,1,1,1]>(x, W[5,3,3,3])\ny = Relu(a)")
    analysis = analyse(model)
    assert there(analysis, 64) == some  # Conv reads 3 and makes 5 planes, Relu 5 and 5: 10 x size^2 floats in 96 MiB
    assert FEWEST <= there_and_back(analysis, 64) <= 64
    assert there(analysis, 2) <= FEWEST
