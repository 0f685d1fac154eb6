"""Which of two callables is faster, on a machine that others use too: interleaved pairs, and a verdict.

Both are called in pairs, in random order, so that what slows the machine down meanwhile slows both
down. Some short calls are made, untimed, before those that are timed: what the other left in the caches is
not their price. What counts is the median of the ratios within pairs, which an outlier does not move, and its
bootstrap interval; where that holds no speed-up or slowdown, there is "no difference beyond noise".
"""

import gc
import math
import random
import statistics
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Any

import torch

DEAD_BAND = 1.01
"""A smaller ratio is no difference: where code and data happen to lie in memory is good for as much, in
every pair alike (Mytkowicz et al., "Producing wrong data without doing anything obviously wrong", 2009)."""
_NARROW = 1.04  # upper by lower bound of an interval that is good enough: about ± 2 %
_ENOUGH = 6  # pairs: the interval of fewer, from the smallest ratio to the largest, holds less than 95 %
_SAMPLE = 3e-4  # seconds: hundreds of times what reading a clock takes
_SHORT = 5e-3  # seconds: in a longer call it counts for little whose data the caches hold at its start
_SETTLING = 5  # short calls until the caches hold their own data: 4 were seen to matter with 10 MB of weights
_STABLE = 3  # samples in a row that are not faster than those before by 2 %
_WARM_UP = 0.25  # of the budget, at most


@dataclass(frozen=True)
class Clock:
    """What a duration is read from, `now`, and what the budget is, `wall`; both in seconds."""

    name: str
    now: Callable[[], float]
    wall: Callable[[], float] = time.perf_counter


THREAD = Clock("thread CPU time", time.thread_time)
"""What others do on the machine hardly shows; but nor do other threads and waiting."""
WALL = Clock("wall clock", time.perf_counter)


@dataclass(frozen=True)
class Timing:
    """The comparison of two callables. `seconds_*` are medians a call; `ratio` is how many times as fast
    the second is (the median over pairs), `low` and `high` its 95 % interval; `calls` are those made in a
    row for each time taken."""

    seconds_before: float
    seconds_after: float
    ratio: float
    low: float
    high: float
    pairs: int
    calls: int
    warm_up: int
    clock: str
    threads: int

    @property
    def faster(self) -> bool:
        """Whether the second is faster: the whole interval is above the dead band."""
        return self.pairs >= _ENOUGH and self.low > DEAD_BAND

    @property
    def slower(self) -> bool:
        """Whether the second is slower: the whole interval is below the dead band."""
        return self.pairs >= _ENOUGH and self.high < 1 / DEAD_BAND

    @property
    def decisive(self) -> bool:
        """Whether more pairs would tell little more."""
        return self.faster or self.slower or (self.pairs >= _ENOUGH and self.high < self.low * _NARROW)

    def verdict(self) -> str:
        """One sentence."""
        if self.pairs < _ENOUGH:
            said = f"too few pairs to tell in the time given: {self.pairs}"
        elif self.faster:
            said = f"{self.ratio:.2f} × as fast"
        elif self.slower:
            said = f"{1 / self.ratio:.2f} × slower"
        else:
            said = "no difference beyond noise"
        return (
            f"{said} ({_duration(self.seconds_before)} → {_duration(self.seconds_after)}; 95 % interval of "
            f"the speed-up {self.low:.3f} to {self.high:.3f}; {self.pairs} pairs, {self.clock}, "
            f"{self.threads} thread{'s' if self.threads != 1 else ''})"
        )

    def to_dict(self) -> dict[str, Any]:
        """All fields and the verdict, for JSON."""
        return asdict(self) | {"faster": self.faster, "slower": self.slower, "verdict": self.verdict()}


