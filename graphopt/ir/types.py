"""Types of values: tensors, symbolic scalars, None and lists of these."""

from dataclasses import dataclass
from typing import TypeAlias

import sympy
import torch

Dim: TypeAlias = "int | sympy.Expr"
_INT = {int}


@dataclass(frozen=True, slots=True)
class TensorType:
    """A tensor's dtype, shape (elements), strides (elements; None where it has none) and device."""

    dtype: torch.dtype
    shape: tuple[Dim, ...]
    strides: tuple[Dim, ...] | None
    device: torch.device

    @property
    def is_static(self) -> bool:
        """Whether every size and stride is a known integer."""
        return {*map(type, self.shape), *map(type, self.strides or ())} <= _INT

    @property
    def is_contiguous(self) -> bool:
        """Whether the strides are those of a freshly made row-major tensor."""
        return self.strides == contiguous_strides(self.shape)


@dataclass(frozen=True, slots=True)
class SymType:
    """A Python number known at run time only; `kind` is "int", "float" or "bool".

    `expr` relates it to the input sizes where that is known.
    """

    kind: str
    expr: "sympy.Expr | None" = None


@dataclass(frozen=True, slots=True)
class NoneType:
    """The type of operators that return nothing."""


@dataclass(frozen=True, slots=True)
class ListType:
    """A list (or tuple) of values kept together."""

    items: "tuple[Type, ...]"


Type: TypeAlias = TensorType | SymType | NoneType | ListType


def contiguous_strides(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Row-major strides of a shape, as torch gives them to a new tensor."""
    strides: list[Dim] = []
    step: Dim = 1
    for size in reversed(shape):
        strides.append(step)
        step = step * max(size, 1) if isinstance(size, int) else step * size
    return tuple(reversed(strides))
