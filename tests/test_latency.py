"""The verdict on which of two callables is faster, by a clock that the test moves."""

import gc
import json
import random
import time
from collections.abc import Callable

import numpy
import pytest
import torch

from graphopt.latency import DEAD_BAND, THREAD, WALL, Clock, Timing, _interval, compare


class Machine:
    """A machine whose time passes only as its callables say."""

    def __init__(self, seed: int, noise: float = 0.05) -> None:
        self.seconds = 0.0
        self.order: list[str] = []
        self.random = random.Random(seed)
        self.noise = noise
        self.clock = Clock("fake", lambda: self.seconds, lambda: self.seconds)

    def work(self, name: str, seconds: float) -> Callable[[], None]:
        """Takes seconds, more by chance (noise slows down, it never speeds up), and more and more."""

        def call() -> None:
            self.order.append(name)
            noise = 1 + self.random.expovariate(1 / self.noise) if self.noise else 1
            self.seconds += seconds * noise * self.slowdown()

        return call

    def slowdown(self) -> float:
        return 1.0

    def compare(self, before: float, after: float, budget_s: float = 20.0, seed: int = 0) -> Timing:
        return compare(
            self.work("before", before), self.work("after", after),
            clock=self.clock, budget_s=budget_s, seed=seed,
        )  # fmt: skip


class Throttled(Machine):
    """Gets three times as slow within a measurement, steadily."""

    def slowdown(self) -> float:
        return 1 + self.seconds / 10


class Shared(Machine):
    """Stops now and then for something else, for fifty times as long as a call takes."""

    def slowdown(self) -> float:
        return 50.0 if self.random.random() < 0.08 else 1.0


@pytest.mark.parametrize("kind", [Machine, Throttled, Shared])
def test_equals_differ_in_no_more_than_one_in_twenty_runs(kind: type[Machine]) -> None:
    found = [kind(seed, noise=0.2).compare(0.01, 0.01, seed=seed) for seed in range(200)]
    wrong = [timing for timing in found if timing.faster or timing.slower]
    assert len(wrong) <= 10
    assert all(timing.low <= timing.ratio <= timing.high for timing in found)


def test_the_interval_holds_the_truth_in_nineteen_of_twenty_runs() -> None:
    """The looks at the interval along the way, each a chance to stop too early, count in."""
    found = [Machine(seed, noise=0.2).compare(0.01, 0.0105, seed=seed) for seed in range(200)]
    assert sum(timing.low <= 1 / 1.05 <= timing.high for timing in found) >= 190


@pytest.mark.parametrize("kind", [Machine, Throttled, Shared])
def test_ten_percent_is_found_either_way(kind: type[Machine]) -> None:
    for seed in range(20):
        assert kind(seed).compare(0.01, 0.011).slower
        assert kind(seed).compare(0.011, 0.01).faster


def test_a_pause_during_one_call_flips_nothing() -> None:
    machine = Machine(0, noise=0.01)
    slow, fast = machine.work("before", 0.011), machine.work("after", 0.01)

    def pausing() -> None:
        fast()
        if len(machine.order) == 40:
            machine.seconds += 100

    timing = compare(slow, pausing, clock=machine.clock, budget_s=1000)
    assert timing.faster and timing.ratio == pytest.approx(1.1, abs=0.02)


def test_less_than_the_dead_band_is_no_difference_however_sure() -> None:
    timing = Machine(0, noise=0.001).compare(0.01, 0.01 * (1 + (DEAD_BAND - 1) / 2))
    assert timing.high < 1 and not timing.slower
    assert timing.verdict().startswith("no difference beyond noise")


def test_the_order_within_pairs_is_random_and_the_seed_decides_it() -> None:
    orders = []
    for seed in (1, 1, 2):
        machine = Machine(0)
        timing = machine.compare(0.01, 0.01, seed=seed)
        orders.append(machine.order[2 * timing.warm_up :][: 2 * 15])
    assert orders[0] == orders[1] != orders[2]
    pairs = [tuple(orders[0][i : i + 2]) for i in range(0, 30, 2)]
    assert set(pairs) == {("before", "after"), ("after", "before")}


def test_pairs_are_added_until_the_interval_is_decisive() -> None:
    assert Machine(0, noise=0.01).compare(0.01, 0.02).pairs == 15
    assert Machine(0, noise=0.5).compare(0.01, 0.01, budget_s=1e6).pairs > 1000
    assert Machine(0, noise=0.5).compare(0.01, 0.01, budget_s=1e6).decisive


@pytest.mark.parametrize("seconds", [1e-6, 0.01, 0.3])
def test_the_budget_is_kept(seconds: float) -> None:
    machine = Machine(0, noise=0.5)
    machine.compare(seconds, seconds, budget_s=2.0)
    assert machine.seconds <= 2.0 + 4 * seconds