@dataclass(frozen=True)
class Measured:
    """The timing of one kind of calls; or why there is none."""

    subject: str
    timing: Timing | None = None
    reason: str = ""

    def __str__(self) -> str:
        said = self.timing.verdict() if self.timing is not None else f"not timed: {self.reason}"
        return f"{self.subject}: {said}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        timing = None if self.timing is None else self.timing.to_dict()
        return {"subject": self.subject, "timing": timing, "reason": self.reason}


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def compare(
    first: Callable[[], object],
    second: Callable[[], object],
    *,
    pairs: int = 15,
    budget_s: float = 5.0,
    seed: int = 0,
    clock: Clock | None = None,
    device: torch.device | None = None,
    threads: int | None = None,
) -> Timing:
    """Times two callables against each other. What they return is dropped, what they raise is raised.

    pairs: before the first look at the interval; then twice as many, until it is decisive.
    budget_s: seconds in all, warm-up included; a pair that would not fit is not begun. One always is.
    seed: of the order within pairs.
    clock: None for the CPU time of this thread where it does all the work, else the wall clock.
    device: an accelerator that they work on; it is waited for.
    threads: torch's number of threads meanwhile; None leaves it.
    """
    with quiet(threads):
        both = (first, second)
        clock = clock or _clock(both, device)
        started = clock.wall()
        warm_up, calls, shortest = _warm_up(both, clock, started + budget_s * _WARM_UP)
        settling = _SETTLING if shortest < _SHORT else 0
        order = random.Random(seed)
        times: list[tuple[float, float]] = []
        look, share, pair_s = pairs, 0.025, 0.0
        while True:
            while len(times) < look and not (times and clock.wall() + pair_s > started + budget_s):
                began = clock.wall()
                times.append(_pair(both, calls, settling, clock, order.random() < 0.5))
                pair_s = clock.wall() - began
            low, high = _interval([before / after for before, after in times], share)
            timing = Timing(
                statistics.median(before for before, _ in times),
                statistics.median(after for _, after in times),
                statistics.median(before / after for before, after in times),
                low, high, len(times), calls, warm_up, clock.name, torch.get_num_threads(),
            )  # fmt: skip
            if timing.decisive or len(times) < look:
                return timing
            # Each look may be wrong half as often as the one before: all of them together, 5 %.
            look, share = 2 * look + 1, share / 2


def _pair(
    both: tuple[Callable[[], object], Callable[[], object]],
    calls: int,
    settling: int,
    clock: Clock,
    swapped: bool,
) -> tuple[float, float]:
    if swapped:
        after = _timed(both[1], calls, clock, settling)
        return _timed(both[0], calls, clock, settling), after
    return _timed(both[0], calls, clock, settling), _timed(both[1], calls, clock, settling)


def _timed(call: Callable[[], object], calls: int, clock: Clock, settling: int = 0) -> float:
    """Seconds a call, after some that do not count; never zero, however coarse the clock."""
    for _ in repeat(None, settling):
        call()
    started = clock.now()
    for _ in repeat(None, calls):
        call()
    return max(clock.now() - started, 1e-9) / calls


def _warm_up(both: Sequence[Callable[[], object]], clock: Clock, until: float) -> tuple[int, int, float]:
    """Calls both until they get no faster: the calls made of each, how many make one sample, and the
    seconds that the shorter one takes."""
    calls, made, stable, best = 1, 0, 0, math.inf
    while stable < _STABLE:
        took = [_timed(call, calls, clock) for call in both]
        made += calls
        stable = 0 if sum(took) < 0.98 * best else stable + 1
        best = min(best, sum(took))
        if clock.wall() > until:
            break
        if min(took) * calls < _SAMPLE:
            calls, stable = 2 * calls, 0
    return made, calls, min(took)


def _interval(ratios: list[float], share: float) -> tuple[float, float]:
    """The bootstrap interval of the median that is wrong in a `share` of cases: its limit for infinitely
    many resamples, so that there is nothing to draw. Of two middle values, the outer is taken."""
    ordered, count = sorted(ratios), len(ratios)

    def bound(middle: int, part: float) -> float:
        """The value that the `middle`-th smallest of a resample is at most, in `part` of the resamples."""
        return ordered[bisect_left(range(count - 1), part, key=lambda at: _at_least(middle, count, at + 1))]

    return bound((count + 1) // 2, share / 2), bound(count // 2 + 1, 1 - share / 2)


def _at_least(middle: int, count: int, lowest: int) -> float:
    """How probable it is that `middle` or more of `count` draws, with replacement from as many, are among
    the `lowest`: a binomial tail."""
    inside, outside = math.log(lowest / count), math.log1p(-lowest / count)
    whole = math.lgamma(count + 1)
    return math.fsum(
        math.exp(whole - math.lgamma(n + 1) - math.lgamma(count - n + 1) + n * inside + (count - n) * outside)
        for n in range(middle, count + 1)
    )


def _clock(both: Sequence[Callable[[], object]], device: torch.device | None) -> Clock:
    if device is not None and device.type not in ("cpu", "meta"):
        return _synchronised(device)
    if torch.get_num_threads() > 1:
        return WALL
    process, thread = time.process_time(), time.thread_time()
    for call in both:
        call()
    process, thread = time.process_time() - process, time.thread_time() - thread
    return WALL if process > 1.1 * thread + 1e-3 else THREAD  # else threads of its own do the work


def _synchronised(device: torch.device) -> Clock:
    def now() -> float:
        torch.accelerator.synchronize(device)
        return time.perf_counter()

    return Clock("wall clock, device waited for", now)


@contextmanager
def quiet(threads: int | None) -> Iterator[None]:
    """No garbage collection meanwhile, and a number of threads; both as before afterwards."""
    collected, before = gc.isenabled(), torch.get_num_threads()
    gc.disable()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
        if collected:
            gc.enable()
