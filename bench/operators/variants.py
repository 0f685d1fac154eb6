"""Other operands for a recorded call: layouts, literals, and the values that make operators raise."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from bench.operators.calls import Call

_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, float("nan"), float("inf"), float("-inf"), 3.0, 1e-40)
_INTS = (0, 1, -1, 2, 3, 127)

Pattern = Callable[[int, torch.dtype, torch.Generator], torch.Tensor]


def layouts(call: Call) -> Iterator[Call]:
    """The call with operands of other strides, offsets, sizes and lazy bits. Some cannot run."""
    for change in (_stepped, _transposed, _expanded, _shifted, _channels_last, _conjugated, _negated):
        yield call.mapped(change)
    tensors = [tensor for _, tensor in call.tensors()]
    sizes = dict.fromkeys(size for tensor in tensors for size in tensor.shape if size > 1)
    for old, new in itertools.product(list(sizes)[:3], (1, 0)):
        yield call.mapped(lambda tensor, old=old, new=new: _resized(tensor, old, new))  # type: ignore[misc]


def literals(call: Call) -> Iterator[Call]:
    """The call with one literal changed, dropped or given. Some cannot run."""
    tensors = [tensor for _, tensor in call.tensors()]
    for argument in call.op._schema.arguments:
        if argument.is_out or argument.name in ("device", "pin_memory", "layout", "generator"):
            continue
        given = call.operands.get(argument.name, argument.default_value)
        for value in _other_literals(str(argument.real_type), given, tensors):
            if type(value) is not type(given) or value != given:
                yield call.with_operand(argument.name, value)


def _other_literals(kind: str, given: Any, tensors: list[torch.Tensor]) -> Iterator[Any]:
    if kind.startswith("Optional["):
        yield None
        kind = kind.removeprefix("Optional[").removesuffix("]")
    shapes = [list(tensor.shape) for tensor in tensors]
    match kind:
        case "bool":
            yield not given
        case "int" | "SymInt":
            yield from (0, 1, -1, 2)
            if isinstance(given, int):
                yield given + 1
            yield from (tensor.dtype for tensor in tensors[:1])  # ScalarType is an int in schemas
        case "ScalarType":
            yield from (tensor.dtype for tensor in tensors[:1])
            yield from (torch.float64, torch.int64)
        case "MemoryFormat":
            yield from (torch.contiguous_format, torch.preserve_format, torch.channels_last)
        case "float" | "SymFloat":
            yield from (0.0, 1.0, 0.5, -1.0)
        case "number" | "Scalar":
            yield from (0, 1, -1, 2.5, True)
        case "List[int]" | "List[SymInt]":
            count = len(given) if isinstance(given, list | tuple) else 2
            yield from ([0] * count, [1] * count, [2] * count, list(range(count)), [-1])
            yield from shapes
        case "str":
            yield from ("none", "mean", "constant", "reflect", "replicate", "circular", "floor", "trunc")
        case _:
            return


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


def _filled(
    call: Call, places: range | tuple[int, ...], index: int, generator: torch.Generator
) -> Call:
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
        constants = (0.0, -1.0, 1.0, most, -most, smallest, *_FLOATS[5:8])
        return [_normal, _uniform, _choice(_FLOATS), *(_constant(value) for value in constants)]
    if dtype is torch.bool:
        return [_choice((False, True)), _constant(False), _constant(True)]
    info = torch.iinfo(dtype)
    constants_ = (0, 1, 2, 3, 5, 40, 2**20, -1, -2, -7, info.max, info.min)
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


def _stepped(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.dim():
        return tensor
    wide = tensor.new_zeros((*tensor.shape[:-1], 2 * tensor.shape[-1]))
    wide[..., ::2] = tensor
    return wide[..., ::2]


def _transposed(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.mT.contiguous().mT if tensor.dim() >= 2 else tensor


def _expanded(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.dim() or not tensor.shape[0]:
        return tensor
    return tensor[:1].clone().expand(tensor.shape)


def _shifted(tensor: torch.Tensor) -> torch.Tensor:
    wide = tensor.new_zeros(tensor.numel() + 1)
    return wide[1:].view(tensor.shape).copy_(tensor)


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def _conjugated(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.conj().resolve_conj().conj() if tensor.is_complex() else tensor


def _negated(tensor: torch.Tensor) -> torch.Tensor:
    return torch._neg_view(tensor) if tensor.is_floating_point() else tensor


def _resized(tensor: torch.Tensor, old: int, new: int) -> torch.Tensor:
    for dim, size in enumerate(tensor.shape):
        if size == old:
            tensor = tensor.narrow(dim, 0, new)
    return tensor
