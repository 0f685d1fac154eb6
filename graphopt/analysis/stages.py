"""A graph with kept values, taken apart into what every call runs and what is run once for many."""

from collections.abc import Iterable
from dataclasses import dataclass

from graphopt.analysis.dependence import is_size
from graphopt.ir.graph import Argument, Graph, Input, Kept, Node, Sequence, Value, values_in
from graphopt.ir.laws import Form, holds, laws_of
from graphopt.ir.operands import tensor_of


@dataclass(frozen=True, eq=False)
class Derivation:
    """Computes some kept values: `graph` from state and constants, and from `sizes`, its arguments in
    order. `first` is the number of the first one among all that are kept."""

    graph: Graph
    sizes: tuple[Value, ...]
    first: int

    @property
    def narrowed(self) -> tuple[int, ...]:
        """The numbers of the values that are rounded from a wider floating type, and might not fit."""
        return tuple(
            number
            for number, value in enumerate(values_in(Sequence("tuple", self.graph.outputs)))
            if _is_narrowed(self.graph.producer.get(value.name))
        )


def _is_narrowed(node: Node | None) -> bool:
    if node is None or not laws_of(node.op, Form.CAST):
        return False
    wide, narrow = tensor_of(node.operands[0]), tensor_of(node.results[0])
    return wide is not None and narrow is not None and not holds(wide.dtype, narrow.dtype)


@dataclass(frozen=True)
class Stages:
    """`call` runs on every call and has the kept values as inputs."""

    call: Graph
    derivations: tuple[Derivation, ...] = ()


def stages(graph: Graph) -> Stages:
    """The stages of a graph; values that are kept and that no call reads are left out."""
    return graph.analysis(_stages)


def _stages(graph: Graph) -> Stages:
    kept = frozenset(graph.kept)
    if not kept:
        return Stages(graph)
    cones = _cones(graph)
    derived = frozenset(name for value in kept for name in cones[value][0])
    nodes = _needed(graph, derived, kept)
    read = {v.name: v for node in nodes for v in node.operands if v.name in kept}
    read.update((v.name, v) for output in graph.outputs for v in values_in(output) if v.name in kept)
    made = {value.name for node in nodes for value in node.results}
    groups: dict[tuple[Value, ...], list[Value]] = {}
    for name in graph.kept:
        if name in read and name not in made:
            groups.setdefault(cones[name][1], []).append(read[name])
    derivations: list[Derivation] = []
    inputs = list(graph.inputs)
    for sizes, values in groups.items():
        first = len(inputs) - len(graph.inputs)
        derivations.append(Derivation(_derivation(graph, values, sizes, cones), sizes, first))
        inputs.extend(Input(value, Kept(first + i)) for i, value in enumerate(values))
    return Stages(Graph(tuple(inputs), nodes, graph.outputs, graph.bare), tuple(derivations))


_Cone = tuple[frozenset[str], tuple[Value, ...]]


def _cones(graph: Graph) -> dict[str, _Cone]:
    """By kept value: the nodes that lead to it, and the sizes that these read."""
    found: dict[str, _Cone] = {}
    for name in graph.kept:
        nodes: set[str] = set()
        sizes: dict[str, Value] = {}
        open_ = [graph.producer[name]]
        while open_:
            node = open_.pop()
            if node.name in nodes:
                continue
            nodes.add(node.name)
            for value in node.operands:
                if is_size(value):
                    sizes[value.name] = value
                elif value.name in graph.producer:
                    open_.append(graph.producer[value.name])
        found[name] = frozenset(nodes), tuple(sizes[key] for key in sorted(sizes))
    return found


def _needed(graph: Graph, derived: frozenset[str], kept: frozenset[str]) -> tuple[Node, ...]:
    """The nodes without those that only lead to kept values."""
    read = {value.name for output in graph.outputs for value in values_in(output)}
    found: list[Node] = []
    for node in reversed(graph.nodes):
        names = {value.name for value in node.results}
        if node.name in derived and not (names & read) - kept:
            continue
        found.append(node)
        read.update(value.name for value in node.operands)
    return tuple(reversed(found))


def _derivation(
    graph: Graph, values: Iterable[Value], sizes: tuple[Value, ...], cones: dict[str, _Cone]
) -> Graph:
    outputs = tuple(values)
    names = frozenset().union(*(cones[value.name][0] for value in outputs))
    nodes = tuple(node for node in graph.nodes if node.name in names)
    read = {value.name for node in nodes for value in node.operands}
    state = tuple(entry for entry in graph.inputs if entry.value.name in read)
    arguments = tuple(Input(size, Argument(i)) for i, size in enumerate(sizes))
    return Graph((*state, *arguments), nodes, outputs)
