"""A graph whose no_grad regions are taken apart: the same values, without what they say about gradients."""

from dataclasses import replace

from graphopt.ir.graph import Argument, Graph, Node, Value, replace_values
from graphopt.ir.regions import written_out

_GRAD_MODE = "higher_order.wrap_with_set_grad_enabled"  # (mode, region, *operands)


def flattened(graph: Graph) -> Graph:
    """The graph with the nodes of its grad-mode regions in their place, under names of their own."""
    renamed: dict[str, Value] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        node = replace(
            node,
            args=tuple(replace_values(arg, renamed) for arg in node.args),
            kwargs=tuple((name, replace_values(arg, renamed)) for name, arg in node.kwargs),
        )
        opened = _opened(node) if node.op == _GRAD_MODE else None
        if opened is None:
            nodes.append(node)
            continue
        inner, made = opened
        nodes.extend(inner)
        renamed.update((result.name, output) for result, output in zip(node.results, made, strict=True))
    outputs = tuple(replace_values(output, renamed) for output in graph.outputs)
    return replace(graph, nodes=tuple(nodes), outputs=outputs, kept=(), checked=False)


def _opened(node: Node) -> tuple[tuple[Node, ...], list[Value]] | None:
    """The nodes of a region on the operands that it is given, and its results; None where a literal or a
    list goes in or out."""
    region, operands = node.args[1], node.args[2:]
    if not isinstance(region, Graph):
        return None
    given: list[Value] = []
    for entry in region.inputs:
        operand = operands[entry.source.index] if isinstance(entry.source, Argument) else None
        if not isinstance(operand, Value):
            return None
        given.append(operand)
    nodes, outputs = written_out(flattened(region), given, lambda name: f"{node.name}_{name}")
    values = [output for output in outputs if isinstance(output, Value)]
    return (nodes, values) if len(values) == len(node.results) else None
