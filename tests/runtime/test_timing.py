from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnxprune.runtime.clocks import Clock, thread_time_is_fine
from onnxprune.runtime.failure import RunFailed
from onnxprune.runtime.ratios import interval, median_ratio
from onnxprune.runtime.timing import Arm, Timing, interleave, measure
from tests.runtime.graphs import linear, network


class FakeMachine:
    """A machine whose time passes only when a model on it is called; `busy` is wall over processor time."""

    def __init__(self, busy: float = 1.0, seed: int = 0) -> None:
        self.cpu = self.wall = 0.0
        self.busy = busy
        self.random = np.random.default_rng(seed)
        self.log: list[str] = []
        self.clock = Clock(cpu=lambda: self.cpu, wall=lambda: self.wall)

    def model(self, name: str, ms: float, noise: float = 0.01, between_sessions: float = 0.0) -> Arm:
        def open_session() -> Callable[[], object]:
            self.log.append(f"open {name}")
            factor = 1 + between_sessions * self.random.standard_normal()

            def call() -> None:
                self.log.append(name)
                took = ms / 1e3 * factor * (1 + noise * abs(self.random.standard_normal()))
                self.cpu += took
                self.wall += took * self.busy

            return call

        return open_session

    def time(self, *arms: Arm, rounds: int = 40, sessions: int = 3, **options: object) -> Timing:
        return interleave(arms, rounds=rounds, sessions=sessions, seed=0, clock=self.clock, **options)  # type: ignore[arg-type]


def test_a_model_twice_as_large_is_half_as_fast() -> None:
    """The ratio is near 2 one way and near 1/2 the other, with an interval that holds it, and is a claim."""
    machine = FakeMachine()
    found = machine.time(machine.model("large", 8), machine.model("small", 4), machine.model("huge", 16))
    half, double = found.pairs
    assert half.speedup == pytest.approx(2, rel=0.02)
    assert double.speedup == pytest.approx(0.5, rel=0.02)
    assert half.speedup_ci[0] < half.speedup < half.speedup_ci[1] < 2.1
    assert half.significant
    assert double.significant
    assert (half.why, double.why) == ("faster by more than chance", "slower by more than chance")
    assert [model.latency_ms for model in found.models] == pytest.approx([8, 4, 16], rel=0.02)
    assert all(model.p10_ms <= model.latency_ms <= model.p90_ms for model in found.models)


def test_a_model_is_no_faster_than_itself() -> None:
    """Two arms of one model are no claim, and the control is near 1."""
    machine = FakeMachine()
    found = machine.time(machine.model("a", 5, between_sessions=0.005), machine.model("a", 5, between_sessions=0.005))
    assert not found.pairs[0].significant
    assert found.control.ratio == pytest.approx(1, abs=0.02)
    assert found.control.spread[0] <= found.control.ratio <= found.control.spread[1]


@pytest.mark.parametrize(
    ("ms", "noise", "between", "rounds", "sessions", "why"),
    [
        (4.9, 0.001, 0.0, 40, 3, "under 3%"),
        (2.5, 0.001, 0.0, 12, 3, "12 rounds in 3 sessions are too few"),
        (2.5, 0.001, 0.0, 40, 2, "40 rounds in 2 sessions are too few"),
        (4.6, 0.01, 0.5, 40, 4, "holds 1"),
    ],
)
def test_no_claim(ms: float, noise: float, between: float, rounds: int, sessions: int, why: str) -> None:
    """Too small, too few or too uncertain a difference is not claimed, and the reason is told."""
    machine = FakeMachine(seed=3)
    first, other = machine.model("a", 5, noise, between), machine.model("b", ms, noise, between)
    pair = machine.time(first, other, rounds=rounds, sessions=sessions).pairs[0]
    assert not pair.significant
    assert why in pair.why


def test_no_claim_inside_the_control_s_spread() -> None:
    """Where the first model differs from itself by a fifth, a tenth is no claim, however steady it is."""
    machine = FakeMachine()
    opened = iter([5.0, 6.0] * 3)  # the first arm and the control, in each of three sessions

    def drifting() -> Callable[[], object]:
        return machine.model("a", next(opened), 0.001)()

    pair = machine.time(drifting, machine.model("b", 4.5, 0.001)).pairs[0]
    assert not pair.significant
    assert "differs from itself as much" in pair.why