def test_a_call_longer_than_the_budget_is_timed_once_and_nothing_is_claimed() -> None:
    machine = Machine(0, noise=0)
    timing = machine.compare(100.0, 1.0, budget_s=2.0)
    assert timing.pairs == 1 and len(machine.order) == 4
    assert not timing.faster and not timing.slower
    assert timing.verdict().startswith("too few pairs to tell in the time given: 1")


def test_short_calls_are_timed_many_at_once() -> None:
    machine = Machine(0)
    timing = machine.compare(1e-6, 2e-6)
    assert timing.slower and timing.calls >= 500
    assert timing.seconds_before == pytest.approx(1e-6, rel=0.2)


class Cached(Machine):
    """A call that comes after another one takes longer by what it has to fetch anew."""

    def work(self, name: str, seconds: float) -> Callable[[], None]:
        def call() -> None:
            self.seconds += seconds + (0 if self.order[-3:] == [name] * 3 else 2e-3)
            self.order.append(name)

        return call


def test_a_short_call_does_not_pay_for_what_the_other_left_in_the_caches() -> None:
    assert Cached(0).compare(1e-3, 2e-3).ratio == pytest.approx(0.5)
    machine = Cached(0)
    timing = machine.compare(0.01, 0.02)
    assert timing.ratio < 0.6 and len(machine.order) == 2 * (timing.warm_up + timing.pairs)  # no call is lost


def test_warm_up_goes_on_while_calls_get_faster() -> None:
    machine = Machine(0, noise=0)
    seconds = iter([1.0, 0.5, 0.25, 0.12, 0.06] + [0.02] * 10_000)

    def warming() -> None:
        machine.seconds += next(seconds)

    timing = compare(warming, machine.work("after", 0.02), clock=machine.clock, budget_s=60)
    assert timing.warm_up >= 8 and timing.ratio == 1.0


def test_what_a_callable_raises_is_raised_and_nothing_stays_changed() -> None:
    def fail() -> None:
        raise ValueError("boom")

    threads = torch.get_num_threads()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="boom"):
        compare(fail, lambda: None, threads=threads + 1)
    assert gc.isenabled() and torch.get_num_threads() == threads


def test_garbage_is_not_collected_meanwhile() -> None:
    seen: set[tuple[bool, int]] = set()
    compare(
        lambda: seen.add((gc.isenabled(), torch.get_num_threads())), lambda: None,
        budget_s=0.05, threads=2,
    )  # fmt: skip
    assert seen == {(False, 2)}
    assert torch.get_num_threads() == 1 and gc.isenabled()
    gc.disable()
    try:
        compare(lambda: None, lambda: None, budget_s=0.01)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_one_thread_is_timed_by_its_cpu_time_and_several_by_the_wall_clock() -> None:
    x = torch.randn(64, 64)
    alone = compare(lambda: x @ x, lambda: x @ x @ x, budget_s=0.5)
    assert alone.clock == THREAD.name and alone.threads == 1
    assert alone.slower
    both = compare(lambda: x @ x, lambda: x @ x, budget_s=0.05, threads=2)
    assert both.clock == WALL.name and both.threads == 2


def test_work_in_threads_of_its_own_is_timed_by_the_wall_clock() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def busy() -> None:
        until = time.thread_time() + 0.02
        while time.thread_time() < until:
            pass

    with ThreadPoolExecutor(1) as pool:
        assert compare(lambda: pool.submit(busy).result(), busy, budget_s=0.1).clock == WALL.name


def test_an_accelerator_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    timing = compare(lambda: None, lambda: None, budget_s=0.05, device=torch.device("cuda", 1))
    assert timing.clock == "wall clock, device waited for"
    assert len(waited) >= 4 * timing.pairs and set(waited) == {torch.device("cuda", 1)}


def test_the_verdict_is_a_sentence_and_json() -> None:
    timing = Timing(2e-3, 1e-3, 2.0, 1.9, 2.1, 15, 1, 4, "wall clock", 2)
    assert timing.verdict() == (
        "2.00 × as fast (2 ms → 1 ms; 95 % interval of the speed-up 1.900 to 2.100; 15 pairs, wall clock, "
        "2 threads)"
    )
    slower = Timing(1e-6, 2.0, 0.5, 0.4, 0.6, 15, 1, 4, "wall clock", 1)
    assert slower.verdict().startswith("2.00 × slower (1 µs → 2 s;")
    assert json.loads(json.dumps(timing.to_dict()))["verdict"] == timing.verdict()


@pytest.mark.parametrize("count", [7, 15, 40])
def test_the_interval_is_what_resampling_gives(count: int) -> None:
    generator = numpy.random.default_rng(0)
    ratios = generator.lognormal(size=count)
    medians = numpy.median(generator.choice(ratios, (20_000, count)), axis=1)
    ordered = sorted(ratios)
    for bound, drawn in zip(
        _interval(list(ratios), 0.05), numpy.quantile(medians, [0.025, 0.975]), strict=True
    ):
        assert abs(ordered.index(bound) - numpy.searchsorted(ordered, drawn)) <= 1
