"""Arithmetic on Python numbers, which exported graphs hold where sizes are symbolic."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch

from graphopt.ir.ops import Alias, Effect, Op

_TOTAL: tuple[Callable[..., Any], ...] = (
    operator.add, operator.sub, operator.mul, operator.neg, operator.pos, operator.abs,
    operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge,
    operator.and_, operator.or_, operator.not_,
    torch.sym_max, torch.sym_min, torch.sym_not, torch.sym_float, torch.sym_ite, torch.sym_sum,
)  # fmt: skip
_PARTIAL: tuple[Callable[..., Any], ...] = (
    operator.truediv, operator.floordiv, operator.mod, operator.pow, operator.lshift, operator.rshift,
    torch.sym_int, torch.sym_sqrt,
    math.ceil, math.floor, math.trunc, math.sqrt,
)  # fmt: skip


def arithmetic() -> Iterator[Op]:
    """The entries of functions on Python numbers: a division, power or rounding may raise."""
    for functions, effect in ((_TOTAL, Effect.NONE), (_PARTIAL, Effect.RAISES)):
        for function in functions:
            parameters = tuple(inspect.signature(function).parameters)
            yield Op(name_of(function), effect, Alias.FRESH, (), parameters)
    yield Op("operator.getitem", Effect.RAISES, Alias.MAY, (), ("a", "b"))


def name_of(function: Callable[..., Any]) -> str:
    """The IR's name of a plain function."""
    module = function.__module__.removeprefix("_")
    return f"{module.partition('.')[0]}.{function.__name__}"
