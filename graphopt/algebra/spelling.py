"""What laws that spell operators out have in common."""

from collections.abc import Callable
from typing import TypeAlias

import torch

from graphopt.algebra.emission import slowest_first
from graphopt.builder import Builder
from graphopt.ir.graph import Arg, Node, Value
from graphopt.ir.types import TensorType


class NotSpelled(Exception):
    """An operator cannot be said in others, or not so that a caller could not tell."""


def tensor(arg: "Arg | None") -> Value:
    """An operand that is a tensor. Raises NotSpelled."""
    if not isinstance(arg, Value):
        raise NotSpelled("an operand is no tensor")
    return arg


Spell: TypeAlias = Callable[[Node, Builder], tuple[Value, ...]]
"""Makes nodes that do what a node does; gives back what stands for its results. Raises NotSpelled."""


def laid_as(value: Value, kind: TensorType, build: Builder) -> Value:
    """A value in memory of its own, with the strides of a type. Raises NotSpelled where it has gaps."""
    if value.type == kind:
        return value
    slow = slowest_first(kind)
    turned = build("aten.permute.default", value, slow)
    dense = build("aten.clone.default", turned, memory_format=torch.contiguous_format)
    back = build("aten.permute.default", dense, [slow.index(i) for i in range(len(slow))])
    if back.type != kind:
        raise NotSpelled("the result lies in memory in another way")
    return back
