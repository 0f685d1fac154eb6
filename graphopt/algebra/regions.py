"""Sum-product regions of a graph: what hangs together by operators that are polynomials."""

from collections.abc import Iterator, Set
from dataclasses import dataclass

from graphopt.algebra.equality import equalities
from graphopt.algebra.families import united
from graphopt.algebra.joining import joined
from graphopt.algebra.operators import Known
from graphopt.algebra.polynomial import NoPolynomial, Polynomial, leaf
from graphopt.algebra.reading import read
from graphopt.algebra.stages import Stage
from graphopt.analysis.memory import Memory
from graphopt.analysis.partition import Partition
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.operands import tensor_of
from graphopt.ir.types import TensorType


@dataclass(frozen=True)
class Region:
    """Nodes in order, and the polynomials of those whose results are needed outside: `roots`, over what
    comes from outside, one another's results and `stages`, each of which may read those before it."""

    nodes: tuple[Node, ...]
    roots: tuple[tuple[Node, Polynomial], ...]
    stages: tuple[Stage, ...] = ()


MOST_READERS, MOST_TERMS, MOST_FACTORS = 4, 2, 4
"""What several nodes read is seen through where it is no larger, in wide regions."""


class Regions:
    """The regions of one graph, bounded by what several nodes read."""

    def __init__(self, graph: Graph, *, wide: bool = False) -> None:
        """`wide`: seen through small values that several nodes read: then each may be computed otherwise for
        each, or not at all."""
        self._graph = graph
        self._wide = wide
        memory = graph.analysis(Memory)
        readable = {node.name for node in graph.nodes if self._is_readable(node) and not memory.is_part(node)}
        opaque: frozenset[str] = frozenset()
        while left := self._visited(readable, opaque):
            opaque |= left

    def _visited(self, readable: Set[str], opaque: frozenset[str]) -> frozenset[str]:
        """Reads what is readable, but for the nodes whose results are opaque. Gives back whose zeros and ones
        are left in what is needed: no operator makes those."""
        self._found: dict[str, Polynomial] = {}
        self._parts: dict[str, tuple[Value, ...]] = {}
        self._needed = set(self._graph.returned)
        seen = [n for n in self._graph.nodes if n.name in readable and n.results[0].name not in opaque]
        names = {node.name for node in seen}
        for node in self._graph.nodes:
            if node.name not in names:
                self._needed.update(value.name for value in node.operands)
        for node in seen:
            self._visit(node)
        return frozenset[str]().union(
            *(equalities(self._found[name]) for name in self._needed & {*self._found})
        )

    def __iter__(self) -> Iterator[Region]:
        """Regions where there may be a choice, in the order of their first nodes."""
        together = Partition()
        read = [n for n in self._graph.nodes if n.results and n.results[0].name in self._found]
        for node in read:
            for value in self._parts[node.results[0].name]:
                if value.name in self._found and value.name not in self._needed:
                    together.unite(node.results[0].name, value.name)
        members: dict[str, list[Node]] = {}
        for node in read:
            members.setdefault(together.find(node.results[0].name), []).append(node)
        for nodes in members.values():
            needed = (node for node in nodes if node.results[0].name in self._needed)
            roots = [(node, united(joined(self._found[node.results[0].name]))) for node in needed]
            if roots and (len(nodes) > 1 or any(len(t.factors) > 2 for _, p in roots for t in p.terms)):
                yield Region(tuple(nodes), tuple(roots))

    def is_inside(self, node: Node) -> bool:
        """Whether nothing needs a node's result but one other that is read through it."""
        name = node.results[0].name if len(node.results) == 1 else ""
        return name in self._found and name not in self._needed

    def polynomial(self, node: Node) -> Polynomial | None:
        """What a node computes that is not inside; None where it is no polynomial."""
        return self._found.get(node.results[0].name)

    def inside(self, node: Node) -> Iterator[Node]:
        """The nodes that a node is read through."""
        for value in {v.name: v for v in self._parts.get(node.results[0].name, ())}.values():
            made = self._graph.producer.get(value.name)
            if made is not None and self.is_inside(made):
                yield from self.inside(made)
                yield made

    def _visit(self, node: Node) -> None:
        """Reads a node; what it cannot see through is needed as it is."""
        found = self._read(node, self._through)
        if found is None:
            found = self._read(node, self._as_it_is)
            self._needed.update(value.name for value in node.operands)
        assert found is not None
        self._found[node.results[0].name] = found
        self._parts[node.results[0].name] = node.operands

    def _is_readable(self, node: Node) -> bool:
        kinds = [tensor_of(value) for value in node.results]
        return None not in kinds and self._read(node, self._as_it_is) is not None

    @staticmethod
    def _read(node: Node, known: Known) -> Polynomial | None:
        try:
            return read(node, known)
        except NoPolynomial:
            return None

    def _through(self, value: Value) -> Polynomial:
        found = self._found.get(value.name)
        if found is None or value.name in self._needed:
            return self._as_it_is(value)
        readers = len(self._graph.uses[value.name])
        if readers > 1 and not (self._wide and readers <= MOST_READERS and _is_small(found)):
            self._needed.add(value.name)
            return self._as_it_is(value)
        return found

    def _as_it_is(self, value: Value) -> Polynomial:
        if not isinstance(value.type, TensorType):
            raise NoPolynomial
        return leaf(value, (int(size) for size in value.type.shape))


def _is_small(p: Polynomial) -> bool:
    return len(p.terms) <= MOST_TERMS and all(len(term.factors) <= MOST_FACTORS for term in p.terms)


def wide_regions(graph: Graph) -> Regions:
    """The regions, seen through small values that several nodes read."""
    return Regions(graph, wide=True)
