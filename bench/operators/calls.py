"""One operator with real operands, and copies of it that share nothing with the original."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch._ops import OpOverload

from graphopt.ir.literal import SCALARS

Operand: TypeAlias = Any
"""A tensor, a literal, or a list or tuple of operands."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """An operator and its operands by schema argument name, in schema order, defaults left out."""

    op: OpOverload
    operands: dict[str, Operand]

    @classmethod
    def bind(cls, op: OpOverload, args: tuple[Operand, ...], kwargs: dict[str, Operand]) -> Call:
        """The call that `op(*args, **kwargs)` makes."""
        names = parameters(op)
        given = dict(zip(names, args, strict=False)) | kwargs
        return cls(op, {name: given[name] for name in names if name in given})

    def run(self) -> Any:
        """Runs the operator on these very operands."""
        return self.op(**self.operands)

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every tensor operand with the name of its argument; lists give several of one name."""
        for name, operand in self.operands.items():
            for tensor in tensors_in(operand):
                yield name, tensor

    def with_operand(self, name: str, operand: Operand) -> Call:
        """The call with one operand exchanged."""
        names = parameters(self.op)
        given = self.operands | {name: operand}
        return Call(self.op, {n: given[n] for n in names if n in given})

    def mapped(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Call:
        """The call with every tensor operand changed."""
        return Call(self.op, {n: _mapped(o, change) for n, o in self.operands.items()})

    def copied(self) -> Call:
        """The same operands in new memory: bytes, strides, offsets, lazy conjugation and negation,
        and which operands share storage are kept; requires_grad is not.
        """
        storages: dict[int, torch.UntypedStorage] = {}
        return self.mapped(lambda tensor: _copy(tensor, storages))

    def signature(self) -> str:
        """Everything about the operands but the tensors' elements."""
        return f"{self.op}({', '.join(f'{n}={_describe(o)}' for n, o in self.operands.items())})"

    def features(self) -> Iterator[object]:
        """What sets this call apart from others of its operator: a varied choice covers them all."""
        empty = any(not tensor.numel() for _, tensor in self.tensors())
        yield self.dtypes(), empty
        for name, operand in self.operands.items():
            for tensor in tensors_in(operand):
                yield name, tensor.dim(), empty
                yield name, tensor.is_contiguous(), tensor.is_conj(), tensor.is_neg()
            if type(operand) in SCALARS:
                yield name, repr(operand), empty
            elif not isinstance(operand, torch.Tensor):
                yield name, len(operand), empty

    def dtypes(self) -> tuple[torch.dtype, ...]:
        """The dtypes of the tensor operands, in order."""
        return tuple(tensor.dtype for _, tensor in self.tensors())


def parameters(op: OpOverload) -> tuple[str, ...]:
    """The schema's argument names, in order."""
    return tuple(argument.name for argument in op._schema.arguments)


def varied(calls: Iterable[Call], count: int) -> list[Call]:
    """Up to `count` calls, each the one that shows most that those before it do not."""
    pending = [(call, set(call.features())) for call in calls]
    chosen: list[Call] = []
    while pending and len(chosen) < count:
        best = max(range(len(pending)), key=lambda i: len(pending[i][1]))
        call, features = pending.pop(best)
        chosen.append(call)
        for _, others in pending:
            others -= features
    return chosen


def tensors_in(operand: Operand) -> Iterator[torch.Tensor]:
    """Every tensor in an operand or result, in order."""
    if isinstance(operand, torch.Tensor):
        yield operand
    elif isinstance(operand, list | tuple):
        for item in operand:
            yield from tensors_in(item)


def is_plain(operand: Operand) -> bool:
    """Whether an operand is made of dense CPU tensors and literals only."""
    if isinstance(operand, torch.Tensor):
        return (
            type(operand) in (torch.Tensor, torch.nn.Parameter)
            and operand.layout is torch.strided
            and operand.device.type == "cpu"
            and not operand.is_quantized
        )
    if isinstance(operand, list | tuple):
        return all(is_plain(item) for item in operand)
    return type(operand) in SCALARS


def _mapped(operand: Operand, change: Callable[[torch.Tensor], torch.Tensor]) -> Operand:
    if isinstance(operand, torch.Tensor):
        return change(operand)
    if isinstance(operand, list | tuple):
        return type(operand)(_mapped(item, change) for item in operand)
    return operand


def _copy(tensor: torch.Tensor, storages: dict[int, torch.UntypedStorage]) -> torch.Tensor:
    storage = tensor.untyped_storage()
    key = storage._cdata
    if key not in storages:
        storages[key] = storage.clone()  # type: ignore[no-untyped-call]
    copied = torch.empty(0, dtype=tensor.dtype).set_(
        storages[key], tensor.storage_offset(), tensor.size(), tensor.stride()
    )
    if tensor.is_conj():
        copied = copied.conj()
    if tensor.is_neg():
        copied = torch._neg_view(copied)
    return copied


def _describe(operand: Operand) -> str:
    if isinstance(operand, torch.Tensor):
        lazy = "conj " * operand.is_conj() + "neg " * operand.is_neg()
        return f"{lazy}{operand.dtype}{tuple(operand.shape)}{operand.stride()}"
    if isinstance(operand, list | tuple):
        return f"[{', '.join(_describe(item) for item in operand)}]"
    return repr(operand)