def test_every_session_is_fresh_and_every_round_holds_every_model_once() -> None:
    """Sessions are opened anew for each model and the control; in a round each is called untimed, then timed."""
    machine = FakeMachine()
    machine.time(machine.model("a", 5), machine.model("b", 5), rounds=30, sessions=3)
    assert machine.log.count("open a") == 6
    assert machine.log.count("open b") == 3
    start = 3 + 2 * 4  # what opening and calibrating takes
    rounds = [machine.log[start + 6 * i : start + 6 * (i + 1)] for i in range(10)]
    for one in rounds:
        assert sorted(one) == ["a"] * 4 + ["b"] * 2
        assert one[0::2] == one[1::2]
    assert len({tuple(one) for one in rounds}) > 1


def test_fast_models_are_called_often_enough_to_be_timed() -> None:
    """A call of 10 microseconds is timed a hundred at a time, and reported per call."""
    machine = FakeMachine()
    found = machine.time(machine.model("fast", 0.01), rounds=3)
    assert machine.log.count("fast") > 3 * 100
    assert found.models[0].latency_ms == pytest.approx(0.01, rel=0.05)
    assert found.pairs == ()


def test_contention_is_wall_over_processor_time() -> None:
    """A machine that is shared by halves shows in the wall and in the contention, not in the latency."""
    machine = FakeMachine(busy=2.0)
    found = machine.time(machine.model("a", 5), machine.model("b", 5))
    assert found.contention == pytest.approx(2)
    assert found.models[0].latency_ms == pytest.approx(5, rel=0.05)
    assert found.models[0].wall_ms == pytest.approx(10, rel=0.05)
    by_wall = machine.time(machine.model("a", 5), by="wall")
    assert (by_wall.clock, by_wall.contention) == ("wall", None)
    assert by_wall.models[0].latency_ms == pytest.approx(10, rel=0.05)


def test_a_budget_ends_the_rounds_early_and_evenly() -> None:
    """Every session gets its share of the seconds, and at least one round when there is none left."""
    machine = FakeMachine()
    found = machine.time(machine.model("a", 10), machine.model("b", 10), rounds=4000, seconds=6)
    assert 60 < found.rounds < 110
    assert found.seconds == pytest.approx(6, rel=0.1)
    assert machine.time(machine.model("a", 10), seconds=0).rounds == 3


def test_rounds_are_announced() -> None:
    """The caller is told of every round and of how many there will be."""
    machine, seen = FakeMachine(), []
    machine.time(machine.model("a", 5), rounds=6, on_round=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_the_seed_decides_the_result() -> None:
    """The same machine with the same seed gives the same report."""
    results = []
    for _ in range(2):
        machine = FakeMachine()
        results.append(machine.time(machine.model("a", 5), machine.model("b", 3)))
    assert results[0] == results[1]


def test_the_interval_counts_sessions() -> None:
    """Sessions that disagree widen the interval to what they disagree by, however steady their rounds."""
    ones = [np.ones(20)] * 3
    steady, torn = [np.full(20, 1.0)] * 3, [np.full(20, f) for f in (0.8, 1.0, 1.25)]
    assert interval(ones, steady) == (1.0, 1.0)
    assert interval(ones, torn) == pytest.approx((0.8, 1.25))
    assert median_ratio(ones, torn) == 1.0


@pytest.mark.parametrize(("rounds", "sessions"), [(0, 1), (2, 3), (3, 0)])
def test_nonsense_is_refused(rounds: int, sessions: int) -> None:
    """Fewer rounds than sessions, or none of either, is a mistake of the caller."""
    machine = FakeMachine()
    with pytest.raises(ValueError, match="at least one"):
        machine.time(machine.model("a", 5), rounds=rounds, sessions=sessions)


def test_real_models_are_measured() -> None:
    """Real sessions give positive times, by processor time with one thread and by the wall with two."""
    feeds = {"x": np.ones((1, 3, 16, 16), np.float32)}
    found = measure([network(16), network(32)], feeds, rounds=3)
    assert found.clock == ("cpu" if thread_time_is_fine() else "wall")
    assert len(found.models) == 2
    assert all(model.latency_ms > 0 for model in found.models)
    assert measure([network(16)], [feeds], rounds=3, threads=2).clock == "wall"


def test_feeds_are_one_for_all_or_one_for_each() -> None:
    """A model with other inputs gets its own feeds; another number of feeds is refused."""
    image, row = {"x": np.ones((1, 3, 16, 16), np.float32)}, {"x": np.ones((1, 3), np.float32)}
    assert len(measure([network(16), linear()], [image, row], rounds=3).models) == 2
    with pytest.raises(ValueError, match="one per model"):
        measure([linear(), linear()], [row])
    with pytest.raises(RunFailed):
        measure([linear()], image)
