"""The kinds of work that a profile tells the seconds of: for each, an operator, called as an emitted graph
calls it, and the sizes to measure it at."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from graphopt.internals import has_onednn

Call = Callable[[], Any]
Build = Callable[..., Call]

_aten = torch.ops.aten
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Work:
    """One kind of work: what makes a call of it for a dtype and some sizes, the grid of these, and how many
    operators one call runs."""

    build: Build
    axes: tuple[tuple[int, ...], ...] = ()
    operators: int = 1


def filled(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """A CPU tensor that is written to (memory never written is all one page of zeros)."""
    return torch.full(shape, 0.5 if dtype.is_floating_point else 1, dtype=dtype, device=_CPU)


def _random_indices(count: int, below: int) -> torch.Tensor:
    generator = torch.Generator(_CPU).manual_seed(0)
    return torch.randint(below, (count,), generator=generator, device=_CPU)


def _number(dtype: torch.dtype) -> Call:
    x = filled(dtype, 4, 4)
    return lambda: _aten.sym_size.int(x, 0)


def _view(dtype: torch.dtype) -> Call:
    x = filled(dtype, 4, 4)

    def call() -> None:
        _aten.view.default(_aten.transpose.int(_aten.unsqueeze.default(x, 0), 0, 1), [4, 4])
        _aten.slice.Tensor(x, 0, 0, 2)

    return call


def _linear(dtype: torch.dtype, m: int, n: int, k: int) -> Call:
    x, w, b = filled(dtype, m, k), filled(dtype, n, k), filled(dtype, n)
    if not dtype.is_floating_point:
        return lambda: _aten.matmul.default(x, w.T)
    return lambda: _aten.linear.default(x, w, b)


def _narrow(dtype: torch.dtype, m: int, n: int, k: int) -> Call:
    x, y = filled(dtype, m, k), filled(dtype, k, n)
    return lambda: _aten.mm.default(x, y)


def _bmm(dtype: torch.dtype, b: int, m: int, n: int, k: int) -> Call:
    x, y = filled(dtype, b, m, k), filled(dtype, b, k, n)
    return lambda: _aten.matmul.default(x, y)


def _attention(dtype: torch.dtype, heads: int, rows: int, columns: int) -> Call:
    q, kv = filled(dtype, 1, heads, rows, 64), filled(dtype, 1, heads, columns, 64)
    return lambda: _aten.scaled_dot_product_attention.default(q, kv, kv)


def _convolution(kernel: int) -> Build:
    def build(dtype: torch.dtype, pixels: int, n: int, k: int) -> Call:
        side, channels = math.isqrt(pixels), max(k // kernel**2, 1)
        x, w = filled(dtype, 1, channels, side, side), filled(dtype, n, channels, kernel, kernel)
        padding = [kernel // 2, kernel // 2]
        return lambda: _aten.conv2d.default(x, w, None, [1, 1], padding)

    return build


def _onednn_linear(dtype: torch.dtype, m: int, n: int, k: int) -> Call:
    if not has_onednn():
        return _linear(dtype, m, n, k)
    x, w, b = filled(dtype, m, k), filled(dtype, n, k), filled(dtype, n)
    return lambda: torch.ops.mkldnn._linear_pointwise.default(x, w, b, "none", [], "")


def _batch_norm(dtype: torch.dtype, size: int) -> Call:
    x = filled(dtype, 1, max(size // (2 * 256 * dtype.itemsize), 1), 16, 16)
    w = filled(dtype, x.shape[1])
    return lambda: _aten.batch_norm.default(x, w, w, w, w, False, 0.1, 1e-5, False)


def _pad(dtype: torch.dtype, size: int) -> Call:
    x = filled(dtype, 1, max(size // (2 * 256 * dtype.itemsize), 1), 16, 16)
    return lambda: _aten.constant_pad_nd.default(x, [1, 1, 1, 1])


def _depthwise(dtype: torch.dtype, elements: int) -> Call:
    channels = max(elements // 256, 1)
    x, w = filled(dtype, 1, channels, 16, 16), filled(dtype, channels, 1, 3, 3)
    return lambda: _aten.conv2d.default(x, w, None, [1, 1], [1, 1], [1, 1], channels)


def _lstm(dtype: torch.dtype, steps: int, batch: int, width: int) -> Call:
    x, state = filled(dtype, steps, batch, width), filled(dtype, 1, batch, width)
    w, b = filled(dtype, 4 * width, width), filled(dtype, 4 * width)
    parameters = [w, w.clone(), b, b.clone()]
    return lambda: _aten.lstm.input(x, [state, state], parameters, True, 1, 0.0, False, False, False)


def _pointwise(dtype: torch.dtype, size: int) -> Call:
    count = size // (3 * dtype.itemsize)
    x, y = filled(dtype, count), filled(dtype, count)
    return lambda: _aten.add.Tensor(x, y)


def _broadcast(dtype: torch.dtype, size: int) -> Call:
    width = 16 if size < 2**15 else 256
    x, y = filled(dtype, max(size // (2 * width * dtype.itemsize), 1), width), filled(dtype, width)
    return lambda: _aten.add.Tensor(x, y)


def _square(dtype: torch.dtype, elements: float) -> torch.Tensor:
    side = max(int(math.sqrt(elements)), 1)
    return filled(dtype, side, side)


def _strided(dtype: torch.dtype, size: int) -> Call:
    x = _square(dtype, size / (3 * dtype.itemsize))
    return lambda: _aten.add.Tensor(x, x.T)


def _copy(dtype: torch.dtype, size: int) -> Call:
    x = filled(dtype, size // (4 * dtype.itemsize))
    return lambda: _aten.cat.default([x, x])


def _transpose(dtype: torch.dtype, size: int) -> Call:
    x = _square(dtype, size / (2 * dtype.itemsize)).T
    return lambda: _aten.contiguous.default(x)


def _fill(dtype: torch.dtype, size: int) -> Call:
    count = size // dtype.itemsize
    return lambda: _aten.full.default([count], 1.0, dtype=dtype, device=_CPU)


def _each(operator: Callable[..., Any], *more: Any) -> Build:
    def build(dtype: torch.dtype, elements: int) -> Call:
        x = filled(dtype, elements)
        return lambda: operator(x, *more)

    return build


def _rowwise(operator: Callable[..., Any], *more: Any) -> Build:
    def build(dtype: torch.dtype, rows: int, columns: int) -> Call:
        x = filled(dtype, rows, columns)
        return lambda: operator(x, *more)

    return build


def _norm(dtype: torch.dtype, rows: int, columns: int) -> Call:
    x, w = filled(dtype, rows, columns), filled(dtype, columns)
    return lambda: _aten.layer_norm.default(x, [columns], w, w)


def _pool(dtype: torch.dtype, elements: int) -> Call:
    x = filled(dtype, 1, max(elements // 256, 1), 16, 16)
    return lambda: _aten.max_pool2d.default(x, [3, 3], [1, 1], [1, 1])


def _rows(dtype: torch.dtype, size: int) -> Call:
    width = 64
    index = _random_indices(max(size // (2 * width * dtype.itemsize), 1), 8192)
    x = filled(dtype, 8192, width)
    return lambda: _aten.embedding.default(x, index)


def _gather(dtype: torch.dtype, elements: int) -> Call:
    width = min(elements, 256)
    x, index = filled(dtype, elements // width, 256), _random_indices(elements, 256).view(-1, width)
    return lambda: _aten.gather.default(x, 1, index)


def _sort(dtype: torch.dtype, elements: int) -> Call:
    x = _random_indices(elements, 2**24).to(dtype).view(-1, 64)
    return lambda: _aten.sort.default(x)


def _random(dtype: torch.dtype, elements: int) -> Call:
    generator = torch.Generator(_CPU).manual_seed(0)
    x = filled(dtype, elements)
    return lambda: _aten.normal_.default(x, generator=generator)


_BYTES = ((2**8, 2**12, 2**15, 2**18, 2**20, 2**22, 2**24),)
_ELEMENTS = ((2**4, 2**8, 2**12, 2**16, 2**20),)
_BY_ROW = ((1, 16, 256, 4096), (4, 64, 768))
_PIXELS = (64, 1024, 4096)

WORK: Mapping[str, Work] = {
    "number": Work(_number),
    "view": Work(_view, operators=4),
    "linear": Work(_linear, ((1, 4, 16, 64, 256, 1024),) * 3),
    "narrow": Work(_narrow, ((4, 16, 64, 256, 1024), (2, 4, 8, 16), (16, 64, 256, 1024))),
    "bmm": Work(_bmm, ((2, 16), (1, 8, 64, 512), (1, 8, 64, 512), (1, 8, 64, 512))),
    "attention": Work(_attention, ((1, 12), (1, 32, 128, 512), (1, 32, 128, 512))),
    "convolution": Work(_convolution(3), (_PIXELS, (4, 16, 64, 256), (36, 144, 576, 2304))),
    "pointwise_convolution": Work(_convolution(1), (_PIXELS, (16, 64, 256), (16, 64, 256))),
    "onednn_linear": Work(_onednn_linear, ((1, 8, 64, 256, 1024),) * 3),
    "depthwise": Work(_depthwise, _ELEMENTS),
    "lstm": Work(_lstm, ((1, 16, 128), (1, 16), (32, 128, 512))),
    "pointwise": Work(_pointwise, _BYTES),
    "broadcast": Work(_broadcast, _BYTES),
    "strided": Work(_strided, _BYTES),
    "copy": Work(_copy, _BYTES),
    "transpose": Work(_transpose, _BYTES),
    "pad": Work(_pad, _BYTES),
    "batch_norm": Work(_batch_norm, _BYTES),
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
