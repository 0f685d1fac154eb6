"""Other layouts and literals for a recorded call."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from bench.operators.calls import Call

_MODES = ("none", "mean", "sum", "constant", "reflect", "replicate", "circular", "floor", "trunc")
_CHECKED = ("bool", "float", "SymFloat", "number", "Scalar", "ScalarType", "MemoryFormat", "Tensor")

_UNCHECKED_FLAGS = ("has_biases", "bidirectional")
"""lstm and its kin do not check the length of `params` against these."""


class Kind(enum.Enum):
    """What a variant changes, and what may be concluded from it."""

    LAYOUT = "strides, offsets and lazy bits"
    SIZE = "sizes of all operands alike"
    LITERAL = "a literal that operators check"
    GUESS = "a literal that operators need not check: with a wrong one some return garbage"


@dataclass(frozen=True, slots=True)
class Variant:
    """A change to a call: `label` says which."""

    label: str
    kind: Kind
    make: Callable[[], Call]

    def call(self) -> Call | None:
        """The changed call; None where the operands cannot be changed so."""
        try:
            return self.make()
        except (RuntimeError, IndexError):
            return None


def layouts(call: Call) -> Iterator[Variant]:
    """Operands of other strides, offsets and lazy bits; and of other sizes, which may not run."""
    for change in _LAYOUTS:
        yield Variant(change.__name__, Kind.LAYOUT, partial(call.mapped, change))
    if any(argument.is_out for argument in call.op._schema.arguments):
        return  # operands of other sizes would have the out= operand resized
    tensors = [tensor for _, tensor in call.tensors()]
    sizes = dict.fromkeys(size for tensor in tensors for size in tensor.shape if size > 1)
    for old in list(sizes)[:3]:
        for new in (1, 0):
            yield Variant(f"size {new}", Kind.SIZE, partial(call.mapped, _Resize(old, new)))


def literals(call: Call) -> Iterator[Variant]:
    """One literal changed, dropped or given. Some cannot run."""
    arguments = call.op._schema.arguments
    if any(argument.is_out for argument in arguments):
        return
    tensors = [tensor for _, tensor in call.tensors()]
    for argument in arguments:
        name, kind = argument.name, str(argument.real_type)
        if name in ("device", "pin_memory", "layout", "generator"):
            continue
        optional = kind.startswith("Optional[")
        kind = kind.removeprefix("Optional[").removesuffix("]") if optional else kind
        given = call.operands.get(name, argument.default_value)
        values = [None] if optional else []
        values += _other_literals(kind, given, tensors)
        guess = kind not in _CHECKED or name in _UNCHECKED_FLAGS
        for value in values:
            if type(value) is not type(given) or value != given:
                yield Variant(
                    f"{name}={value}" if value is None or kind in ("bool", "float") else name,
                    Kind.GUESS if guess and value is not None else Kind.LITERAL,
                    partial(call.with_operand, name, value),
                )


def _other_literals(kind: str, given: Any, tensors: list[torch.Tensor]) -> list[Any]:
    dtypes = [tensor.dtype for tensor in tensors[:1]]
    match kind:
        case "bool":
            return [not given]
        case "int" | "SymInt":
            return [0, 1, -1, 2, *([given + 1] if isinstance(given, int) else [])]
        case "ScalarType":
            return [*dtypes, torch.float64, torch.int64]
        case "MemoryFormat":
            return [torch.contiguous_format, torch.preserve_format, torch.channels_last]
        case "float" | "SymFloat":
            return [0.0, 1.0, 0.5, -1.0]
        case "number" | "Scalar":
            return [0, 1, -1, 2.5, True]
        case "List[int]" | "List[SymInt]":
            count = len(given) if isinstance(given, list | tuple) else 2
            lists = [[0] * count, [1] * count, [2] * count, list(range(count)), [-1]]
            return lists + [list(tensor.shape) for tensor in tensors]
        case "str":
            return list(_MODES)
    return []


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


@dataclass(frozen=True, slots=True)
class _Resize:
    """Cuts every dimension of one size down to another."""

    old: int
    new: int

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        for dim, size in enumerate(tensor.shape):
            if size == self.old:
                tensor = tensor.narrow(dim, 0, self.new)
        return tensor


_LAYOUTS: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
    _stepped,
    _transposed,
    _expanded,
    _shifted,
    _channels_last,
    _conjugated,
    _negated,
)
