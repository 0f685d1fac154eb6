"""Regions with stages: what is read in part only, through functions, is computed there only."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod

from graphopt.algebra.choices import Choice
from graphopt.algebra.families import united
from graphopt.algebra.functions import Function, function_of
from graphopt.algebra.polynomial import Access, Factor, NoPolynomial, Polynomial, Term, leaf
from graphopt.algebra.reading import read
from graphopt.algebra.regions import Region, Regions
from graphopt.algebra.stages import (
    Key,
    NotParted,
    Pattern,
    Stage,
    asked_of,
    held,
    key_of,
    operand_term,
    put,
)
from graphopt.analysis.partition import Partition
from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.operands import shape_of, tensor_of
from graphopt.ir.types import TensorType

MOST_PATTERNS = 4
"""In which a value is computed, each on its own."""
SHARE = 0.5
"""Of a value that may be needed in part, for it to be computed there only."""


class Narrowing:
    """Which values of a graph are needed in part, and what reads them."""

    def __init__(
        self, graph: Graph, regions: Regions, fixed: Callable[[Value], bool], deepest: int | None = None
    ) -> None:
        """`regions`: the plain ones. `fixed` values are there, whatever is needed of them; so are those that
        are computed more than `deepest` stages before what is wanted whole."""
        self._graph, self._fixed, self._deepest = graph, fixed, deepest
        self._regions = regions
        self._functions: dict[str, Function] = {}
        self._polynomials: dict[str, Polynomial] = {}
        self._asked: dict[str, dict[Key, Pattern]] = {}
        self._depth: dict[str, int] = {}
        self._whole = set(graph.returned)
        self._stages: dict[tuple[str, Key], Stage] = {}
        self._numbers: dict[str, int] = {}
        self._learn()
        for node in reversed(graph.nodes):
            self._visit(node)

    def __iter__(self) -> Iterator[Region]:
        """Regions of what hangs together by values that are needed in part."""
        together = Partition()
        targets, met = list[Node](), dict[str, Node]()
        for node in self._graph.nodes:
            name = node.results[0].name if node.results else ""
            if name not in self._polynomials and name not in self._functions:
                continue
            narrow = [value.name for value in self._read(node) if self.is_narrow(value)]
            for other in narrow:
                together.unite(name, other)
                met[name], met[other] = node, self._graph.producer[other]
            if narrow and not self.is_narrow(node.results[0]):
                targets.append(node)
        groups: dict[str, list[Node]] = {}
        members: dict[str, dict[str, Node]] = {}
        for node in targets:
            groups.setdefault(together.find(node.results[0].name), []).append(node)
        for name, node in met.items():
            members.setdefault(together.find(name), {})[name] = node
        for name, nodes in groups.items():
            region = self._region(nodes, members[name])
            if region is not None:
                yield region

    def is_narrow(self, value: Value) -> bool:
        """Whether a value is computed at some places only."""
        known = value.name in self._polynomials or value.name in self._functions
        if not known or value.name in self._whole or value.name not in self._asked:
            return False
        patterns = self._asked[value.name].values()
        whole = prod(self._sizes(value))
        return len(patterns) <= MOST_PATTERNS and sum(p.elements for p in patterns) <= SHARE * whole

    def _sizes(self, value: Value) -> list[int]:
        """Of the dimensions that patterns speak of."""
        function = self._functions.get(value.name)
        ends = function.ends if function is not None else ()
        return [size for dim, size in enumerate(shape_of(value)) if dim not in ends]

    def _learn(self) -> None:
        """What is known of each node: a polynomial, or a function, or what it rearranges."""
        for node in self._graph.nodes:
            name = node.results[0].name if len(node.results) == 1 else ""
            if not name or name in self._regions.left or self._regions.is_inside(node):
                continue
            p = self._regions.polynomial(node)
            if p is None:
                p = self._rearranged(node)
            if p is not None:
                self._polynomials[name] = p
            elif (function := function_of(node)) is not None:
                self._functions[name] = function

    def _rearranged(self, node: Node) -> Polynomial | None:
        """What a node that is in no region, for it makes no floating tensor, shows of its operand."""
        kind = node.results[0].type
        if not isinstance(kind, TensorType) or kind.dtype.is_floating_point:
            return None
        try:
            return read(node, lambda value: leaf(value, shape_of(value)))
        except NoPolynomial:
            return None

    def _read(self, node: Node) -> Iterator[Value]:
        """The values that a node reads, or those that it is read through."""
        nodes = node, *self._regions.inside(node)
        yield from {value.name: value for one in nodes for value in one.operands}.values()

    def _visit(self, node: Node) -> None:
        """Notes what a node needs of its operands."""
        if self._regions.is_inside(node):
            return
        if not node.results:
            self._whole.update(one.name for one in node.operands)
            return
        value = node.results[0]
        p, function = self._polynomials.get(value.name), self._functions.get(value.name)
        if self._fixed(value):
            self._whole.add(value.name)
        depth = 0
        if self.is_narrow(value):
            depth = self._depth.get(value.name, 0) + 1
            try:
                asked = [
                    t for pattern in self._asked[value.name].values() for t in self._needs(value, pattern)
                ]
            except (NotParted, NoPolynomial):
                self._whole.add(value.name)
                asked, depth = [], 0
        if not self.is_narrow(value):
            self._whole.add(value.name)
            asked = [*p.terms] if p is not None else []
            if p is None:
                self._whole.update(one.name for one in node.operands)
        if not self.is_narrow(value):
            # Where sizes alone are read, the value has to be there as long as what reads them is.
            seen = {factor.leaf.name for term in asked for factor in term.factors}
            self._whole.update(one.name for one in self._read(node) if one.name not in seen)
        for term in asked:
            for factor in term.factors:
                self._ask(factor, term, depth)
        if function is not None:
            cut = {one.name for one in function.operands}
            self._whole.update(one.name for one in node.operands if one.name not in cut)

    def _needs(self, value: Value, pattern: Pattern) -> Sequence[Term]:
        function = self._functions.get(value.name)
        if function is not None:
            return [operand_term(function, one, pattern)[0] for one in function.operands]
        return put(self._polynomials[value.name], pattern).terms

    def _ask(self, factor: Factor, term: Term, depth: int) -> None:
        name = factor.leaf.name
        self._depth[name] = max(depth, self._depth.get(name, 0))
        if self._deepest is not None and depth >= self._deepest:
            self._whole.add(name)
        if isinstance(factor, Choice):
            return
        if not all(map(_is_inside, factor.accesses, factor.sizes)):
            self._whole.add(name)  # of what is outside, which is 0, a function is not
            return
        pattern = asked_of(self._functions.get(name), factor, term)
        self._asked.setdefault(name, {})[key_of(pattern)] = pattern

    def _region(self, targets: Sequence[Node], members: Mapping[str, Node]) -> Region | None:
        """Targets that read values which are needed in part, and what makes these: the nodes, by result."""
        found, stages = list[Polynomial](), dict[str, Stage]()
        for node in targets:
            if tensor_of(node.results[0]) is None:
                return None
            found.append(united(self._staged(self._polynomials[node.results[0].name], stages)))
        inside = (one for node in members.values() for one in self._regions.inside(node))
        wanted = {**members, **{one.results[0].name: one for one in inside}}
        order = {node.name: place for place, node in enumerate(self._graph.nodes)}
        nodes: list[Node] = []
        made = set[str]()
        for name, node in sorted(wanted.items(), key=lambda one: order[one[1].name]):
            # Others may read what only shows parts of what stays.
            shows = name not in members and self._regions.is_shown(node.results[0])
            if not shows or made & {one.name for one in node.operands}:
                nodes.append(node)
                made.add(name)
        staged = tuple(stages.values())
        return Region(tuple(nodes), tuple(targets), (), stages=staged, polynomials=tuple(found))

    def _staged(self, p: Polynomial, stages: dict[str, Stage]) -> Polynomial:
        """A polynomial that reads stages where it read values that are needed in part; notes these, each
        behind those that it reads."""
        return Polynomial(p.dims, tuple(self._staged_term(term, stages) for term in p.terms))

    def _staged_term(self, term: Term, stages: dict[str, Stage]) -> Term:
        factors, gone = list[Factor](), set[object]()
        for factor in term.factors:
            if self.is_narrow(factor.leaf):
                pattern = asked_of(self._functions.get(factor.leaf.name), factor, term)
                gone.update(pattern.accesses)
                if self._regions.is_shown(factor.leaf):
                    (part,) = put(self._polynomials[factor.leaf.name], pattern).terms
                    factors += self._staged_term(part, stages).factors
                    continue
                factor = self._stage(factor.leaf, pattern, stages).read(pattern, factor)
            factors.append(factor)
        return Term(term.coefficient, tuple(one for one in factors if one not in gone))

    def _stage(self, value: Value, pattern: Pattern, stages: dict[str, Stage]) -> Stage:
        place = value.name, key_of(pattern)
        found = self._stages.get(place)
        if found is None:
            number = self._numbers[value.name] = self._numbers.get(value.name, 0) + 1
            function, polynomial = self._functions.get(value.name), None
            operands = []
            if function is not None:
                for one in {v.name: v for v in function.operands}.values():
                    term, dims = operand_term(function, one, pattern)
                    operands.append((one, self._staged(Polynomial(dims, (term,)), stages)))
            else:
                polynomial = united(self._staged(put(self._polynomials[value.name], pattern), stages))
            inner = held(value, pattern, f"{value.name}@{number}")
            found = Stage(value, inner, pattern, polynomial, function, tuple(operands))
            self._stages[place] = found
        stages[found.value.name] = found
        return found


def _is_inside(access: Access, size: int) -> bool:
    """Whether it is nowhere out of a dimension of a size."""
    return access.lowest >= 0 and access.highest < size
