"""Who shares storage with whom, what is written when, and what a caller can come to hold.

Values fall into classes: two values of one class may share storage, two of different classes never do.
All arguments, state and constants are one class, since a caller may pass views of anything. A write
gives its class a new version; a value read at two versions is two different values.
"""

from bisect import bisect_left

from graphopt.ir.graph import Arg, Graph, Node, Value, values_in
from graphopt.ir.ops import Alias, Effect, Op, effect_of, is_pure, lookup
from graphopt.ir.types import ListType, TensorType


class Memory:
    """The storage classes, writes and escapes of one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._parent: dict[str, str] = {}
        self._position = {node.name: i for i, node in enumerate(graph.nodes)}
        self._written: dict[str, list[int]] = {}
        inputs = [entry.value for entry in graph.inputs]
        for value in inputs:
            self._unite(value, inputs[0])
        written: list[tuple[int, Value]] = []
        for i, node in enumerate(graph.nodes):
            written += [(i, value) for value in self._visit(node)]
        for i, value in written:
            self._written.setdefault(self._root(value.name), []).append(i)
        self._escaping = self._find_escaping()

    def position(self, node: Node) -> int:
        """The node's place in the order of execution."""
        return self._position[node.name]

    def version(self, value: Value, node: Node) -> int:
        """How often the value's storage may have been written before a node runs."""
        return bisect_left(self._writes(value), self._position[node.name])

    def writers(self, value: Value, node: Node) -> list[Node]:
        """The nodes that may have written the value's storage before a node runs."""
        return [self.graph.nodes[i] for i in self._writes(value) if i < self._position[node.name]]

    def is_callers(self, value: Value) -> bool:
        """Whether the value may share storage with an argument, state or constant."""
        inputs = self.graph.inputs
        return bool(inputs) and self._root(value.name) == self._root(inputs[0].value.name)

    def written_after(self, value: Value, node: Node) -> bool:
        """Whether the value's storage may be written once a node has run."""
        writes = self._writes(value)
        return bool(writes) and writes[-1] > self._position[node.name]

    def escapes(self, value: Value) -> bool:
        """Whether the caller can come to hold the value, a view of it, or what may be either."""
        return value.name in self._escaping

    def _writes(self, value: Value) -> list[int]:
        return self._written.get(self._root(value.name), []) if _has_storage(value) else []

    def _visit(self, node: Node) -> list[Value]:
        """Unites what a node makes share storage; returns the operands that it may write."""
        operands = [value for value in node.operands if _has_storage(value)]
        results = [value for value in node.results if _has_storage(value)]
        effect, op = effect_of(node), lookup(node.op)
        together = operands + results
        if effect is not Effect.OPAQUE and op.alias is Alias.FRESH and effect is not Effect.WRITES:
            together = []
        for value in together:
            self._unite(value, together[0])
        if effect is Effect.OPAQUE:
            return [] if is_pure(node) else operands
        return written_operands(node, op) if effect is Effect.WRITES else []

    def _find_escaping(self) -> set[str]:
        """Outputs, and backwards everything that may share storage with one through the nodes between."""
        found = {value.name for output in self.graph.outputs for value in values_in(output)}
        for node in reversed(self.graph.nodes):
            effect, alias = effect_of(node), lookup(node.op).alias
            passes_on = any(result.name in found for result in node.results)
            if effect is Effect.OPAQUE or (
                passes_on and (alias is not Alias.FRESH or effect is Effect.WRITES)
            ):
                found.update(value.name for value in node.operands)
        return found

    def _root(self, name: str) -> str:
        while (parent := self._parent.setdefault(name, name)) != name:
            self._parent[name] = self._parent[parent]
            name = parent
        return name

    def _unite(self, a: Value, b: Value) -> None:
        self._parent[self._root(a.name)] = self._root(b.name)


def written_operands(node: Node, op: Op) -> list[Value]:
    """The operand values that a WRITES node writes into."""
    named: dict[str, Arg] = dict(zip(op.parameters, node.args, strict=False)) | dict(node.kwargs)
    return [value for name in op.written if name in named for value in values_in(named[name])]


def _has_storage(value: Value) -> bool:
    return isinstance(value.type, TensorType | ListType)
