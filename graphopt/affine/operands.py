"""The operands of a node by their parameters, and which of them a weight can be made from."""

from collections.abc import Callable
from typing import TypeAlias

from graphopt.ir.graph import Arg, Node, Value
from graphopt.ir.literal import Lit
from graphopt.ir.ops import lookup
from graphopt.ir.types import TensorType

Fixed: TypeAlias = Callable[[Value], bool]
"""Whether a value is the same in every call until the model's state changes."""


def operands_of(node: Node) -> dict[str, Arg]:
    """A node's operands by parameter, without those that are None, as by default."""
    named = {**dict(zip(lookup(node.op).parameters, node.args, strict=False)), **dict(node.kwargs)}
    return {name: arg for name, arg in named.items() if arg != Lit(None)}


def tensor_of(value: Value) -> TensorType | None:
    """The type of a real floating tensor; None for what is none."""
    kind = value.type
    return kind if isinstance(kind, TensorType) and kind.dtype.is_floating_point else None


def shape_of(value: Value) -> tuple[int, ...]:
    """The shape of a static tensor."""
    assert isinstance(value.type, TensorType)
    return tuple(int(size) for size in value.type.shape)


def is_fixed(value: object, fixed: Fixed) -> bool:
    """Whether an operand is a static floating tensor that calls do not change."""
    if not isinstance(value, Value) or (kind := tensor_of(value)) is None:
        return False
    return kind.is_static and kind.strides is not None and fixed(value)


def fixed_if_given(given: dict[str, Arg], name: str, fixed: Fixed) -> bool:
    """The same of an operand that may be left out."""
    return name not in given or is_fixed(given[name], fixed)
