"""Which values a gradient may flow through."""

from graphopt.ir.graph import Graph, Node, Value, of_nodes
from graphopt.ir.ops import Effect, effect_of
from graphopt.ir.types import ListType, NoneType, SymType


@of_nodes
def differentiable(graph: Graph) -> frozenset[str]:
    """The names of the values that may require grad: floating or complex, and made from an argument or
    state tensor that may, or by an operator that may set requires_grad. Detached values are counted too."""
    found = {entry.value.name for entry in graph.inputs if _may_require_grad(entry.value)}
    for node in graph.nodes:
        if effect_of(node) is Effect.OPAQUE or any(value.name in found for value in node.operands):
            found.update(node.fact(_that_may_require_grad))
    return frozenset(found)


def _that_may_require_grad(node: Node) -> tuple[str, ...]:
    return tuple(value.name for value in node.results if _may_require_grad(value))


def _may_require_grad(value: Value) -> bool:
    kind = value.type
    if isinstance(kind, SymType | NoneType):
        return False
    if isinstance(kind, ListType):
        return True
    return kind.dtype.is_floating_point or kind.dtype.is_complex
