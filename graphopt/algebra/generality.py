"""What was made of a graph twice, with numbers for its sizes, for all sizes: nodes have symbols again."""

import math
from collections.abc import Sequence
from dataclasses import replace

import sympy
from torch.utils._sympy.functions import FloatTrueDiv

from graphopt.algebra.blocks import Change, Place, Spelled
from graphopt.algebra.equality import Equal
from graphopt.algebra.forms import Form, Readings
from graphopt.algebra.polynomial import Factor
from graphopt.algebra.stages import factors_of
from graphopt.analysis.instances import Instance, Instances, NotGeneral, has_plain_sizes
from graphopt.draft import Draft
from graphopt.ir.graph import Arg, Graph, Node, Slice, Value
from graphopt.ir.graph import Sequence as Items
from graphopt.ir.literal import Lit
from graphopt.ir.types import SymType, TensorType


def particular(whole: Spelled, instance: Instance, readings: Readings) -> frozenset[str]:
    """The names of what depends on how large symbolic sizes are: where a part of one is read, or the place is
    told from where another one ends."""
    nodes = {node.name: node for node in instance.given.nodes}
    even: dict[Form, bool] = {}

    def is_even(form: Form) -> bool:
        if form not in even:
            even[form] = all(_is_even(factor, instance) for factor in factors_of(form.polynomial))
        return even[form]

    found = set[str]()
    for node in whole.draft.graph.nodes:
        read = readings.of(node, tuple(map(readings.leaf, node.operands))) or ()
        plain = has_plain_sizes(nodes[whole.standing(node).name])
        if not plain or not all(is_even(one.form) for one in read):
            found.update(value.name for value in node.results)
    return frozenset(found)


def _is_even(factor: Factor, instance: Instance) -> bool:
    """Whether all dimensions of symbolic sizes, and those along which indices of such run, are read at one
    place, or as a whole."""
    if isinstance(factor, Equal):
        return not any(instance.is_symbolic(index.size) for index in factor.indices)
    for access, size in zip(factor.accesses, factor.sizes, strict=True):
        sizes = [index.size for index, _ in access.steps]
        whole = access.start == access.lowest == 0 and access.highest == size - 1
        symbolic = any(map(instance.is_symbolic, (size, *sizes)))
        if symbolic and sizes and not (whole and math.prod(sizes) == size):
            return False
    return True


def general(first: Change, second: Change, apart: Instances, draft: Draft) -> Change:
    """The change of the draft's graph, which has symbols, that is `first` in one instance of it, and `second`
    in the other. Raises NotGeneral where there is none."""
    if len(first.places) != len(second.places):
        raise NotGeneral
    found = _General(apart, draft)
    return replace(
        first,
        places=tuple(map(found.place, first.places, second.places)),
        absorbed=found.standing(first.absorbed, second.absorbed),
        removed=found.standing(first.removed, second.removed),
        again=found.standing(first.again, second.again),
    )


