"""Sum-product regions of a graph: what hangs together by operators that are polynomials."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from graphopt.algebra.cutting import is_whole_in_blocks
from graphopt.algebra.equality import Equal, equalities
from graphopt.algebra.families import united
from graphopt.algebra.joining import joined
from graphopt.algebra.norms import is_norm, square_of, with_squares
from graphopt.algebra.operators import Known
from graphopt.algebra.polynomial import MAX_TERMS, Factor, NoPolynomial, Polynomial, Term, leaf
from graphopt.algebra.reading import read_all
from graphopt.algebra.stages import Stage
from graphopt.analysis.memory import Memory
from graphopt.analysis.partition import Partition
from graphopt.analysis.seconds import is_narrow
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.operands import tensor_of
from graphopt.ir.ops import Alias, lookup
from graphopt.ir.types import TensorType


@dataclass(frozen=True)
class Region:
    """Nodes in order, and the polynomials of those whose results are needed outside: `roots`, over what
    comes from outside, one another's results and `stages`, each of which may read those before it. Of a
    norm, it is that of its square."""

    nodes: tuple[Node, ...]
    roots: tuple[tuple[Node, Polynomial], ...]
    shown: tuple[Node, ...] = ()
    """What only shows parts of what is there, to these nodes alone."""
    stages: tuple[Stage, ...] = ()


MOST_READERS, MOST_TERMS, MOST_FACTORS = 4, 2, 4
"""What several nodes read is seen through where it is no larger, in wide regions."""


class Regions:
    """The regions of one graph, bounded by what several nodes read."""

    def __init__(self, graph: Graph, *, wide: bool = False, plain: bool = False) -> None:
        """`wide`: seen through small values that several nodes read: then each may be computed otherwise for
        each, or not at all. `plain`: nodes with one result alone, and neither norms nor blocks."""
        self._graph = graph
        self._wide, self._plain = wide, plain
        memory = graph.analysis(Memory)
        self._squares: dict[str, Polynomial] = {}
        readable = {node.name for node in graph.nodes if self._is_readable(node) and not memory.is_part(node)}
        opaque: frozenset[str] = frozenset()
        self._bounded: frozenset[str] = frozenset()
        while True:
            left, long = self._visited(readable, opaque)
            if not left and not long:
                return
            opaque |= left
            self._bounded |= long

    def _visited(self, readable: Set[str], opaque: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Reads what is readable, but for opaque nodes. Gives back the nodes that are needed and cannot be
        made otherwise: those whose zeros and ones are left within blocks, for no operator makes those; those
        of which some results are needed, and perhaps others not; and norms of sums. And those that have too
        many terms, of what is needed and has."""
        self._found: dict[str, Polynomial] = {}
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
        left = set[str]()
        for name in self._needed & made.keys():
            if self._plain or not is_whole_in_blocks(self._found[name]):
                left.update(made[value].name for value in equalities(self._found[name]))
            several = made[name].many and not self._is_shown(made[name])
            # The root of a sum of which terms cancel is far off, or of less than zero.
            if several or (name in self._squares and len(united(self._squares[name]).terms) > 1):
                left.add(made[name].name)
        large = [name for name in self._needed & made.keys() if _is_large(united(self._found[name]))]
        return frozenset(left), frozenset(self._growing(large, made))

    def _growing(self, names: Sequence[str], made: Mapping[str, Node]) -> Iterator[str]:
        """The nodes with too many terms that some values were read through."""
        left, seen = [*names], set[str]()
        while left:
            name = left.pop()
            if name in seen or not _is_large(self._found[name]):
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
            roots = [(node, united(joined(self._wanted(node.results[0].name)))) for node in needed]
            several = len(nodes) > 1 or any(_factors(t) > 2 for _, p in roots for t in p.terms)
            if roots and (several or is_narrow(nodes[0])):
                yield Region(tuple(nodes), tuple(roots), self._shown_to(nodes))

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
        return self._found.get(node.results[0].name)

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
        if found is None or (node.name in self._bounded and any(map(_is_large, found))):
            found = self._read(node, self._as_it_is)
            self._needed.update(value.name for value in node.operands)
        else:
            self._through_to.add(node.name)
        assert found is not None
        shows = lookup(node.op).alias is Alias.VIEW and all(map(self._stays, node.operands))
        self._nodes.append(node)
        for value, p in zip(node.results, found, strict=True):
            self._found[value.name] = p
            leaves = {factor.leaf.name for term in p.terms for factor in term.factors}
            self._needed |= leaves & self._squares.keys()
            if shows and _is_part(p):
                self._shown.add(value.name)

    def _is_readable(self, node: Node) -> bool:
        if self._plain and len(node.results) != 1:
            return False
        if is_norm(node):
            return not self._plain
        kinds = map(tensor_of, node.results)
        return None not in kinds and self._read(node, self._as_it_is) is not None

    def _stays(self, value: Value) -> bool:
        """Whether a value is there whatever becomes of the regions."""
        return value.name in self._shown or value.name not in self._found or value.name in self._needed

    def _visit_norm(self, node: Node) -> None:
        """Reads the square of a norm; whoever reads the norm itself reads it as it is."""
        (norm,) = node.results
        try:
            square = square_of(node, self._through)
        except NoPolynomial:
            self._needed.update(value.name for value in node.operands)
            return
        if equalities(square) or _is_large(square):
            self._needed.update(value.name for value in node.operands)
            return
        self._nodes.append(node)
        self._found[norm.name], self._squares[norm.name] = self._as_it_is(norm), square

    def _wanted(self, name: str) -> Polynomial:
        """What is evaluated for a value that is needed: of a norm, the square."""
        return self._squares.get(name) or self._found[name]

    def _is_shown(self, node: Node) -> bool:
        """Whether it only shows parts of what is there: whoever reads them can take them from there."""
        return all(value.name in self._shown for value in node.results)

    def _read(self, node: Node, known: Known) -> tuple[Polynomial, ...] | None:
        try:
            return tuple(with_squares(p, self._squares) for p in read_all(node, known))
        except NoPolynomial:
            return None

    def _through(self, value: Value) -> Polynomial:
        found = self._found.get(value.name)
        if found is not None and (value.name in self._shown or value.name in self._squares):
            return found
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


def _is_part(p: Polynomial) -> bool:
    """Whether it is elements of one leaf, each as it is."""
    match p.terms:
        case (Term(1, (Factor() as factor,)),):
            return not isinstance(factor, Equal)
        case _:
            return False


def _factors(term: Term) -> int:
    return sum(not isinstance(factor, Equal) for factor in term.factors)


def _is_small(p: Polynomial) -> bool:
    return len(p.terms) <= MOST_TERMS and all(len(term.factors) <= MOST_FACTORS for term in p.terms)


def _is_large(p: Polynomial) -> bool:
    return len(p.terms) > MAX_TERMS


def plain_regions(graph: Graph) -> Regions:
    """The regions of nodes with one result alone, without norms and blocks."""
    return Regions(graph, plain=True)


def wide_regions(graph: Graph) -> Regions:
    """The regions, seen through small values that several nodes read."""
    return Regions(graph, wide=True)
