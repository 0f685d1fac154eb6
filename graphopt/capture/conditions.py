"""Conditions on the values of a call: the branches that forward took, as a graph of their own.

The trace returns each tensor that forward branched on. What computes them is cut out of the captured
graph and runs before it, as a guard: the call is served where every answer is that of capture.
"""

from dataclasses import dataclass, replace

from graphopt.analysis.cost import Cost, graph_cost, node_cost
from graphopt.analysis.memory import Memory
from graphopt.capture.decisions import REMEDY, Decision
from graphopt.capture.flattened import flattened
from graphopt.errors import Unsupported
from graphopt.ir.graph import Arg, Graph, Node, Value, values_in
from graphopt.ir.ops import Effect, effect_of, is_pure

_SMALL = 1_000_000  # FLOPs that may always be done twice: some microseconds
_SHARE = 20  # else, this part of the graph's FLOPs may


@dataclass(frozen=True)
class Conditions:
    """A graph with one output for each branch, and the answers that the program was captured under."""

    graph: Graph
    decisions: tuple[Decision, ...]


def split(graph: Graph, decisions: tuple[Decision, ...]) -> tuple[Graph, Conditions | None]:
    """The graph without its last outputs, one for each decision, and these as conditions.

    Raises Unsupported where a branch does not depend on the values of the call and the state alone, as
    they are before forward runs, or takes much of the model to compute.
    """
    if not decisions:
        return graph, None
    count = len(graph.outputs) - len(decisions)
    flat = flattened(graph)
    asked = flat.outputs[count:]
    memory = Memory(flat)
    needed: dict[str, Node] = {}
    for output, decision in zip(asked, decisions, strict=True):
        for node in _computing(flat, memory, output):
            _check(node, memory, decision)
            needed[node.name] = node
    main = _without(replace(graph, outputs=graph.outputs[:count]), needed)
    if all(is_pure(node) for node in needed.values()):  # else the copies show what was asked when
        asked = tuple(_original(flat, output) for output in asked)
    computing = {node.name for output in asked for node in _computing(flat, memory, output)}
    nodes = tuple(node for node in flat.nodes if node.name in computing)
    _check_cost(nodes, main, decisions[-1])
    read = {value.name for node in nodes for value in node.operands}
    read |= {value.name for output in asked for value in values_in(output)}
    inputs = tuple(entry for entry in flat.inputs if entry.value.name in read)
    return main, Conditions(Graph(inputs, nodes, asked), decisions)


def _check_cost(conditions: tuple[Node, ...], main: Graph, decision: Decision) -> None:
    left = {node.name for node in flattened(main).nodes}
    twice = sum((node_cost(node) for node in conditions if node.name in left), Cost()).flops
    whole = graph_cost(main).flops
    if twice > max(_SMALL, whole // _SHARE):
        raise Unsupported(
            f"forward branches on a value that takes {twice / whole:.0%} of the model's work",
            remedy=REMEDY, where=decision.where,
        )  # fmt: skip


def _computing(graph: Graph, memory: Memory, output: Arg) -> list[Node]:
    """The nodes that a value is computed by, those that write what it reads among them."""
    found: dict[str, Node] = {}
    producer = graph.producer.get(output.name) if isinstance(output, Value) else None
    pending = [] if producer is None else [producer]
    while pending:
        node = pending.pop()
        if node.name in found:
            continue
        found[node.name] = node
        for value in node.operands:
            pending.extend(memory.writers(value, node))
            if value.name in graph.producer:
                pending.append(graph.producer[value.name])
    return list(found.values())


_COPIES = ("aten.detach.default", "aten.clone.default")  # see Decisions.decide


def _original(graph: Graph, output: Arg) -> Arg:
    """The tensor that was asked, of the copy that the trace returned: nothing writes among conditions."""
    while isinstance(output, Value) and output.name in graph.producer:
        node = graph.producer[output.name]
        if node.op not in _COPIES:
            break
        output = node.args[0]
    return output


def _check(node: Node, memory: Memory, decision: Decision) -> None:
    if is_pure(node):
        return
    what = f"data-dependent control flow: the branch depends on {node.op}"
    if effect_of(node) is Effect.WRITES:
        if not any(map(memory.is_input, node.operands)):  # it writes memory that the conditions make
            return
        what = "data-dependent control flow: the branch depends on what forward writes before"
    raise Unsupported(what, remedy=REMEDY, where=decision.where)


def _without(graph: Graph, conditions: dict[str, Node]) -> Graph:
    """The graph without those nodes of the conditions that nothing else reads."""
    read = {value.name for output in graph.outputs for value in values_in(output)}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if (
            node.name in conditions
            and is_pure(node)
            and not any(result.name in read for result in node.results)
        ):
            continue
        kept.append(node)
        read.update(value.name for value in node.operands)
    return replace(graph, nodes=tuple(reversed(kept)), checked=False)
