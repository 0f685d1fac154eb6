"""Measuring a `Profile` of this machine, in some seconds.

Each kind of work (graphopt.workloads) is measured at the crossings of a grid of sizes. What others do on
the machine only ever adds time: of several medians, taken at different moments, the smallest counts.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import torch

from graphopt.latency import THREAD, WALL, Clock, quiet
from graphopt.profile import FRESH, Profile, Table, this_machine
from graphopt.workloads import COMPARED, WORK, Call, filled

_ROUNDS = 2
_BATCH = 60e-6  # seconds
_BATCHES = 5


def calibrate(threads: int | None = None, progress: Callable[[str], None] = lambda text: None) -> Profile:
    """Measures this machine with a number of threads (torch's own where None), and leaves no trace."""
    threads = threads or torch.get_num_threads()
    clock = THREAD if threads == 1 else WALL
    cache = _cache()
    found: dict[tuple[Any, ...], float] = {}
    with quiet(threads), torch.no_grad(), torch.autocast("cpu", enabled=False):
        for number in range(_ROUNDS):
            progress(f"round {number + 1} of {_ROUNDS}")
            for point, call in _points():
                found[point] = min(found.get(point, math.inf), _seconds(call, clock))
            del call
        read, fresh = _memory(cache, clock)
        switch = _switch(clock)
    tables = {
        kind: Table(tuple(tuple(map(float, axis)) for axis in work.axes),
                    tuple(found[torch.float32, kind, sizes] / work.operators
                          for sizes in itertools.product(*work.axes)))
        for kind, work in WORK.items()
    }  # fmt: skip
    ratios = {
        str(dtype).removeprefix("torch."): {
            kind: round(found[dtype, kind, sizes] / found[torch.float32, kind, sizes], 3)
            for kind, sizes in kinds.items()
        }
        for dtype, kinds in COMPARED.items()
    }
    return Profile(
        this_machine(),
        torch.__version__,
        threads,
        tables,
        ratios,
        read,
        fresh,
        cache,
        switch,
        "measured just now",
    )


def _switch(clock: Clock) -> float:
    """By how much longer the smallest calls take one after the other than each again and again."""
    calls = [work.build(torch.float32, *(axis[0] for axis in work.axes)) for work in WORK.values()]

    def all_in_turn() -> None:
        for call in calls:
            call()

    alone = sum(min(_seconds(call, clock) for _ in range(_ROUNDS)) for call in calls)
    return max(min(_seconds(all_in_turn, clock) for _ in range(5)) / alone - 1, 0.01)


def _memory(cache: int, clock: Clock) -> tuple[float, float]:
    """Seconds that a byte takes longer where it is in no cache, and to get a new one from the system."""
    x, w = filled(torch.float32, 1, 768), filled(torch.float32, max(2 * cache // (4 * 768), 10 * 768), 768)
    outside, inside = (
        min(_seconds(lambda w=w: torch.ops.aten.linear.default(x, w), clock) for _ in range(3)) / w.nbytes  # type: ignore[misc]
        for w in (w, w[:768])
    )
    read = max(outside - inside, outside / 100)
    new, old = (WORK["fill"].build(torch.float32, size) for size in (2 * FRESH, FRESH // 4))
    slow, fast = (min(_seconds(call, clock) for _ in range(3)) for call in (new, old))
    return read, max(slow - 8 * fast, slow / 100) / (2 * FRESH)


def _points() -> Iterator[tuple[tuple[Any, ...], Call]]:
    """Everything to measure, by dtype, kind of work and sizes."""
    single = torch.float32
    for kind, work in WORK.items():
        for sizes in itertools.product(*work.axes):
            yield (single, kind, sizes), work.build(single, *sizes)
    for dtype, kinds in COMPARED.items():
        for kind, sizes in kinds.items():
            for one in (single, dtype):
                yield (one, kind, sizes), WORK[kind].build(one, *sizes)


def _seconds(call: Call, clock: Clock) -> float:
    """The median of some batches of calls, a call."""
    call()
    calls, took = 1, _batch(call, 1, clock)
    while took < _BATCH and calls < 4096:
        calls *= 2 if took > _BATCH / 8 else 4
        took = _batch(call, calls, clock)
    batches = _BATCHES if took < 20e-3 else 2
    return (
        max(statistics.median_low([took, *(_batch(call, calls, clock) for _ in range(batches - 1))]), 1e-9)
        / calls
    )


def _batch(call: Call, calls: int, clock: Clock) -> float:
    started = clock.now()
    for _ in repeat(None, calls):
        call()
    return clock.now() - started


def _cache() -> int:
    """Bytes of the largest cache; 8 MiB where the system does not tell."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        number, unit = text[:-1], {"K": 2**10, "M": 2**20}.get(text[-1:])
        if unit and number.isdigit():
            sizes.append(int(number) * unit)
    return max(sizes, default=2**23)
