"""What a user asks for by --target is read as it is meant, or refused with what would be right."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.aiming import MOST, Shot, best, next_aim
from onnxprune.errors import UsageError
from onnxprune.schedules import share
from onnxprune.targets import Targets


@pytest.mark.parametrize(
    ("text", "budget", "whole", "expected"),
    [
        ("macs=0.5", "macs", 40, 0.5),
        ("macs=50%", "macs", 40, 0.5),
        ("macs=20M", "macs", 40e6, 0.5),
        ("params=100k", "params", 400e3, 0.25),
        ("size=1MB", "size", 4e6, 0.25),
        ("size = 1 MiB", "size", 2**22, 0.25),
        ("memory=3MB", "memory", 2e6, 1.0),
        ("latency=4ms", "latency", 8.0, 0.5),
        ("latency=500us", "latency", 2.0, 0.25),
        ("latency=.25", "latency", 2.0, 0.25),
        ("sparsity=0.3", "sparsity", 100, 0.7),
    ],
)
def test_bounds(text: str, budget: str, whole: float, expected: float) -> None:
    """A fraction is one of the original, an amount has a unit, and a sparsity counts what goes."""
    (bound,) = Targets.parse([text]).bounds.values()
    assert bound.budget == budget
    assert bound.of(whole) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "before", "held", "lost"),
    [
        ("metric>=0.9", 0.95, 0.9, 0.89),
        ("metric=90%", 0.95, 0.9, 0.89),
        ("metric<=12.5", 10.0, 12.5, 12.6),
        ("metric-drop<=1%", 0.8, 0.7921, 0.7919),
        ("metric-drop<=0.01", 0.8, 0.7901, 0.789),
    ],
)
def test_gates(text: str, before: float, held: float, lost: float) -> None:
    """A metric is bounded by itself or by what it loses; a percentage of loss is one of the original's metric."""
    gate = Targets.parse([text]).gate
    assert gate is not None
    assert gate.holds(before, held)
    assert not gate.holds(before, lost)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["macs"], "expected a budget"),
        (["macs=half"], "expected a budget"),
        (["macs=-1"], "expected a budget"),
        (["macs=1.5"], "an amount has a unit: K, M, G"),
        (["latency=4"], "an amount has a unit: us, ms, s"),
        (["size=4ms"], "size has no unit 'ms'; it has B, KB, MB, GB, KiB, MiB, GiB"),
        (["latency=0ms"], "an amount above 0"),
        (["sparsity=1"], "above 0 and below 1"),
        (["macs=0.5", "macs=0.4"], "macs twice: macs=0.5 and macs=0.4"),
        (["metric>=0.9", "metric-drop<=1%"], "the metric twice"),
        (["metric>0.9"], "expected metric>=0.9"),
        (["metric-drop>=1%"], "expected metric>=0.9"),
        (["metric>=4ms"], "expected metric>=0.9"),
    ],
)
def test_what_is_refused(texts: list[str], said: str) -> None:
    """Each mistake is told with what would be right."""
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        Targets.parse(texts)


def test_what_needs_a_table_of_time() -> None:
    """A latency does, and a metric alone, for then the run is to be as fast as it allows."""
    assert Targets.parse(["latency=0.5", "macs=0.5"]).needs_latency
    assert Targets.parse(["metric>=0.9"]).needs_latency
    assert not Targets.parse(["metric>=0.9", "macs=0.5"]).needs_latency


def test_a_measured_target_is_hit() -> None:
    """Whatever straight line lies between what is predicted and what is measured, give or take 1 %, a few shots do.

    Noise may be against all of them: 1 in 10,000 may miss. On the average it takes less than three.
    """
    lines, missed, fired, reachable = np.random.default_rng(0), 0, 0, 0
    for seed in range(20_000):
        asked, slope, offset = lines.uniform([0.2, 0.7, -0.1], [0.9, 1.6, 0.3])
        noise, shots = np.random.default_rng(seed), list[Shot]()
        while (aim := next_aim(asked, 0.05, shots)) is not None:
            measured = max(offset + slope * aim, 0.01) * noise.normal(1, 0.01)
            shots.append(Shot(aim, measured, last=aim < 0.05))
        assert 1 <= len(shots) <= MOST
        if max(offset + 0.05 * slope, 0.01) < asked * 0.93 and offset + slope > asked * 0.98:
            reachable += 1
            fired += len(shots)
            missed += not 0.95 * asked <= shots[best(asked, shots)].measured <= asked
    assert reachable > 18_000
    assert missed <= 1e-4 * reachable
    assert fired < 3 * reachable


def test_shots_that_come_nearer_from_one_side() -> None:
    """Where starting a layer takes most of its time, all shots are too slow at first."""
    shots = list[Shot]()
    while (aim := next_aim(0.42, 0.05, shots)) is not None:
        shots.append(Shot(aim, 0.28 + 1.46 * aim))
    assert len(shots) == 3


def test_shots_at_a_staircase() -> None:
    """Where no model lies in the window, the one below it is taken, after few tries."""
    shots = list[Shot]()
    while (aim := next_aim(0.5, 0.05, shots)) is not None:
        shots.append(Shot(aim, 0.4 if aim < 0.52 else 0.7))
    assert len(shots) <= MOST
    assert shots[best(0.5, shots)].measured == 0.4


def test_shots_at_what_cannot_be_had() -> None:
    """When nothing is left to take, it ends, with the lowest that there was."""
    shots = [Shot(0.3, 0.6), Shot(0.15, 0.5, last=True)]
    assert next_aim(0.3, 0.05, shots) is None
    assert best(0.3, shots) == 1


def test_schedules_end_at_the_target() -> None:
    """Every schedule rises and ends at 1; the cubic one goes far at first."""
    for schedule in ("linear", "cubic"):
        ways = [share(step, 5, schedule) for step in range(1, 6)]
        assert ways == sorted(ways)
        assert ways[-1] == 1
    assert share(1, 4, "cubic") > 0.5
    with pytest.raises(UsageError, match="linear, cubic"):
        share(1, 4, "square")
