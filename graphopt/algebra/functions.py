"""Operators that are no polynomials, but compute elements, or rows, of their result on their own."""

from dataclasses import dataclass, replace

from graphopt.ir.graph import Arg, Node, Value, replace_values
from graphopt.ir.graph import Sequence as Items
from graphopt.ir.literal import Lit
from graphopt.ir.locality import Locality, Reach, locality_of
from graphopt.ir.operands import operands_of, shape_of
from graphopt.ir.ops import Effect, effect_of, lookup
from graphopt.ir.resolve import resolve
from graphopt.ir.types import TensorType


@dataclass(frozen=True)
class Function:
    """A node whose result can be computed in part. `rows` are the dimensions of the first operand that it
    runs along, none where it works element by element; `places` says for each other dimension of that
    operand, in order, which of the result it is; `ends` are those of the result that rows make."""

    node: Node
    fact: Locality
    operands: tuple[Value, ...]
    rows: tuple[int, ...] = ()
    places: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    @property
    def result(self) -> Value:
        """What it makes."""
        return self.node.results[0]

    def at(self, operands: dict[str, Value], before: int) -> tuple[tuple[Arg, ...], dict[str, Arg]]:
        """The operands of the same operator on parts, by name of what was cut: the dimensions that it runs
        along stand behind so many others then."""
        args = [replace_values(arg, operands) for arg in self.node.args]
        kwargs = {name: replace_values(arg, operands) for name, arg in self.node.kwargs}
        if self.fact.along == "dim":
            numbers = tuple(Lit(before + i) for i in range(len(self.rows)))
            given = operands_of(self.node).get("dim")
            dims: Arg = Items(given.kind, numbers) if isinstance(given, Items) else numbers[0]
            at = lookup(self.node.op).parameters.index("dim")
            if at < len(args):
                args[at] = dims
            else:
                kwargs["dim"] = dims
        return tuple(args), kwargs


def function_of(node: Node) -> Function | None:
    """What is known of a node; None where its result has to be computed as a whole."""
    fact = locality_of(node.op)
    tensors = (*node.operands, *node.results)
    if fact is None or effect_of(node) is not Effect.NONE:
        return None
    if not all(
        isinstance(v.type, TensorType) and v.type.is_static and 0 not in v.type.shape for v in tensors
    ):
        return None
    given = operands_of(node)
    cut = tuple(arg for name in fact.operands if isinstance(arg := given.get(name), Value))
    if (
        {value.name for value in node.operands}
        - {v.name for v in cut}
        - {arg.name for name in fact.whole if isinstance(arg := given.get(name), Value)}
    ):
        return None
    shape = shape_of(node.results[0])
    if fact.reach is Reach.EACH:
        return Function(node, fact, cut) if all(len(shape_of(one)) <= len(shape) for one in cut) else None
    if len(cut) != 1:
        return None
    rows = _rows(node, fact, shape_of(cut[0]))
    return None if rows is None else _by_rows(Function(node, fact, cut, rows), shape_of(cut[0]), shape)


def _by_rows(function: Function, operand: tuple[int, ...], result: tuple[int, ...]) -> Function | None:
    others = tuple(dim for dim in range(len(operand)) if dim not in function.rows)
    if len(result) == len(operand):
        places, ends = others, function.rows
    elif len(result) == len(others):
        places, ends = tuple(range(len(others))), ()
    else:
        return None
    if [operand[dim] for dim in others] != [result[place] for place in places]:
        return None
    return replace(function, places=places, ends=ends)


def _rows(node: Node, fact: Locality, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The dimensions that a node runs along; None where it does not say."""
    given = operands_of(node).get(fact.along, _default(node.op, fact.along))
    items = given.items if isinstance(given, Items) else (given,)
    values = (getattr(item, "value", None) for item in items)
    numbers = [value for value in values if type(value) is int]
    if not numbers or not shape:
        return None
    if fact.along == "normalized_shape":
        return tuple(range(len(shape) - len(numbers), len(shape)))
    found = tuple(number % len(shape) for number in numbers)
    # Others would have to be named in the order in which they come last.
    return found if found == tuple(sorted(set(found))) else None


def _default(op: str, name: str) -> Lit:
    schema = resolve(op)._schema  # type: ignore[attr-defined]
    default = next(one.default_value for one in schema.arguments if one.name == name)
    return Lit(default if type(default) is int else None)
