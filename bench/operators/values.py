"""Values that make operators raise, put into operands of unchanged shape, dtype and strides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from bench.operators.calls import Call

_SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, float("nan"), float("inf"), float("-inf"), 3.0, 1e-40)

Pattern = Callable[[int, torch.dtype, torch.Generator], torch.Tensor]
"""The elements of an operand: how many, of what dtype, drawn from what."""


def assignments(call: Call, generator: torch.Generator, *, each: bool) -> Iterator[Call]:
    """The call with other elements in operands of the same shapes, dtypes and strides.

    Every pattern goes into all operands at once and, with `each`, into each operand by itself.
    """
    count = len(list(call.tensors()))
    if not count:
        return
    widest = max(len(_patterns(dtype)) for dtype in call.dtypes())
    for index in range(widest):
        yield _filled(call, range(count), index, generator)
    if each and count > 1:
        for place, dtype in enumerate(call.dtypes()):
            for index in range(len(_patterns(dtype))):
                yield _filled(call, (place,), index, generator)


def _filled(call: Call, places: range | tuple[int, ...], index: int, generator: torch.Generator) -> Call:
    copied = call.copied()
    for place, (_, tensor) in enumerate(copied.tensors()):
        if place in places:
            patterns = _patterns(tensor.dtype)
            storage = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
            fill = patterns[index % len(patterns)]
            storage.copy_(fill(storage.numel(), tensor.dtype, generator))
    return copied


def _patterns(dtype: torch.dtype) -> list[Pattern]:
    if dtype.is_complex:
        return [_complex(pattern) for pattern in _patterns(dtype.to_real())]
    if dtype.is_floating_point:
        most = torch.finfo(dtype).max
        smallest = torch.finfo(dtype).smallest_normal / 4
        constants = (0.0, -1.0, 1.0, most, -most, smallest, *_SPECIAL[5:8])
        return [_normal, _uniform, _choice(_SPECIAL), *(_constant(value) for value in constants)]
    if dtype is torch.bool:
        return [_choice((False, True)), _constant(False), _constant(True)]
    info = torch.iinfo(dtype)
    constants_ = (0, 1, 2, 3, 5, 40, 1000, -1, -2, -7, info.max, info.min)
    fitting = [value for value in constants_ if info.min <= value <= info.max]
    small = [value for value in range(-3, 4) if info.min <= value]
    return [_choice((0, 1)), _choice((0, 1, 2)), _choice(small), *map(_constant, fitting)]


def _constant(value: float) -> Pattern:
    return lambda count, dtype, generator: torch.full((count,), value, dtype=dtype)


def _choice(values: Any) -> Pattern:
    def pattern(count: int, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
        index = torch.randint(len(values), (count,), generator=generator)
        return torch.tensor(values, dtype=dtype)[index]

    return pattern


def _normal(count: int, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(count, generator=generator).to(dtype)


def _uniform(count: int, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(count, generator=generator).to(dtype)


def _complex(part: Pattern) -> Pattern:
    def pattern(count: int, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
        real = part(count, dtype.to_real(), generator)
        return torch.complex(real, part(count, dtype.to_real(), generator)).to(dtype)

    return lambda count, dtype, generator: (
        pattern(count, dtype, generator)
        if dtype is not torch.complex32
        else pattern(count, torch.complex64, generator).to(dtype)
    )
