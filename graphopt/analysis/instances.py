"""Graphs with symbolic sizes, looked at with numbers in their place, and what is found there, for all sizes.

What a rewrite needs of sizes is mostly whether they are equal. So a graph is looked at twice, with numbers
that nothing else in it has; what is found both times, but for these numbers, holds for the symbols.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations_with_replacement

import sympy
from torch.utils._sympy.functions import FloatTrueDiv, ToFloat

from graphopt.analysis.sizes import Sizes
from graphopt.ir.graph import Arg, Graph, Node, Sequence, Slice, Value, replace_values
from graphopt.ir.literal import Lit
from graphopt.ir.types import Dim, SymType, TensorType, Type

SMALLEST = 5, 31
"""The smallest number that stands for a size: 2 and 3 are in every graph; and the one to try next, for prices
differ less among larger ones."""
DEGREE, NEAR = 4, 2
"""Of products of symbols, and how far from one, or from a size of the graph, others are said."""
EXACT = 1e-15
"""How near a number over a size has to be, relative to it."""


class NotGeneral(Exception):
    """It holds for some numbers only."""


@dataclass(frozen=True)
class Instance:
    """A graph with numbers in the place of symbols. Nodes and values have the names that they had."""

    given: Graph
    numbers: Mapping[sympy.Symbol, int]
    _found: dict[Dim, Dim] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def graph(self) -> Graph:
        """The graph: without the nodes that compute sizes, for what reads these has the numbers."""
        sizes = {value.name: self._size(value) for value in self.given.values}
        known = {
            v.name: self._value(v) if (n := sizes[v.name]) is None else Lit(n) for v in self.given.values
        }
        inputs = tuple(replace(entry, value=self._value(entry.value)) for entry in self.given.inputs)
        standing = (
            n for n in self.given.nodes if any(sizes[v.name] is None for v in n.results) or not n.results
        )
        nodes = tuple(self._node(node, known) for node in standing)
        outputs = tuple(replace_values(output, known) for output in self.given.outputs)
        kept = tuple(name for name in self.given.kept if sizes[name] is None)
        return replace(self.given, inputs=inputs, nodes=nodes, outputs=outputs, kept=kept)

    def is_symbolic(self, size: int) -> bool:
        """Whether a size stands for one with symbols in it."""
        return any(size % number == 0 for number in self.numbers.values())

    def number(self, dim: Dim) -> Dim:
        """What a size is here: itself where symbols are in it that no number stands for."""
        if isinstance(dim, int):
            return dim
        if dim not in self._found:
            number = dim.subs(self.numbers)
            self._found[dim] = int(number) if number.is_Integer else dim
        return self._found[dim]

    def _size(self, value: Value) -> int | None:
        kind = value.type
        if not isinstance(kind, SymType) or kind.expr is None or kind.kind != "int":
            return None
        number = self.number(kind.expr)
        return number if isinstance(number, int) else None

    def _value(self, value: Value) -> Value:
        kind = value.type
        if not isinstance(kind, TensorType) or kind.is_static:
            return value
        strides = None if kind.strides is None else tuple(map(self.number, kind.strides))
        return Value(value.name, replace(kind, shape=tuple(map(self.number, kind.shape)), strides=strides))

    def _node(self, node: Node, known: dict[str, Value | Lit]) -> Node:
        return replace(
            node,
            args=tuple(replace_values(arg, known) for arg in node.args),
            kwargs=tuple((name, replace_values(arg, known)) for name, arg in node.kwargs),
            results=tuple(map(self._value, node.results)),
        )


@dataclass(frozen=True)
class Instances:
    """Two instances of one graph."""

    first: Instance
    second: Instance

    def dim(self, first: Dim, second: Dim) -> Dim:
        """The size that is one number in the first instance, and another in the second: a multiple of a
        product of symbols, or one that the graph has, but for a small number. Raises NotGeneral."""
        if first == second:
            return first
        if isinstance(first, int) and isinstance(second, int):
            for size, (one, other) in self._sizes.items():
                times = first // one
                if times and times * one == first and times * other == second:
                    return times * size
            for size, (one, other) in self._sizes.items():
                if abs(first - one) <= NEAR and first - one == second - other:
                    return size + (first - one)
        raise NotGeneral

    def scale(self, first: float, second: float) -> sympy.Expr:
        """What is one number in the first instance, and another in the second: a multiple of a size, or a
        number over one. Raises NotGeneral."""
        for size, (one, other) in self._sizes.items():
            times, number = first / one, float(f"{first * one:.12g}")
            if times.is_integer() and times * other == second:
                return int(times) * size
            shares = (number / one, first), (number / other, second)
            if all(math.isclose(*pair, rel_tol=EXACT) for pair in shares):
                return FloatTrueDiv(sympy.Float(number), ToFloat(size))
        raise NotGeneral

    def kind(self, first: Type, second: Type) -> Type:
        """The type that is one type in the first instance, and another in the second. Raises NotGeneral."""
        if first == second:
            return first
        if not isinstance(first, TensorType) or not isinstance(second, TensorType):
            raise NotGeneral
        if (first.dtype, first.device) != (second.dtype, second.device):
            raise NotGeneral
        shapes, strides = (first.shape, second.shape), (first.strides or (), second.strides or ())
        if len(shapes[0]) != len(shapes[1]) or (first.strides is None) != (second.strides is None):
            raise NotGeneral
        shape, steps = (tuple(map(self.dim, *pair)) for pair in (shapes, strides))
        return replace(first, shape=shape, strides=None if first.strides is None else steps)

    def said(self, first: str, second: str) -> str:
        """What was said of either, with sizes for the numbers that differ; "" where more does."""
        numbers = zip(re.findall(r"\d+", first), re.findall(r"\d+", second), strict=False)
        if re.sub(r"\d+", "#", first) != re.sub(r"\d+", "#", second):
            return ""
        try:
            sizes = iter([str(self.dim(int(one), int(other))) for one, other in numbers])
        except NotGeneral:
            return ""
        return re.sub(r"\d+", lambda _: next(sizes), first)

    @cached_property
    def _sizes(self) -> dict[sympy.Expr, tuple[int, int]]:
        """Sizes, and what they are in either: products of symbols, then others of the graph; the simplest
        first."""
        symbols = [*self.first.numbers]
        products = [
            sympy.Mul(*factors)
            for degree in range(1, DEGREE + 1)
            for factors in combinations_with_replacement(symbols, degree)
        ]
        every = {dim for value in self.first.given.values for dim in _dims(value.type)}
        others = sorted((d for d in every if not isinstance(d, int)), key=lambda d: (d.count_ops(), str(d)))
        found = {}
        for size in (*products, *others):
            one, other = self.first.number(size), self.second.number(size)
            if isinstance(one, int) and isinstance(other, int) and one > 0:
                found[size] = one, other
        return found


def instances(graph: Graph, sizes: Sizes, least: int = SMALLEST[0]) -> Instances:
    """Two instances of a graph with symbolic sizes. Numbers are as near the known `sizes` as may be, and not
    below the `least`."""
    symbols = sorted(graph.symbols, key=str)
    static = set(_static(graph))
    taken: set[int] = set()

    def chosen() -> dict[sympy.Symbol, int]:
        found = {}
        for symbol in symbols:
            number = sympy.nextprime(max(least, sizes.number(symbol)) - 1)
            while number in taken or any(other % number == 0 for other in static):
                number = sympy.nextprime(number)
            taken.add(number)
            found[symbol] = int(number)
        return found

    return Instances(Instance(graph, chosen()), Instance(graph, chosen()))


def has_plain_sizes(node: Node) -> bool:
    """Whether the sizes that a node reads and makes are numbers, and multiples of products of symbols: of
    others, such as the smaller of two, numbers do not tell which it is."""
    kinds = (value.type for value in (*node.operands, *node.results))
    dims = (dim for kind in kinds if isinstance(kind, TensorType) for dim in kind.shape)
    return all(isinstance(dim, int) or _is_product(dim) for dim in dims)


def _is_product(size: sympy.Expr) -> bool:
    factors = sympy.Mul.make_args(size)
    return all(
        isinstance(base, sympy.Symbol) and isinstance(power, sympy.Integer) and power > 0
        for factor in factors
        if not isinstance(factor, sympy.Integer)
        for base, power in (factor.as_base_exp(),)
    )


def _dims(kind: Type) -> Iterator[Dim]:
    if isinstance(kind, TensorType):
        yield from kind.shape
        yield from kind.strides or ()


def _static(graph: Graph) -> Iterator[int]:
    """The numbers in a graph that stand for no symbol, but 0."""
    for value in graph.values:
        for dim in _dims(value.type):
            numbers = (dim,) if isinstance(dim, int) else map(int, dim.atoms(sympy.Integer))
            yield from (abs(number) for number in numbers if number)
    for node in graph.nodes:
        for arg in (*node.args, *(arg for _, arg in node.kwargs)):
            yield from (abs(number) for number in _literals(arg) if number)


def _literals(arg: Arg) -> Iterator[int]:
    match arg:
        case Lit(int() as number):
            yield int(number)
        case Sequence(_, items):
            for item in items:
                yield from _literals(item)
        case Slice(start, stop, step):
            for item in (start, stop, step):
                yield from _literals(item)
