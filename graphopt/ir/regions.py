"""Sub-graphs apart from the names in them: comparing two, and writing one out under new names."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

from graphopt.ir.graph import Arg, Graph, Mapping, Node, Slice, Value, replace_values
from graphopt.ir.graph import Sequence as Operands


def key_of(arg: Arg, of_value: Callable[[Value], object]) -> object:
    """Hashable, and equal for operands that are alike: literals by type and bits, sub-graphs by structure,
    each value as `of_value` says."""
    match arg:
        case Value():
            return of_value(arg)
        case Operands(kind, items):
            return kind, tuple(key_of(item, of_value) for item in items)
        case Slice(start, stop, step):
            return "slice", tuple(key_of(item, of_value) for item in (start, stop, step))
        case Mapping(pairs):
            return "mapping", tuple((name, key_of(item, of_value)) for name, item in pairs)
        case Graph():
            return structure_of(arg)
        case _:
            return arg


class _Hashed:
    """Equal where its parts are, which are hashed once."""

    __slots__ = ("_hash", "_parts")

    def __init__(self, *parts: object) -> None:
        self._parts = parts
        self._hash = hash(parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hashed) and self._parts == other._parts


class Skeleton(_Hashed):
    """A node but for its name and origins and for what it reads: equal for nodes whose operator, literals,
    sub-graphs and result types are the same, and which read values at the same places."""

    __slots__ = ()

    def __init__(self, node: Node) -> None:
        places = itertools.count()

        def shape(arg: Arg) -> object:
            return key_of(arg, lambda _: next(places))

        super().__init__(
            node.op,
            tuple(map(shape, node.args)),
            tuple((name, shape(arg)) for name, arg in node.kwargs),
            tuple(value.type for value in node.results),
            node.many,
        )


def likeness(node: Node) -> object:
    """Equal for nodes that are the same but for names and origins: the layers of a model."""
    return node.fact(_Likeness)


class _Likeness(_Hashed):
    __slots__ = ()

    def __init__(self, node: Node) -> None:
        numbers: dict[str, int] = {}
        pattern = tuple(numbers.setdefault(value.name, len(numbers)) for value in node.operands)
        super().__init__(node.fact(Skeleton), pattern, tuple(value.type for value in node.operands))


def structure_of(graph: Graph) -> object:
    """Hashable, and equal for graphs that are the same but for names and origins."""
    number = {value.name: i for i, value in enumerate(graph.values)}

    def structure(arg: Arg) -> object:
        return key_of(arg, lambda value: ("value", number[value.name]))

    return (
        tuple(entry.value.type for entry in graph.inputs),
        tuple(
            (
                node.op,
                tuple(map(structure, node.args)),
                tuple((name, structure(arg)) for name, arg in node.kwargs),
                tuple(value.type for value in node.results),
                node.many,
            )
            for node in graph.nodes
        ),
        tuple(map(structure, graph.outputs)),
        graph.bare,
    )


def written_out(
    region: Graph, given: Sequence[Value], renamed: Callable[[str], str]
) -> tuple[tuple[Node, ...], tuple[Arg, ...]]:
    """The nodes of a region under other names, reading the given values in place of its inputs; and what
    it returns, in these terms."""
    values = {entry.value.name: value for entry, value in zip(region.inputs, given, strict=True)}
    nodes = []
    for node in region.nodes:
        results = tuple(replace(value, name=renamed(value.name)) for value in node.results)
        nodes.append(
            replace(
                node,
                name=renamed(node.name) if node.many else results[0].name,
                args=tuple(replace_values(arg, values) for arg in node.args),
                kwargs=tuple((name, replace_values(arg, values)) for name, arg in node.kwargs),
                results=results,
            )
        )
        values.update(zip((value.name for value in node.results), results, strict=True))
    return tuple(nodes), tuple(replace_values(output, values) for output in region.outputs)
