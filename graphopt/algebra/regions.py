"""Sum-product regions of a graph: what hangs together by operators that are polynomials."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from graphopt.algebra.forms import Reading, Readings
from graphopt.algebra.norms import is_norm, square_of, with_squares
from graphopt.algebra.polynomial import MAX_TERMS, NoPolynomial, Polynomial
from graphopt.algebra.stages import Stage
from graphopt.analysis.memory import Memory
from graphopt.analysis.partition import Partition
from graphopt.analysis.seconds import is_narrow
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.operands import shape_of, tensor_of
from graphopt.ir.ops import Alias, lookup


@dataclass(frozen=True)
class Region:
    """Nodes in order, those whose results are needed outside, and what these are: over what comes from
    outside, one another's results and `stages`, each of which may read those before it. Of a norm, it is
    that of its square. `readings`, or else `polynomials`: with stages, over leaves of this region alone."""

    nodes: tuple[Node, ...]
    needed: tuple[Node, ...]
    readings: tuple[Reading, ...]
    shown: tuple[Node, ...] = ()
    """What only shows parts of what is there, to these nodes alone."""
    stages: tuple[Stage, ...] = ()
    polynomials: tuple[Polynomial, ...] = ()

    @property
    def roots(self) -> tuple[tuple[Node, Polynomial], ...]:
        """The nodes that are needed, and their polynomials."""
        found = self.polynomials or tuple(one.united for one in self.readings)
        return tuple(zip(self.needed, found, strict=True))


MOST_READERS = 4
"""Nodes that read a small value which is seen through, in wide regions."""

_Known = Callable[[Value], Reading | None]


def _is_repeated(node: Node, reading: Reading) -> bool:
    """Whether a node makes few elements of many, each of which is but one: the sum of what was expanded."""
    result = math.prod(shape_of(node.results[0]))
    fewer = any(result < math.prod(shape_of(value)) for value in node.operands)
    return fewer and reading.form.is_scaled


class Regions:
    """The regions of one graph, bounded by what several nodes read."""

    def __init__(
        self,
        graph: Graph,
        readings: Readings | None = None,
        left: Set[str] = frozenset(),
    ) -> None:
        """`readings`: what was read before. `left`: the names of values that stay as they are."""
        self._graph = graph
        self._readings = Readings() if readings is None else readings
        self._wide, self._plain, self.left = False, False, left
        memory = graph.analysis(Memory)
        self._squares: dict[str, Reading] = {}
        self._readable = {
            node.name
            for node in graph.nodes
            if not any(value.name in left for value in node.results)
            and self._is_readable(node)
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

    def plain(self) -> "Regions":
        """Those of nodes with one result alone, and neither norms nor blocks."""
        found = copy.copy(self)
        found._plain = True
        found._readable = {
            node.name
            for node in self._graph.nodes
            if node.name in self._readable and len(node.results) == 1 and not is_norm(node)
        }
        found._see()
        return found

    def _see(self) -> None:
        opaque: frozenset[str] = frozenset()
        self._bounded: frozenset[str] = frozenset()
        while True:
            left, long = self._visited(self._readable, opaque)
            if not left and not long:
                return
            opaque |= left
            self._bounded |= long

    def _visited(self, readable: Set[str], opaque: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Reads what is readable, but for opaque nodes. Gives back the nodes that are needed and cannot be
        made otherwise: those whose zeros and ones are left within blocks, for no operator makes those; those
        of which some results are needed, and perhaps others not; and norms of sums. And those that have too
        many terms, of what is needed and has."""
        self._found: dict[str, Reading] = {}
        self._nodes: list[Node] = []
        self._through_to = set[str]()
        self._squares = {}
        self._shown: set[str] = set()
        self._needed = set(self._graph.returned)
        names = readable - opaque
        for node in self._graph.nodes:
            if node.name not in names:
                self._needed.update(value.name for value in node.operands)
        for node in self._graph.nodes:
            if node.name in names:
                self._visit(node)
        made = {value.name: node for node in self._nodes for value in node.results}
        left, large = set[str](), list[str]()
        for name in self._needed & made.keys():
            found, square = self._found[name], self._squares.get(name)
            if self._plain or not found.form.is_whole_in_blocks:
                left.update(made[found.leaves[number].name].name for number in found.form.equalities)
            several = made[name].many and not self._is_shown(made[name])
            # The root of a sum of which terms cancel is far off, or of less than zero.
            if several or (square is not None and len(square.form.united.terms) > 1):
                left.add(made[name].name)
            if len(found.form.united.terms) > MAX_TERMS:
                large.append(name)
        return frozenset(left), frozenset(self._growing(large, made))

    def _growing(self, names: Sequence[str], made: Mapping[str, Node]) -> Iterator[str]:
        """The nodes with too many terms that some values were read through."""
        left, seen = [*names], set[str]()
        while left:
            name = left.pop()
            if name in seen or not self._found[name].form.is_large:
                continue
            seen.add(name)
            yield made[name].name
            operands = (value.name for value in made[name].operands)
            left += [one for one in operands if one in made and one not in self._needed]

    def __iter__(self) -> Iterator[Region]:
        """Regions where there may be a choice, in the order of their first nodes. What only shows parts of
        what is there is in none, for others may read it, too."""
        together = Partition()
        self._views = {v.name: node for node in self._nodes if self._is_shown(node) for v in node.results}
        read = [node for node in self._nodes if not self._is_shown(node)]
        made = {value.name: node.name for node in read for value in node.results}
        for node in read:
            for value in node.operands:
                if value.name in made and value.name not in self._needed:
                    together.unite(node.name, made[value.name])
        members: dict[str, list[Node]] = {}
        for node in read:
            members.setdefault(together.find(node.name), []).append(node)
        for nodes in members.values():
            needed = [n for n in nodes if n.results[0].name in self._needed and not n.many]
            readings = tuple(self._wanted(node.results[0].name) for node in needed)
            several = len(nodes) > 1 or any(one.form.is_long for one in readings)
            if needed and (several or is_narrow(nodes[0]) or _is_repeated(nodes[0], readings[0])):
                yield Region(tuple(nodes), tuple(needed), readings, self._shown_to(nodes))

    def _shown_to(self, nodes: Sequence[Node]) -> tuple[Node, ...]:
        names, found = {node.name for node in nodes}, list[Node]()
        left = [value for node in nodes for value in node.operands]
        while left:
            view = self._views.get(left.pop().name)
            if view is None or view.name in names:
                continue
            readers = (reader for value in view.results for reader in self._graph.uses.get(value.name, ()))
            if all(reader.name in names for reader in readers):
                names.add(view.name)
                found.append(view)
                left += view.operands
        return tuple(found)

    def is_shown(self, value: Value) -> bool:
        """Whether a value only shows parts of what is there, and is read through by all."""
        return value.name in self._shown

    def is_inside(self, node: Node) -> bool:
        """Whether nothing needs a node's result but what is read through it."""
        name = node.results[0].name if len(node.results) == 1 else ""
        return name in self._found and name not in self._needed

    def polynomial(self, node: Node) -> Polynomial | None:
        """What a node computes that is not inside; None where it is no polynomial."""
        found = self._found.get(node.results[0].name)
        return None if found is None else found.polynomial.apart()

    def inside(self, node: Node) -> Iterator[Node]:
        """The nodes that a node is read through."""
        if node.name not in self._through_to:
            return
        for value in {v.name: v for v in node.operands}.values():
            made = self._graph.producer.get(value.name)
            if made is not None and (self.is_inside(made) or self.is_shown(value)):
                yield from self.inside(made)
                yield made

    def _visit(self, node: Node) -> None:
        """Reads a node; what it cannot see through is needed as it is."""
        if is_norm(node):
            self._visit_norm(node)
            return
        found = self._read(node, self._through)
        if found is None or (node.name in self._bounded and any(one.form.is_large for one in found)):
            found = self._read(node, self._as_it_is)
            self._needed.update(value.name for value in node.operands)
        else:
            self._through_to.add(node.name)
        assert found is not None
        shows = lookup(node.op).alias is Alias.VIEW and all(map(self._stays, node.operands))
        self._nodes.append(node)
        for value, one in zip(node.results, found, strict=True):
            self._found[value.name] = one
            if self._squares:
                self._needed |= {leaf.name for leaf in one.leaves} & self._squares.keys()
            if shows and one.form.is_part:
                self._shown.add(value.name)

    def _is_readable(self, node: Node) -> bool:
        if is_norm(node):
            return True
        kinds = map(tensor_of, node.results)
        return None not in kinds and self._readings.is_readable(node)

    def _stays(self, value: Value) -> bool:
        """Whether a value is there whatever becomes of the regions."""
        return value.name in self._shown or value.name not in self._found or value.name in self._needed

    def _visit_norm(self, node: Node) -> None:
        """Reads the square of a norm; whoever reads the norm itself reads it as it is."""
        (norm,) = node.results
        try:
            square = self._readings.made(square_of(node, self._polynomial))
        except NoPolynomial:
            self._needed.update(value.name for value in node.operands)
            return
        as_it_is = self._as_it_is(norm)
        if square.form.equalities or square.form.is_large or as_it_is is None:
            self._needed.update(value.name for value in node.operands)
            return
        self._nodes.append(node)
        self._found[norm.name], self._squares[norm.name] = as_it_is, square

    def _wanted(self, name: str) -> Reading:
        """What is evaluated for a value that is needed: of a norm, the square."""
        return self._squares.get(name) or self._found[name]

    def _is_shown(self, node: Node) -> bool:
        """Whether it only shows parts of what is there: whoever reads them can take them from there."""
        return all(value.name in self._shown for value in node.results)

    def _read(self, node: Node, known: _Known) -> tuple[Reading, ...] | None:
        found = self._readings.of(node, tuple(map(known, node.operands)))
        if not found or not self._squares:
            return found
        if not any(leaf.name in self._squares for one in found for leaf in one.leaves):
            return found
        # Norms are of this graph: what was read holds wherever else, what follows from them does not.
        try:
            return tuple(self._with_squares(one) for one in found)
        except NoPolynomial:
            return None

    def _with_squares(self, one: Reading) -> Reading:
        squares = {v.name: self._squares[v.name].polynomial for v in one.leaves if v.name in self._squares}
        return self._readings.made(with_squares(one.polynomial, squares))

    def _polynomial(self, value: Value) -> Polynomial:
        """What a value is seen as. Raises NoPolynomial."""
        found = self._through(value)
        if found is None:
            raise NoPolynomial
        return found.polynomial.apart()

    def _through(self, value: Value) -> Reading | None:
        found = self._found.get(value.name)
        if found is not None and (value.name in self._shown or value.name in self._squares):
            return found
        if found is None or value.name in self._needed:
            return self._as_it_is(value)
        readers = len(self._graph.uses[value.name])
        if readers > 1 and not (self._wide and readers <= MOST_READERS and found.form.is_small):
            self._needed.add(value.name)
            return self._as_it_is(value)
        return found

    def _as_it_is(self, value: Value) -> Reading | None:
        return self._readings.leaf(value)