class _General:
    """Goes through two changes together."""

    def __init__(self, apart: Instances, draft: Draft) -> None:
        self._apart, self._draft = apart, draft
        # By the name that it has in the first instance: a value of the graph, or a new one.
        self._known = {value.name: value for value in draft.graph.values}
        self._nodes = {node.name: node for node in draft.graph.nodes}
        self._second = {name: name for name in self._known}

    def standing(self, first: Sequence[Node], second: Sequence[Node]) -> tuple[Node, ...]:
        """Nodes of the graph."""
        if [node.name for node in first] != [node.name for node in second]:
            raise NotGeneral
        return tuple(self._nodes[node.name] for node in first)

    def place(self, first: Place, second: Place) -> Place:
        """One place, and what comes to stand there."""
        (node,) = self.standing((first.node,), (second.node,))
        if len(first.added) != len(second.added):
            raise NotGeneral
        wanted = {value.name: root.type for value, root in zip(first.values, node.results, strict=True)}
        sizes = _Sizes(self._draft, node)
        added = list[Node]()
        for one, other in zip(first.added, second.added, strict=True):
            if _form(one) != _form(other):
                raise NotGeneral
            args = tuple(self._arg(a, b, sizes) for a, b in zip(one.args, other.args, strict=True))
            options = zip(one.kwargs, other.kwargs, strict=True)
            kwargs = tuple((name, self._arg(a, b, sizes)) for (name, a), (_, b) in options)
            results = list[Value]()
            for a, b in zip(one.results, other.results, strict=True):
                kind = self._apart.kind(a.type, b.type)
                results.append(Value(a.name, wanted.get(a.name, kind)))
                self._known[a.name], self._second[a.name] = results[-1], b.name
            added += sizes.made()
            added.append(replace(one, args=args, kwargs=kwargs, results=tuple(results)))
        values = tuple(self._value(a, b) for a, b in zip(first.values, second.values, strict=True))
        if [value.type for value in values] != [value.type for value in node.results]:
            raise NotGeneral
        return Place(node, values, tuple(added))

    def _value(self, first: Value, second: Value) -> Value:
        if self._second[first.name] != second.name:
            raise NotGeneral
        return self._known[first.name]

    def _arg(self, first: Arg, second: Arg, sizes: "_Sizes") -> Arg:
        match first, second:
            case Value(), Value():
                return self._value(first, second)
            case Lit(int() as one), Lit(int() as other) if type(one) is type(other) is int:
                dim = self._apart.dim(one, other)
                return first if isinstance(dim, int) else sizes.value(dim)
            case Lit(float() as one), Lit(float() as other) if one != other:
                return sizes.value(self._apart.scale(one, other))
            case Items(kind, items), Items(same, others) if (kind, len(items)) == (same, len(others)):
                return Items(kind, tuple(self._arg(a, b, sizes) for a, b in zip(items, others, strict=True)))
            case Slice(), Slice():
                ends = (first.start, second.start), (first.stop, second.stop), (first.step, second.step)
                return Slice(*(self._arg(a, b, sizes) for a, b in ends))
        if first != second:
            raise NotGeneral
        return first


class _Sizes:
    """Nodes that compute sizes in front of one node, each once."""

    def __init__(self, draft: Draft, like: Node) -> None:
        self._draft, self._like = draft, like
        self._known: dict[sympy.Expr, Value] = {}
        self._new: list[Node] = []

    def made(self) -> list[Node]:
        """The nodes that were made since."""
        found, self._new = self._new, []
        return found

    def value(self, size: sympy.Expr) -> Value:
        """A value that is the size: sums and products of symbols, or a number over one. Raises NotGeneral for
        others."""
        if size not in self._known:
            self._known[size] = self._made(size)
        return self._known[size]

    def _made(self, size: sympy.Expr) -> Value:
        if isinstance(size, sympy.Symbol):
            place = _place_of(size, self._draft.graph)
            if isinstance(place, Value):
                return place
            value, dim = place
            return self._node("aten.sym_size.int", (value, Lit(dim)), size)
        if isinstance(size, FloatTrueDiv):
            number, whole = size.args
            return self._node("operator.truediv", (Lit(float(number)), self.value(whole.args[0])), size)
        op = "operator.add" if isinstance(size, sympy.Add) else "operator.mul"
        first, rest = size.as_two_terms() if isinstance(size, sympy.Add | sympy.Mul) else _halves(size)
        return self._node(op, (self._operand(rest), self._operand(first)), size)

    def _operand(self, size: sympy.Expr) -> Value | Lit:
        return Lit(int(size)) if isinstance(size, sympy.Integer) else self.value(size)

    def _node(self, op: str, args: tuple[Value | Lit, ...], size: sympy.Expr) -> Value:
        kind = "float" if isinstance(size, FloatTrueDiv) else "int"
        node = self._draft.node(op, args, SymType(kind, size), like=self._like)
        self._new.append(node)
        return node.results[0]


def _form(node: Node) -> tuple[object, ...]:
    return node.op, len(node.args), tuple(name for name, _ in node.kwargs), len(node.results)


def _halves(power: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr]:
    base, exponent = power.as_base_exp()
    if not isinstance(exponent, sympy.Integer) or exponent < 2:
        raise NotGeneral
    return base, base ** (exponent - 1)


def _place_of(symbol: sympy.Symbol, graph: Graph) -> Value | tuple[Value, int]:
    """The input that is a size, or one and which of its dimensions has it. Raises NotGeneral."""
    for entry in graph.inputs:
        kind = entry.value.type
        if isinstance(kind, SymType) and kind.expr == symbol:
            return entry.value
        if isinstance(kind, TensorType) and symbol in kind.shape:
            return entry.value, kind.shape.index(symbol)
    raise NotGeneral
