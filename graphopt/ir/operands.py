"""The operands of a node by their parameters, and the types of those that are tensors."""

from collections.abc import Mapping

from graphopt.ir.graph import Arg, Node, Value
from graphopt.ir.literal import Lit
from graphopt.ir.ops import lookup
from graphopt.ir.types import TensorType


def operands_of(node: Node) -> Mapping[str, Arg]:
    """A node's operands by parameter, without those that are None, as by default."""
    return node.fact(_operands)


def _operands(node: Node) -> Mapping[str, Arg]:
    named = {**dict(zip(lookup(node.op).parameters, node.args, strict=False)), **dict(node.kwargs)}
    return {name: arg for name, arg in named.items() if arg != Lit(None)}


def tensor_of(value: Value) -> TensorType | None:
    """The type of a real floating tensor; None for what is none."""
    kind = value.type
    return kind if isinstance(kind, TensorType) and kind.dtype.is_floating_point else None


def type_of(value: Value) -> TensorType:
    """The type of what is known to be a tensor."""
    assert isinstance(value.type, TensorType)
    return value.type


def shape_of(value: Value) -> tuple[int, ...]:
    """The shape of a static tensor."""
    return tuple(int(size) for size in type_of(value).shape)
