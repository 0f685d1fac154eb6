"""Which laws hold of a call, by its literals and by what is known of its operands."""

from graphopt.analysis.dependence import Dependence
from graphopt.analysis.intervals import ANY, Range, rounded
from graphopt.analysis.ranges import Ranges
from graphopt.ir.graph import Arg, Graph, Node, Value, of_nodes
from graphopt.ir.graph import Sequence as Items
from graphopt.ir.laws import Condition, Law, is_number, kind_of
from graphopt.ir.literal import Lit
from graphopt.ir.operands import operands_of
from graphopt.ir.types import TensorType


@of_nodes
class Lawful:
    """Says of the nodes of one graph which laws they are under."""

    def __init__(self, graph: Graph) -> None:
        self._dependence = graph.analysis(Dependence)
        self._ranges = graph.analysis(Ranges)

    def holds(self, law: Law, node: Node, operand: Value) -> bool:
        """Whether a node is as the law says: literals as named, all but the free parameters at defaults, the
        operand as its conditions have it."""
        if not isinstance(operand.type, TensorType) or kind_of(operand.type.dtype) not in tuple(law.kinds):
            return False
        given, literals = operands_of(node), dict(law.literals)
        named = all(
            is_number(self._literal(given.get(name), node), value) for name, value in literals.items()
        )
        known = {*law.operands, *literals, *law.free}
        return (
            named
            and set(given) <= known
            and all(self._meets(condition, node, operand) for condition in law.conditions)
        )

    def _literal(self, arg: "Arg | None", node: Node) -> object:
        """A literal, or that which a tensor is filled with."""
        return self._dependence.number(arg, node) if isinstance(arg, Value) else arg

    def _meets(self, condition: Condition, node: Node, operand: Value) -> bool:
        if condition.kind == "one":
            return _has_size_one(condition, node, operand)
        known = self._ranges.of(operand, node)
        if known is None:
            return False
        match condition.kind:
            case "number":
                return not known.nan
            case "finite":
                return known.is_finite
        bound = self._bound(condition, node, operand)
        return bound is None or _compares(condition.kind, known, bound)

    def _bound(self, condition: Condition, node: Node, operand: Value) -> Range | None:
        """What a bound lies between; None where there is none."""
        kind = operand.type
        assert isinstance(kind, TensorType)
        arg = operands_of(node).get(condition.bound)
        if arg is None:
            text = condition.bound if condition.default is None else condition.default
            if not text:
                return None
            if text.isidentifier():  # a parameter that has to be given
                return ANY
            arg = Lit(float(text))
        elif isinstance(arg, Lit) and kind_of(kind.dtype) == "i" and type(arg.value) is not int:
            return ANY  # both are made floats, which rounds
        found = self._ranges.of(arg, node) or ANY
        near = rounded(found, kind.dtype)
        return near if near == found or kind_of(kind.dtype) == "f" else ANY


def _compares(how: str, one: Range, bound: Range) -> bool:
    """Whether all numbers of one range compare so with all of another."""
    if bound.nan:
        return False
    match how:
        case ">=":
            return one.low >= bound.high
        case "<=":
            return one.high <= bound.low
        case ">":
            return one.low > bound.high
        case "<":
            return one.high < bound.low
        case ">>=":
            same = one.low == bound.high and (one.low != 0 or (one.is_positive and bound.is_positive))
            return one.low > bound.high or same
        case _:
            return one.high < bound.low or (one.high == bound.low != 0)


def _has_size_one(condition: Condition, node: Node, operand: Value) -> bool:
    """Whether an operand has one element along each dimension that a parameter names, or at all."""
    kind, arg = operand.type, operands_of(node).get(condition.bound)
    assert isinstance(kind, TensorType)
    if arg is None and condition.default:
        arg = Lit(int(condition.default))
    items = arg.items if isinstance(arg, Items) else () if arg is None else (arg,)
    rank, dims = len(kind.shape), [item.value for item in items if isinstance(item, Lit)]
    if not rank:
        return True
    if len(dims) < len(items) or not {*dims} <= {*range(-rank, rank)}:
        return False
    return all(size == 1 for n, size in enumerate(kind.shape) if not dims or {n, n - rank} & {*dims})
