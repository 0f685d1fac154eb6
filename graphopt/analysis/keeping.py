"""Which derived values to keep from call to call: the set that makes a call cheapest, memory priced in.

Every derived value that a call reads is either computed in the call, which costs time and needs its
operands in turn, or kept, which costs memory and a check of its sources. The cheapest choice is a minimum
cut (project selection): between the source and each node its cost, between each node and its result the
price of keeping that, and what the call reads tied to the sink.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import networkx

from graphopt.analysis.dependence import Dependence
from graphopt.ir.graph import Graph, Node, State, Value
from graphopt.ir.types import TensorType

SECONDS_PER_BYTE = 1e-12
"""The price of memory: a value is worth a gigabyte where it saves a millisecond a call."""
SECONDS_PER_SOURCE = 0.5e-6
"""What it takes to see that one tensor is unchanged."""
SECONDS_PER_CALL = 3e-6
FREE_BYTES = 64 << 20

_UNIT = 1e15  # capacities are whole femtoseconds
_NEVER = int(1e6 * _UNIT)


def price(size: int, sources: int) -> float:
    """What keeping so many bytes, made from so many tensors, costs a call, in seconds."""
    return size * SECONDS_PER_BYTE + sources * SECONDS_PER_SOURCE


def budget_of(graph: Graph, size: Callable[[Value], int]) -> int:
    """How many bytes may be kept: as many as the model's own state takes, and some."""
    return FREE_BYTES + sum(size(entry.value) for entry in graph.inputs if isinstance(entry.source, State))


@dataclass(frozen=True, slots=True)
class Keep:
    """A value to keep, and the nodes that need not run again because of it, each counted once."""

    value: Value
    spared: tuple[Node, ...]
    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Choice:
    """What to keep, and of other derived values that a call reads, why not."""

    keeps: tuple[Keep, ...]
    reasons: tuple[tuple[Value, str], ...]


def choose_kept(
    graph: Graph,
    dependence: Dependence,
    may_keep: Callable[[Value], bool],
    seconds: Callable[[Node], float],
    size: Callable[[Value], int],
) -> Choice:
    """The choice for a graph. `seconds` is what a node costs in a call, `size` the bytes of a value.

    What is kept takes no more memory than the model's own state and `FREE_BYTES`: memory grows dearer
    until it fits.
    """
    demanded = dependence.demanded()
    cones = _Cones(graph, dependence)
    nodes = cones.of(demanded.values())
    budget = budget_of(graph, size)
    options = _Options(
        nodes, demanded, {node.name: seconds(node) for node in nodes},
        {value.name: size(value) if may_keep(value) else None for node in nodes for value in node.results},
    )  # fmt: skip
    dearness = 1
    keeps = _cheapest(options, cones, dearness)
    while sum(keep.bytes for keep in keeps) > budget:
        dearness *= 4
        keeps = _cheapest(options, cones, dearness)
    if sum(keep.seconds for keep in keeps) <= SECONDS_PER_CALL:
        keeps = ()
    return Choice(keeps, tuple(_reasons(options, cones, keeps)))


@dataclass(frozen=True)
class _Options:
    nodes: tuple[Node, ...]
    demanded: dict[str, Value]
    seconds: dict[str, float]  # by node
    bytes: dict[str, int | None]  # by value; None where it may not be kept


def _cheapest(options: _Options, cones: "_Cones", dearness: int) -> tuple[Keep, ...]:
    prices = {
        name: None if size is None else price(size * dearness, cones.sources(name))
        for name, size in options.bytes.items()
    }
    running, needed = _computed_again(options, prices)
    counted = set(running)
    keeps = []
    for node in options.nodes:
        for value in node.results:
            if value.name in needed and node.name not in running:
                spared = tuple(one for one in cones.of([value]) if one.name not in counted)
                counted.update(one.name for one in spared)
                saved = sum(options.seconds[one.name] for one in spared)
                keeps.append(Keep(value, spared, saved, options.bytes[value.name] or 0))
    return tuple(keeps)


def _reasons(options: _Options, cones: "_Cones", keeps: Iterable[Keep]) -> Iterator[tuple[Value, str]]:
    kept = {keep.value.name for keep in keeps}
    spared = {node.name for keep in keeps for node in keep.spared}
    for name, value in options.demanded.items():
        again = [node.name for node in cones.of([value]) if node.name not in spared]
        seconds = sum(options.seconds[node] for node in again)
        if name in kept or not isinstance(value.type, TensorType) or seconds <= SECONDS_PER_CALL:
            continue
        size = options.bytes[name]
        if size is None:
            yield value, "the caller may hold its memory, something writes it, or a gradient flows through"
        else:
            yield value, f"keeping its {size / 1e6:.3g} MB would save {seconds * 1e6:.3g} µs a call"


class _Cones:
    """The nodes and the state that derived values are computed from."""

    def __init__(self, graph: Graph, dependence: Dependence) -> None:
        self._producer = graph.producer
        self._nodes = {node.name: node for node in dependence.nodes}
        self._sources: dict[str, frozenset[str]] = {}
        for node in dependence.nodes:
            read = frozenset[str]().union(*map(self._inputs, node.operands))
            self._sources.update((result.name, read) for result in node.results)

    def of(self, values: Iterable[Value]) -> tuple[Node, ...]:
        """The nodes that lead to some values, in order of execution."""
        found: set[str] = set()
        open_ = [*values]
        while open_:
            node = self._producer.get(open_.pop().name)
            if node is not None and node.name in self._nodes and node.name not in found:
                found.add(node.name)
                open_.extend(node.operands)
        return tuple(node for name, node in self._nodes.items() if name in found)

    def sources(self, name: str) -> int:
        """How many inputs a value is computed from."""
        return len(self._sources[name])

    def _inputs(self, value: Value) -> frozenset[str]:
        if value.name in self._producer:
            return self._sources.get(value.name, frozenset())
        return frozenset((value.name,))


def _computed_again(options: _Options, prices: dict[str, float | None]) -> tuple[set[str], set[str]]:
    """The nodes that run in every call, and the values that a call needs, in the cheapest choice."""
    network = networkx.DiGraph()
    numbers: dict[tuple[str, str], int] = {}

    def vertex(kind: str, name: str) -> int:  # numbers hash alike in every process
        return numbers.setdefault((kind, name), len(numbers) + 2)

    start, end = 0, 1
    network.add_nodes_from((start, end))
    for node in options.nodes:
        here = vertex("node", node.name)
        network.add_edge(start, here, capacity=int(options.seconds[node.name] * _UNIT))
        for value in node.results:
            price = prices[value.name]
            capacity = _NEVER if price is None else int(price * _UNIT) + 1
            network.add_edge(here, vertex("value", value.name), capacity=capacity)
            if value.name in options.demanded:
                network.add_edge(vertex("value", value.name), end, capacity=_NEVER)
        for value in node.operands:
            if ("value", value.name) in numbers:
                network.add_edge(vertex("value", value.name), here, capacity=_NEVER)
    _, (_, call) = networkx.minimum_cut(network, start, end)
    return (
        {name for (kind, name), number in numbers.items() if kind == "node" and number in call},
        {name for (kind, name), number in numbers.items() if kind == "value" and number in call},
    )
