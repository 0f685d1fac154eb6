"""Measuring a `Profile` of this machine, in some seconds.

Each kind of work is one operator, called as an emitted graph calls it, at the crossings of a grid of
sizes. What others do on the machine only ever adds time: of several medians, taken at different moments,
the smallest counts.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import torch

from graphopt.latency import THREAD, WALL, Clock, quiet
from graphopt.profile import FRESH, Profile, Table, this_machine

Call = Callable[[], Any]
Build = Callable[..., Call]

_aten = torch.ops.aten
_ROUNDS = 2
_BATCH = 60e-6  # seconds
_BATCHES = 5
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Work:
    """One kind of work: what makes a call of it for a dtype and some sizes, and the grid of these."""

    build: Build
    axes: tuple[tuple[int, ...], ...] = ()


def _of(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.full(shape, 0.5 if dtype.is_floating_point else 1, dtype=dtype, device=_CPU)


def _random_indices(count: int, below: int) -> torch.Tensor:
    generator = torch.Generator(_CPU).manual_seed(0)
    return torch.randint(below, (count,), generator=generator, device=_CPU)


def _number(dtype: torch.dtype) -> Call:
    x = _of(dtype, 4, 4)
    return lambda: _aten.sym_size.int(x, 0)


def _view(dtype: torch.dtype) -> Call:
    x = _of(dtype, 4, 4)

    def call() -> None:
        _aten.view.default(_aten.transpose.int(_aten.unsqueeze.default(x, 0), 0, 1), [4, 4])
        _aten.slice.Tensor(x, 0, 0, 2)

    return call  # four views


def _linear(dtype: torch.dtype, m: int, n: int, k: int) -> Call:
    x, w, b = _of(dtype, m, k), _of(dtype, n, k), _of(dtype, n)
    if not dtype.is_floating_point:
        return lambda: _aten.matmul.default(x, w.T)
    return lambda: _aten.linear.default(x, w, b)


def _bmm(dtype: torch.dtype, b: int, m: int, n: int, k: int) -> Call:
    x, y = _of(dtype, b, m, k), _of(dtype, b, k, n)
    return lambda: _aten.matmul.default(x, y)


def _attention(dtype: torch.dtype, heads: int, rows: int, columns: int) -> Call:
    q, kv = _of(dtype, 1, heads, rows, 64), _of(dtype, 1, heads, columns, 64)
    return lambda: _aten.scaled_dot_product_attention.default(q, kv, kv)


def _convolution(kernel: int) -> Build:
    def build(dtype: torch.dtype, pixels: int, n: int, k: int) -> Call:
        side, channels = math.isqrt(pixels), max(k // kernel**2, 1)
        x, w = _of(dtype, 1, channels, side, side), _of(dtype, n, channels, kernel, kernel)
        padding = [kernel // 2, kernel // 2]
        return lambda: _aten.conv2d.default(x, w, None, [1, 1], padding)

    return build


def _depthwise(dtype: torch.dtype, elements: int) -> Call:
    channels = max(elements // 256, 1)
    x, w = _of(dtype, 1, channels, 16, 16), _of(dtype, channels, 1, 3, 3)
    return lambda: _aten.conv2d.default(x, w, None, [1, 1], [1, 1], [1, 1], channels)


def _lstm(dtype: torch.dtype, steps: int, batch: int, width: int) -> Call:
    x, state = _of(dtype, steps, batch, width), _of(dtype, 1, batch, width)
    w, b = _of(dtype, 4 * width, width), _of(dtype, 4 * width)
    parameters = [w, w.clone(), b, b.clone()]
    return lambda: _aten.lstm.input(x, [state, state], parameters, True, 1, 0.0, False, False, False)


def _pointwise(dtype: torch.dtype, size: int) -> Call:
    count = size // (3 * dtype.itemsize)
    x, y = _of(dtype, count), _of(dtype, count)
    return lambda: _aten.add.Tensor(x, y)


def _broadcast(dtype: torch.dtype, size: int) -> Call:
    width = 16 if size < 2**15 else 256
    x, y = _of(dtype, max(size // (2 * width * dtype.itemsize), 1), width), _of(dtype, width)
    return lambda: _aten.add.Tensor(x, y)


def _square(dtype: torch.dtype, elements: float) -> torch.Tensor:
    side = max(int(math.sqrt(elements)), 1)
    return _of(dtype, side, side)


def _strided(dtype: torch.dtype, size: int) -> Call:
    x = _square(dtype, size / (3 * dtype.itemsize))
    return lambda: _aten.add.Tensor(x, x.T)


def _copy(dtype: torch.dtype, size: int) -> Call:
    x = _of(dtype, size // (4 * dtype.itemsize))
    return lambda: _aten.cat.default([x, x])


def _transpose(dtype: torch.dtype, size: int) -> Call:
    x = _square(dtype, size / (2 * dtype.itemsize)).T
    return lambda: _aten.contiguous.default(x)


def _fill(dtype: torch.dtype, size: int) -> Call:
    count = size // dtype.itemsize
    return lambda: _aten.full.default([count], 1.0, dtype=dtype, device=_CPU)


def _each(operator: Callable[..., Any], *more: Any) -> Build:
    def build(dtype: torch.dtype, elements: int) -> Call:
        x = _of(dtype, elements)
        return lambda: operator(x, *more)

    return build


def _rowwise(operator: Callable[..., Any], *more: Any) -> Build:
    def build(dtype: torch.dtype, rows: int, columns: int) -> Call:
        x = _of(dtype, rows, columns)
        return lambda: operator(x, *more)

    return build


def _norm(dtype: torch.dtype, rows: int, columns: int) -> Call:
    x, w = _of(dtype, rows, columns), _of(dtype, columns)
    return lambda: _aten.layer_norm.default(x, [columns], w, w)


def _pool(dtype: torch.dtype, elements: int) -> Call:
    x = _of(dtype, 1, max(elements // 256, 1), 16, 16)
    return lambda: _aten.max_pool2d.default(x, [3, 3], [1, 1], [1, 1])


def _rows(dtype: torch.dtype, size: int) -> Call:
    width = 64
    index = _random_indices(max(size // (2 * width * dtype.itemsize), 1), 8192)
    x = _of(dtype, 8192, width)
    return lambda: _aten.embedding.default(x, index)


def _gather(dtype: torch.dtype, elements: int) -> Call:
    width = min(elements, 256)
    x, index = _of(dtype, elements // width, 256), _random_indices(elements, 256).view(-1, width)
    return lambda: _aten.gather.default(x, 1, index)


def _sort(dtype: torch.dtype, elements: int) -> Call:
    x = _random_indices(elements, 2**24).to(dtype).view(-1, 64)
    return lambda: _aten.sort.default(x)


def _random(dtype: torch.dtype, elements: int) -> Call:
    generator = torch.Generator(_CPU).manual_seed(0)
    x = _of(dtype, elements)
    return lambda: _aten.normal_.default(x, generator=generator)


_BYTES = ((2**8, 2**12, 2**15, 2**18, 2**20, 2**22, 2**24),)
_ELEMENTS = ((2**4, 2**8, 2**12, 2**16, 2**20),)
_BY_ROW = ((1, 16, 256, 4096), (4, 64, 768))
_PIXELS = (64, 1024, 4096)

WORK: Mapping[str, Work] = {
    "number": Work(_number),
    "view": Work(_view),
    "linear": Work(_linear, ((1, 4, 16, 64, 256, 1024),) * 3),
    "bmm": Work(_bmm, ((2, 16), (1, 8, 64, 512), (1, 8, 64, 512), (1, 8, 64, 512))),
    "attention": Work(_attention, ((1, 12), (1, 32, 128, 512), (1, 32, 128, 512))),
    "convolution": Work(_convolution(3), (_PIXELS, (4, 16, 64, 256), (36, 144, 576, 2304))),
    "pointwise_convolution": Work(_convolution(1), (_PIXELS, (16, 64, 256), (16, 64, 256))),
    "depthwise": Work(_depthwise, _ELEMENTS),
    "lstm": Work(_lstm, ((1, 16), (1, 16), (32, 128, 512))),
    "pointwise": Work(_pointwise, _BYTES),
    "broadcast": Work(_broadcast, _BYTES),
    "strided": Work(_strided, _BYTES),
    "copy": Work(_copy, _BYTES),
    "transpose": Work(_transpose, _BYTES),
    "fill": Work(_fill, _BYTES),
    "compare": Work(_each(_aten.ge.Scalar, 0.0), _ELEMENTS),
    "exp": Work(_each(_aten.exp.default), _ELEMENTS),
    "tanh": Work(_each(_aten.tanh.default), _ELEMENTS),
    "gelu": Work(_each(_aten.gelu.default), _ELEMENTS),
    "erf": Work(_each(_aten.erf.default), _ELEMENTS),
    "log": Work(_each(_aten.log.default), _ELEMENTS),
    "pow": Work(_each(_aten.pow.Tensor_Scalar, 1.7), _ELEMENTS),
    "sin": Work(_each(_aten.sin.default), _ELEMENTS),
    "softmax": Work(_rowwise(_aten.softmax.int, -1), _BY_ROW),
    "norm": Work(_norm, _BY_ROW),
    "reduce": Work(_rowwise(_aten.sum.dim_IntList, [-1]), _BY_ROW),
    "scan": Work(_each(_aten.cumsum.default, 0), _ELEMENTS),
    "pool": Work(_pool, _ELEMENTS),
    "rows": Work(_rows, _BYTES),
    "gather": Work(_gather, _ELEMENTS),
    "sort": Work(_sort, ((2**6, 2**12, 2**16),)),
    "random": Work(_random, _ELEMENTS),
}
_CALLS = {"view": 4}  # operators in one call

_MATRIX = {"linear": (64, 256, 256), "bmm": (8, 64, 64, 64)}
_FLOATING = _MATRIX | {
    "attention": (8, 64, 64), "convolution": (1024, 64, 576), "pointwise_convolution": (1024, 64, 64),
    "pointwise": (2**20,), "exp": (2**16,), "tanh": (2**16,), "gelu": (2**16,), "softmax": (256, 64),
    "norm": (256, 768), "reduce": (256, 768),
}  # fmt: skip
COMPARED: Mapping[torch.dtype, Mapping[str, tuple[int, ...]]] = {
    torch.float64: _FLOATING,
    torch.bfloat16: _FLOATING,
    torch.float16: _FLOATING,
    torch.int64: _MATRIX | {"pointwise": (2**20,)},
    torch.complex64: _MATRIX | {"pointwise": (2**20,)},
}
"""Where other dtypes are compared with float32, by kind of work."""


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
                    tuple(found[torch.float32, kind, sizes] / _CALLS.get(kind, 1)
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
    x, w = _of(torch.float32, 1, 768), _of(torch.float32, max(2 * cache // (4 * 768), 10 * 768), 768)
    outside, inside = (
        min(_seconds(lambda w=w: _aten.linear.default(x, w), clock) for _ in range(3)) / w.nbytes  # type: ignore[misc]
        for w in (w, w[:768])
    )
    read = max(outside - inside, outside / 100)
    new, old = (_fill(torch.float32, size) for size in (2 * FRESH, FRESH // 4))
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
