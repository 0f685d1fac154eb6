"""When the graph without gradients does what eager does although gradients are on: nothing requires grad."""

from collections.abc import Iterator

from graphopt.analysis.memory import Memory
from graphopt.analysis.traces import REQUIRES_GRAD
from graphopt.ir.graph import Graph, Node
from graphopt.ir.ops import Alias, Effect, effect_of, lookup


def stands_in(without: Graph, with_gradients: Graph) -> bool:
    """Whether `without` gives what `with_gradients` gives in every call that reads nothing that requires
    grad, gradients being on.

    Then no result requires grad, unless a node makes it so. What is left is what autograd knows of views:
    whether a tensor that the caller comes to hold is one, of several or made under no_grad, which decides
    whether the caller may write into it later. So both must hand out the same views.
    """
    return not any(map(_makes_require_grad, (*_nodes(without), *_nodes(with_gradients)))) and (
        _views_handed_out(without) == _views_handed_out(with_gradients)
    )


def _makes_require_grad(node: Node) -> bool:
    return node.op == REQUIRES_GRAD or (effect_of(node) is Effect.OPAQUE and not any(node.regions))


def _nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for region in node.regions:
            yield from _nodes(region)


def _views_handed_out(graph: Graph) -> set[tuple[str, str]]:
    """The nodes on whose results the caller can come to hold a view of something; a node that stays keeps
    its name through all passes."""
    memory = graph.analysis(Memory)
    return {
        (node.name, node.op)
        for node in graph.nodes
        if lookup(node.op).alias is not Alias.FRESH and any(map(memory.escapes, node.results))
    }
