"""What was assumed at capture, as plain data."""

from dataclasses import dataclass

import sympy
import torch

from graphopt.guards.hooks import HookFact
from graphopt.ir.literal import Lit
from graphopt.ir.structure import Interface
from graphopt.ir.types import Dim


@dataclass(frozen=True, slots=True)
class TensorFact:
    """What a tensor argument must look like. `offset` and `requires_grad` are None where the program
    cannot tell the difference."""

    kind: type
    dtype: torch.dtype
    device: torch.device
    layout: torch.layout
    shape: tuple[Dim, ...]
    strides: tuple[Dim, ...] | None
    conjugated: bool
    negated: bool
    offset: int | None
    requires_grad: bool | None


@dataclass(frozen=True, slots=True)
class NumberFact:
    """A Python number argument that is symbolic: its symbol and type."""

    kind: type
    expr: sympy.Expr


@dataclass(frozen=True, slots=True)
class StateFact:
    """What a tensor that the model owns must look like; `paths` are all the ways to it."""

    paths: tuple[tuple[str, ...], ...]
    kind: type
    dtype: torch.dtype
    device: torch.device
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    requires_grad: bool | None


@dataclass(frozen=True, slots=True)
class AttributeFact:
    """A Python constant that forward reads, at a path from the model (see graphopt.guards.places)."""

    path: tuple[str, ...]
    value: Lit


@dataclass(frozen=True, slots=True)
class SettledFact:
    """What the model's first call leaves at a path: something of a type, and of a value where it is a
    constant. Until it is there, the program does not serve."""

    path: tuple[str, ...]
    kind: type
    value: Lit | None


@dataclass(frozen=True, slots=True)
class ModeFact:
    """A global mode and its value at capture."""

    mode: str  # a name that graphopt.guards.modes.reader knows
    value: object


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was assumed at capture. `facts.arguments` goes by leaf index; `sizes` are the
    example's, of the symbols: no assumption, but a call that satisfies all."""

    interface: Interface
    arguments: tuple[TensorFact | NumberFact, ...]
    sizes: tuple[tuple[str, int], ...]
    constraints: tuple[sympy.Basic, ...]
    state: tuple[StateFact, ...]
    attributes: tuple[AttributeFact, ...]
    distinct: int  # how many different objects the state tensors are
    objects: tuple[tuple[str, ...], ...]  # where the same object must stay: sub-modules, functions, None
    modes: tuple[ModeFact, ...]
    hooks: tuple[HookFact, ...]
    settled: tuple[SettledFact, ...] = ()
