"""Frozen SSA graphs: values, nodes, inputs, and the invariants that hold between them."""

from collections.abc import Callable, Iterator
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

from graphopt.errors import InvalidGraph
from graphopt.ir.literal import Lit
from graphopt.ir.types import ListType, NoneType, SymType, TensorType, Type

_Analysis = TypeVar("_Analysis")
_Fact = TypeVar("_Fact")
_Kind = TypeVar("_Kind", bound="Callable[..., Any]")


@dataclass(frozen=True, slots=True)
class Value:
    """One result of one node, or one input. Its name is unique in its graph."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list or tuple of operands."""

    kind: str  # "list" or "tuple"
    items: "tuple[Arg, ...]"


@dataclass(frozen=True, slots=True)
class Slice:
    """A Python slice used as an operand."""

    start: "Arg"
    stop: "Arg"
    step: "Arg"


@dataclass(frozen=True, slots=True)
class Mapping:
    """A dictionary with string keys used as an operand, in insertion order."""

    items: "tuple[tuple[str, Arg], ...]"


Arg: TypeAlias = "Value | Lit | Sequence | Slice | Mapping | Graph"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a node came from: a source line and the module that ran it."""

    file: str
    line: int
    text: str
    module: str


@dataclass(frozen=True, slots=True)
class Node:
    """One operator applied to operands.

    `many` tells an operator that returns a sequence (one result for each item) from one that returns
    its only result bare.
    """

    name: str
    op: str
    args: tuple[Arg, ...]
    kwargs: tuple[tuple[str, Arg], ...]
    results: tuple[Value, ...]
    many: bool = False
    origins: tuple[Origin, ...] = ()
    operands: tuple[Value, ...] = field(init=False, compare=False, repr=False)
    """Every value this node reads, in order, repeats included."""
    _facts: dict[object, Any] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        found: list[Value] = []
        for arg in (*self.args, *(arg for _, arg in self.kwargs)):
            if type(arg) is Value:
                found.append(arg)
            elif type(arg) is not Lit:
                found.extend(values_in(arg))
        object.__setattr__(self, "operands", tuple(found))
        object.__setattr__(self, "_facts", {})

    def fact(self, kind: "Callable[[Node], _Fact]") -> "_Fact":
        """A pure function of the node, computed once, for all graphs that have it."""
        found: _Fact | None = self._facts.get(kind)
        if found is None:
            found = self._facts[kind] = kind(self)
        return found

    @property
    def size(self) -> int:
        """How many nodes it is, those of its sub-graphs included."""
        regions = self.regions
        return 1 + sum(graph.size for graph in regions) if regions else 1

    @property
    def regions(self) -> "tuple[Graph, ...]":
        """The sub-graphs among the operands."""
        return self.fact(_regions)


@dataclass(frozen=True, slots=True)
class Argument:
    """An input that the caller passes: the leaf at `index` of the flattened arguments."""

    index: int


@dataclass(frozen=True, slots=True)
class State:
    """An input that the model owns, by qualified name: a parameter, a buffer, a tensor in an attribute
    (or in a list or dictionary there), or one that forward reads from a closure or global."""

    kind: str  # "param", "buffer", "attribute" or "closure"
    path: str


@dataclass(frozen=True, slots=True)
class Constant:
    """An input that the program itself owns: a tensor that forward makes from Python numbers."""

    name: str


@dataclass(frozen=True, slots=True)
class Kept:
    """An input that an earlier call has computed: the kept value of this number."""

    index: int


Source: TypeAlias = Argument | State | Constant | Kept


@dataclass(frozen=True, slots=True)
class Input:
    """An input value and where it comes from."""

    value: Value
    source: Source


_OF_NODES: set[object] = set()


def of_nodes(kind: _Kind) -> _Kind:
    """Says of an analysis that it is the same whatever a graph keeps from call to call."""
    _OF_NODES.add(kind)
    return kind


@dataclass(frozen=True)
class Graph:
    """Inputs, nodes in order of execution, and the flat list of outputs; `bare` where the only output is
    returned as it is and not in a tuple.

    A sub-graph (an operand of a higher-order operator) reads nothing but its own inputs. `kept` names the
    tensors that are not computed again on every call: they depend on no element of an argument.
    """

    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Arg, ...]
    bare: bool = False
    kept: tuple[str, ...] = ()
    checked: bool = field(default=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.checked:
            self.check()

    @cached_property
    def _analyses(self) -> dict[object, Any]:
        return {}

    def analysis(self, kind: "Callable[[Graph], _Analysis]") -> "_Analysis":
        """A pure function of the graph, computed once."""
        if kind not in self._analyses:
            self._analyses[kind] = kind(self)
        found: _Analysis = self._analyses[kind]
        return found

    def keeping(self, names: tuple[str, ...]) -> "Graph":
        """The same graph where other values are kept: what does not depend on these is known of it, too."""
        found = replace(self, kept=names, checked=True)
        found._check_kept()
        known = {kind: one for kind, one in self._analyses.items() if kind in _OF_NODES}
        found.__dict__.update(_analyses=known, producer=self.producer, uses=self.uses, returned=self.returned)
        return found

    @cached_property
    def producer(self) -> dict[str, Node]:
        """The node that makes each value, by the value's name; inputs are absent."""
        return {value.name: node for node in self.nodes for value in node.results}

    @cached_property
    def uses(self) -> dict[str, tuple[Node, ...]]:
        """The nodes that read each value, by the value's name, in order, each once."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for value in node.operands:
                readers = found.get(value.name)
                if readers is None:
                    found[value.name] = [node]
                elif readers[-1] is not node:
                    readers.append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @property
    def size(self) -> int:
        """How many nodes there are, those of sub-graphs included."""
        return sum(node.size for node in self.nodes)

    @property
    def values(self) -> Iterator[Value]:
        """Every value, in order of definition."""
        for entry in self.inputs:
            yield entry.value
        for node in self.nodes:
            yield from node.results

    @property
    def symbols(self) -> frozenset[Any]:
        """The symbols that the sizes of its inputs are made of."""
        kinds = (entry.value.type for entry in self.inputs)
        dims = (dim for kind in kinds if isinstance(kind, TensorType) for dim in kind.shape)
        return frozenset(symbol for dim in dims if not isinstance(dim, int) for symbol in dim.free_symbols)

    @cached_property
    def returned(self) -> frozenset[str]:
        """The names of the values among the outputs."""
        return frozenset(value.name for output in self.outputs for value in values_in(output))

    def check(self) -> None:
        """Raises InvalidGraph, naming the node, unless every invariant holds: names are unique, every
        operand was made before and is unchanged, and result types fit the result form."""
        known: dict[str, Value] = {}
        names: set[str] = set()
        for entry in self.inputs:
            _define(entry.value, known, f"input %{entry.value.name}")
        for node in self.nodes:
            if node.name in names:
                raise InvalidGraph("two nodes have one name", where=_where(node))
            names.add(node.name)
            for value in node.operands:
                if known.get(value.name) is not value:
                    _known(value, known, _where(node))
            if not node.many and len(node.results) != 1:
                raise InvalidGraph(f"{len(node.results)} results where one was declared", where=_where(node))
            for value in node.results:
                if value.name in known:
                    _define(value, known, _where(node))
                known[value.name] = value
        self._check_kept()
        if self.bare and len(self.outputs) != 1:
            raise InvalidGraph(f"{len(self.outputs)} outputs where one is returned bare", where="output")
        for output in self.outputs:
            for value in values_in(output):
                _known(value, known, "output")
                if isinstance(value.type, NoneType | ListType):
                    raise InvalidGraph(f"%{value.name} is no tensor or number", where="output")

    def _check_kept(self) -> None:
        if not self.kept:
            return
        moving = {entry.value.name for entry in self.inputs if isinstance(entry.source, Argument)}
        for node in self.nodes:
            if any(value.name in moving and not _is_size(value) for value in node.operands):
                moving.update(value.name for value in node.results)
        for name in self.kept:
            if name not in self.producer:
                raise InvalidGraph(f"%{name} is kept, and no node makes it", where="graph")
            if name in moving:
                where = f"node {self.producer[name].name}"
                raise InvalidGraph(f"%{name} is kept, and depends on an argument", where=where)


def _where(node: Node) -> str:
    return f"node {node.name} ({node.op})"


def _is_size(value: Value) -> bool:
    """Whether it is a number that the sizes of the arguments determine."""
    return isinstance(value.type, SymType) and value.type.expr is not None


def _define(value: Value, known: dict[str, Value], where: str) -> None:
    if value.name in known:
        raise InvalidGraph(f"%{value.name} is defined twice", where=where)
    known[value.name] = value


def _known(value: Value, known: dict[str, Value], where: str) -> None:
    defined = known.get(value.name)
    if defined is None:
        raise InvalidGraph(f"%{value.name} is used before it is defined", where=where)
    if defined is not value and defined != value:
        raise InvalidGraph(f"%{value.name} is used with another type than defined", where=where)


def values_in(arg: Arg) -> Iterator[Value]:
    """Every value in an operand, in order; sub-graphs are closed and have none."""
    match arg:
        case Value():
            yield arg
        case Sequence(_, items):
            for item in items:
                yield from values_in(item)
        case Slice(start, stop, step):
            for item in (start, stop, step):
                yield from values_in(item)
        case Mapping(pairs):
            for _, item in pairs:
                yield from values_in(item)
        case _:
            return


def graphs_in(arg: Arg) -> Iterator[Graph]:
    """Every sub-graph in an operand, in order."""
    match arg:
        case Graph():
            yield arg
        case Sequence(_, items):
            for item in items:
                yield from graphs_in(item)
        case Mapping(pairs):
            for _, item in pairs:
                yield from graphs_in(item)
        case _:
            return


def _regions(node: Node) -> tuple[Graph, ...]:
    return tuple(graph for arg in (*node.args, *(arg for _, arg in node.kwargs)) for graph in graphs_in(arg))


def replace_values(arg: Arg, replacement: MappingOf[str, "Value | Lit"]) -> Arg:
    """The operand with values exchanged by name; what is not named stays."""
    match arg:
        case Value():
            return replacement.get(arg.name, arg)
        case Sequence(kind, items):
            return Sequence(kind, tuple(replace_values(a, replacement) for a in items))
        case Slice(start, stop, step):
            return Slice(
                replace_values(start, replacement),
                replace_values(stop, replacement),
                replace_values(step, replacement),
            )
        case Mapping(pairs):
            return Mapping(tuple((k, replace_values(a, replacement)) for k, a in pairs))
        case _:
            return arg
