"""`Draft`: the only way to edit a graph. Every edit is a numbered step that says why."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace

from graphopt.errors import InvalidGraph
from graphopt.ir.graph import Graph, Node, Origin, Value, replace_values


class Claim(enum.Enum):
    """What a pass promises of its result, from the strictest."""

    BITWISE = "bitwise"  # the same bits, special values included
    ROUNDING = "rounding"  # the same real function; rounding may move
    LOSSY = "lossy"  # within the caller's error budget


@dataclass(frozen=True, slots=True)
class Step:
    """One accepted edit: nodes removed and added, and which value took the place of which."""

    number: int
    pass_name: str
    claim: Claim
    why: str
    removed: tuple[Node, ...] = ()
    added: tuple[Node, ...] = ()
    replaced: tuple[tuple[Value, Value], ...] = ()
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Missed:
    """A near miss: a node that a pass would have changed, and why it did not."""

    pass_name: str
    node: Node
    why_not: str


class Draft:
    """A graph under edit by one pass at a time.

    `graph` is the graph as the current pass found it; edits show in the next pass's graph. With
    `gradients`, the result must give the same bits of every gradient too.
    """

    def __init__(self, graph: Graph, gradients: bool = False) -> None:
        self.graph = graph
        self.gradients = gradients
        self.steps: list[Step] = []
        self.missed: list[Missed] = []
        self._pass_name = ""
        self._claim = Claim.BITWISE
        self._removed: dict[str, Node] = {}
        self._values: dict[str, Value] = {}
        self._origins: dict[str, tuple[Origin, ...]] = {}

    def begin(self, pass_name: str, claim: Claim) -> None:
        """Names the pass that the following steps belong to."""
        self._pass_name, self._claim = pass_name, claim

    def live(self, node: Node) -> bool:
        """Whether the node still stands."""
        return node.name not in self._removed

    def resolve(self, value: Value) -> Value:
        """The value that stands for a value after the edits so far."""
        while value.name in self._values:
            value = self._values[value.name]
        return value

    def merge(self, node: Node, into: Node, why: str, evidence: str = "") -> None:
        """Removes a node and lets the results of another take the place of its own.

        Raises InvalidGraph where the results do not correspond.
        """
        if [v.type for v in node.results] != [v.type for v in into.results] or node.many != into.many:
            raise InvalidGraph(f"{node.name} and {into.name} have different result types")
        pairs = tuple(zip(node.results, into.results, strict=True))
        for old, new in pairs:
            self._values[old.name] = new
        self._removed[node.name] = node
        known = self._origins.get(into.name, into.origins)
        self._origins[into.name] = tuple(dict.fromkeys((*known, *node.origins)))
        self._step(why, evidence, removed=(node,), replaced=pairs)

    def remove(self, nodes: Iterable[Node], why: str, evidence: str = "") -> None:
        """Removes nodes whose results nothing reads any more."""
        removed = tuple(nodes)
        self._removed.update((node.name, node) for node in removed)
        self._step(why, evidence, removed=removed)

    def miss(self, node: Node, why_not: str) -> None:
        """Records a near miss."""
        self.missed.append(Missed(self._pass_name, node, why_not))

    def finish(self) -> Graph:
        """Makes the edits of this pass into a graph, checks it whole, and starts afresh on it."""
        if self._removed or self._values:
            values = {name: self.resolve(value) for name, value in self._values.items()}
            nodes = tuple(
                self._edited(node, values) for node in self.graph.nodes if node.name not in self._removed
            )
            outputs = tuple(replace_values(output, values) for output in self.graph.outputs)
            self.graph = replace(self.graph, nodes=nodes, outputs=outputs)
            self._removed, self._values, self._origins = {}, {}, {}
        return self.graph

    def _edited(self, node: Node, values: dict[str, Value]) -> Node:
        origins = self._origins.get(node.name, node.origins)
        if origins is node.origins and not any(value.name in values for value in node.operands):
            return node
        return replace(
            node,
            args=tuple(replace_values(arg, values) for arg in node.args),
            kwargs=tuple((name, replace_values(arg, values)) for name, arg in node.kwargs),
            origins=origins,
        )

    def _step(
        self,
        why: str,
        evidence: str,
        removed: tuple[Node, ...] = (),
        replaced: tuple[tuple[Value, Value], ...] = (),
    ) -> None:
        number = len(self.steps) + 1
        self.steps.append(Step(number, self._pass_name, self._claim, why, removed, (), replaced, evidence))
