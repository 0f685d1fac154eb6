"""Sum-product regions of a graph: what hangs together by operators that are polynomials."""

import copy
import operator
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass

from graphopt.algebra.forms import Reading, Readings
from graphopt.algebra.polynomial import Polynomial
from graphopt.analysis.memory import Memory
from graphopt.analysis.partition import Partition
from graphopt.ir.graph import Graph, Node, Value


@dataclass(frozen=True)
class Region:
    """Nodes in order, those whose results are needed outside, and what these are: over what comes from
    outside and over one another's results."""

    nodes: tuple[Node, ...]
    needed: tuple[Node, ...]
    readings: tuple[Reading, ...]

    @property
    def name(self) -> object:
        """Equal for regions of one graph that are the same."""
        return (
            tuple(node.name for node in self.nodes),
            tuple(node.name for node in self.needed),
            self.readings,
        )

    @property
    def roots(self) -> tuple[tuple[Node, Polynomial], ...]:
        """The nodes that are needed, and their polynomials."""
        return tuple((n, reading.polynomial) for n, reading in zip(self.needed, self.readings, strict=True))


MOST_READERS = 4
"""Nodes that read a small value which is seen through, in wide regions."""


class Regions:
    """The regions of one graph, bounded by what several nodes read."""

    def __init__(self, graph: Graph, readings: Readings | None = None, left: Set[str] = frozenset()) -> None:
        """`readings`: what was read before. `left`: the names of values that stay as they are."""
        self._graph = graph
        self._readings = Readings() if readings is None else readings
        self._wide = False
        self._last: dict[str, tuple[tuple[Reading | None, ...], Reading | None]] = {}
        memory = graph.analysis(Memory)
        self._leaves = {value.name: self._readings.leaf(value) for value in graph.values}
        self._readable = {
            node.name
            for node in graph.nodes
            if not any(value.name in left for value in node.results)
            and self._read(node, self._as_it_is) is not None
            and not memory.is_part(node)
        }
        self._see()

    def widened(self) -> "Regions":
        """Those that see through small values which several nodes read: then each may be computed otherwise
        for each, or not at all."""
        found = copy.copy(self)
        found._wide = True
        found._see()
        return found

    def _see(self) -> None:
        opaque: frozenset[str] = frozenset()
        while unsaid := self._visited(self._readable, opaque):
            opaque |= unsaid

    def _visited(self, readable: Set[str], opaque: frozenset[str]) -> frozenset[str]:
        """Reads what is readable, but for the nodes whose results are opaque. Gives back whose zeros and ones
        are left in what is needed: no operator makes those."""
        self._found: dict[str, Reading] = {}
        self._parts: dict[str, tuple[Value, ...]] = {}
        self._needed = set(self._graph.returned)
        seen = [n for n in self._graph.nodes if n.name in readable and n.results[0].name not in opaque]
        names = {node.name for node in seen}
        for node in self._graph.nodes:
            if node.name not in names:
                self._needed.update(value.name for value in node.operands)
        for node in seen:
            self._visit(node)
        needed = (self._found[name] for name in self._needed & {*self._found})
        return frozenset(one.leaves[number].name for one in needed for number in one.form.equalities)

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
            needed = tuple(node for node in nodes if node.results[0].name in self._needed)
            readings = tuple(self._found[node.results[0].name] for node in needed)
            if needed and (len(nodes) > 1 or any(one.form.is_long for one in readings)):
                yield Region(tuple(nodes), needed, readings)

    def _visit(self, node: Node) -> None:
        """Reads a node; what it cannot see through is needed as it is."""
        found = self._read(node, self._through)
        if found is None:
            found = self._read(node, self._as_it_is)
            self._needed.update(value.name for value in node.operands)
        assert found is not None
        self._found[node.results[0].name] = found
        self._parts[node.results[0].name] = node.operands

    def _through(self, value: Value) -> Reading | None:
        found = self._found.get(value.name)
        if found is None or value.name in self._needed:
            return self._as_it_is(value)
        readers = len(self._graph.uses[value.name])
        if readers > 1 and not (self._wide and readers <= MOST_READERS and found.form.is_small):
            self._needed.add(value.name)
            return self._as_it_is(value)
        return found

    def _as_it_is(self, value: Value) -> Reading | None:
        return self._leaves[value.name]

    def _read(self, node: Node, known: Callable[[Value], Reading | None]) -> Reading | None:
        operands = tuple(map(known, node.operands))
        last = self._last.get(node.name)
        if last is None or any(map(operator.is_not, operands, last[0])):
            by_name = {value.name: one for value, one in zip(node.operands, operands, strict=True)}
            last = operands, self._readings.of(node, by_name)
            self._last[node.name] = last
        return last[1]
