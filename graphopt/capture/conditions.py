"""Conditions on the values of a call: the branches that forward took, as a graph of their own.

The trace returns each tensor that forward branched on. What computes them is cut out of the captured
graph and runs before it, as a guard: the call is served where every answer is that of capture.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

from graphopt.analysis.cost import Cost, graph_cost, node_cost
from graphopt.analysis.memory import Memory
from graphopt.analysis.traces import REQUIRES_GRAD, leaves_a_trace
from graphopt.capture.decisions import REMEDY, Decision
from graphopt.capture.flattened import flattened
from graphopt.errors import Unsupported
from graphopt.ir.branch import TOOK
from graphopt.ir.graph import Arg, Graph, Node, Value, values_in
from graphopt.ir.literal import Lit
from graphopt.ir.ops import Effect, effect_of, is_pure
from graphopt.ir.types import NoneType, SymType

_SMALL = 1_000_000  # FLOPs that may always be done twice: some microseconds
_SHARE = 20  # else, this part of the graph's FLOPs may


@dataclass(frozen=True)
class Conditions:
    """A graph with one output for each branch, and the answers that the program was captured under."""

    graph: Graph
    decisions: tuple[Decision, ...]


def split(graph: Graph, decisions: tuple[Decision, ...]) -> tuple[Graph, Conditions | None]:
    """The graph without its last outputs, one for each decision, and these as conditions.

    What does not depend on the values of the call and the state alone, as they are before forward runs,
    or takes much of the model to compute, is asked in the graph itself (see graphopt.ir.branch): the run
    is given up where it falls otherwise. What depends on nothing at all is not asked again. Raises
    Unsupported where something was written before.
    """
    if decisions:
        graph, decisions = _that_may_change(graph, decisions)
    if not decisions:
        return graph, None
    count = len(graph.outputs) - len(decisions)
    flat = flattened(graph)
    memory = Memory(flat)
    late: dict[int, str] = {}  # why it is asked within, by the decision's number
    for i, output in enumerate(flat.outputs[count:]):
        reason = next(filter(None, (_reason(n, memory) for n in _computing(flat, memory, output))), None)
        if reason is not None:
            late[i] = reason
    main, conditions = _parted(graph, flat, memory, decisions, late)
    dear = "" if conditions is None else _dear(conditions.graph.nodes, main)
    if dear:
        late = dict.fromkeys(range(len(decisions)), dear) | late
        main, conditions = _parted(graph, flat, memory, decisions, late)
    _check_untouched(main, {decisions[i].where: reason for i, reason in late.items()})
    return main, conditions


def _that_may_change(graph: Graph, decisions: tuple[Decision, ...]) -> tuple[Graph, tuple[Decision, ...]]:
    """The graph without the outputs for decisions that fall in the same way in every call, and the others."""
    count = len(graph.outputs) - len(decisions)
    flat = flattened(graph)
    memory = Memory(flat)
    constant: set[str] = set()
    changing: list[int] = []
    for i, output in enumerate(flat.outputs[count:]):
        computing = _computing(flat, memory, output)
        if _depends_on_nothing(output, computing):
            constant.update(node.name for node in computing)
        else:
            changing.append(i)
    outputs = (*graph.outputs[:count], *(graph.outputs[count + i] for i in changing))
    return _without(replace(graph, outputs=outputs), constant), tuple(decisions[i] for i in changing)


def _depends_on_nothing(output: Arg, computing: list[Node]) -> bool:
    """Whether all that computes a value is made of constants that stand in the graph."""
    made = {v.name for node in computing for v in node.results if not isinstance(v.type, SymType)}
    read = [*values_in(output), *(value for node in computing for value in node.operands)]
    return all(map(is_pure, computing)) and all(value.name in made for value in read)


def _parted(
    graph: Graph, flat: Graph, memory: Memory, decisions: tuple[Decision, ...], late: Container[int]
) -> tuple[Graph, Conditions | None]:
    """The graph with the decisions that are asked `late` in it, and the others as conditions."""
    count = len(graph.outputs) - len(decisions)
    early = [i for i in range(len(decisions)) if i not in late]
    asked = tuple(flat.outputs[count + i] for i in early)
    needed = {node.name: node for output in asked for node in _computing(flat, memory, output)}
    within = [(graph.outputs[count + i], decisions[i]) for i in range(len(decisions)) if i in late]
    main, copies = _asking(replace(graph, outputs=graph.outputs[:count]), within)
    main = _without(main, needed.keys() | copies)
    if not early:
        return main, None
    if all(is_pure(node) for node in needed.values()):  # else the copies show what was asked when
        asked = tuple(_original(flat, output) for output in asked)
    computing = {node.name for output in asked for node in _computing(flat, memory, output)}
    nodes = tuple(node for node in flat.nodes if node.name in computing)
    read = {value.name for node in nodes for value in node.operands}
    read |= {value.name for output in asked for value in values_in(output)}
    inputs = tuple(entry for entry in flat.inputs if entry.value.name in read)
    return main, Conditions(Graph(inputs, nodes, asked), tuple(decisions[i] for i in early))


def _asking(graph: Graph, within: list[tuple[Arg, Decision]]) -> tuple[Graph, set[str]]:
    """The graph with a node that asks each of some values, right after what makes it; and the names of
    the nodes that copied what was asked, to no avail."""
    after: dict[str, list[Node]] = {}
    copies: set[str] = set()
    for i, (output, decision) in enumerate(within):
        assert isinstance(output, Value)
        asked: Arg = output
        for op in reversed(_COPIES):
            producer = graph.producer.get(asked.name) if isinstance(asked, Value) else None
            if producer is not None and producer.op == op:
                copies.add(producer.name)
                asked = producer.args[0]
        name = f"{output.name}_took_{i}"
        args = asked, Lit(decision.answer), Lit(decision.where)
        node = Node(name, TOOK, args, (), (Value(name, NoneType()),))
        after.setdefault(graph.producer[output.name].name, []).append(node)
    nodes = tuple(made for node in graph.nodes for made in (node, *after.get(node.name, ())))
    return replace(graph, nodes=nodes, checked=False), copies


def _check_untouched(graph: Graph, late: Mapping[str, str]) -> None:
    """Raises Unsupported where a run leaves a trace before it is given up at a branch within: the reasons
    why the branches are `late` are given by their lines."""
    flat = flattened(graph)
    memory = Memory(flat)
    touched = False
    for node in flat.nodes if late else ():
        if node.op == TOOK and touched:
            where = str(node.args[2].value) if isinstance(node.args[2], Lit) else ""
            raise Unsupported(f"data-dependent control flow: {late[where]}", remedy=REMEDY, where=where)
        touched = touched or leaves_a_trace(node, memory)


def _dear(conditions: tuple[Node, ...], main: Graph) -> str:
    """Why the conditions are too dear to be computed beforehand; "" where they are not."""
    left = {node.name for node in flattened(main).nodes}
    twice = sum((node_cost(node) for node in conditions if node.name in left), Cost()).flops
    whole = graph_cost(main).flops
    if twice <= max(_SMALL, whole // _SHARE):
        return ""
    return f"the branch is on a value that takes {twice / whole:.0%} of the model's work, after a write"


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
            pending.extend(n for n in memory.writers(value, node) if n.op != REQUIRES_GRAD)
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


def _reason(node: Node, memory: Memory) -> str | None:
    """Why what a node computes cannot be asked before forward runs; None where it can."""
    if is_pure(node):
        return None
    if effect_of(node) is Effect.WRITES:
        if not any(map(memory.is_input, node.operands)):  # it writes memory that the conditions make
            return None
        return "the branch depends on what forward writes before"
    return f"the branch depends on {node.op}, after a write"


def _without(graph: Graph, conditions: Container[str]) -> Graph:
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
