"""Which operands a weight can be made from."""

from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeGuard

from graphopt.ir.graph import Arg, Value
from graphopt.ir.literal import Lit
from graphopt.ir.types import TensorType

Fixed: TypeAlias = Callable[[Value], bool]
"""Whether a value is the same in every call until the model's state changes."""


def number_of(arg: object) -> float | None:
    """A real number that is written in the graph; None for what is computed."""
    if not isinstance(arg, Lit):
        return None
    assert isinstance(arg.value, int | float)
    return float(arg.value)


def is_fixed(value: object, fixed: Fixed) -> TypeGuard[Value]:
    """Whether an operand is a static floating tensor that calls do not change."""
    if not isinstance(value, Value) or not isinstance(value.type, TensorType):
        return False
    kind = value.type
    return kind.dtype.is_floating_point and kind.is_static and kind.strides is not None and fixed(value)


def fixed_if_given(given: Mapping[str, Arg], name: str, fixed: Fixed) -> bool:
    """The same of an operand that may be left out."""
    return name not in given or is_fixed(given[name], fixed)
