"""Two callables observed on equal arguments, and objects to pass."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from graphopt.verify import copy_arguments, difference, observe

Pair = namedtuple("Pair", ["left", "right"])


@dataclass
class Box:
    value: Any


class Plain:
    def __init__(self, value: Any) -> None:
        self.value = value


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def seen(
    expected: Callable[..., Any],
    actual: Callable[..., Any],
    *args: Any,
    backward: bool = False,
    tolerance: float = 0.0,
) -> str | None:
    """The difference between two callables on equal copies of the arguments."""
    first, _ = copy_arguments(args)
    second, _ = copy_arguments(args)
    return difference(
        observe(expected, first, backward=backward),
        observe(actual, second, backward=backward),
        tolerance=tolerance,
    )


def constant(value: Any) -> Callable[..., Any]:
    return lambda *args: value


class Counter(torch.nn.Module):
    calls: torch.Tensor

    def __init__(self, step: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.register_buffer("calls", torch.zeros(()))
        self.step = step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(self.step)
        return x * self.weight
