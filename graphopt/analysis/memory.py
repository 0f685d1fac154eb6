"""Who shares storage with whom, what is written when, and what a caller can come to hold.

Values fall into classes: two values of one class may share storage, two of different classes never do.
All arguments, state and constants are one class, since a caller may pass views of anything. A write
gives its class a new version; a value read at two versions is two different values. Of an operator that
may return a view, `Views` knows whether it does where sizes are static; else it is taken to.
"""

from bisect import bisect_left
from collections import Counter
from functools import cached_property

from graphopt.analysis.geometry import Views
from graphopt.analysis.objects import Objects
from graphopt.analysis.partition import Partition
from graphopt.ir.graph import Arg, Graph, Node, Value, of_nodes, values_in
from graphopt.ir.ops import Alias, Effect, Op, effect_of, lookup
from graphopt.ir.types import ListType, TensorType

# They tell where in its memory the operand starts, what else is there, or whether it is lazily conjugated.
_READ_THE_MEMORY = (
    "aten.as_strided",
    "aten.view.dtype",
    "aten.view_as_complex",
    "aten.view_as_real",
    "aten.sym_storage_offset",
)


_WRITING = (Effect.WRITES, Effect.OPAQUE)


@of_nodes
class Memory:
    """The storage classes, writes and escapes of one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._classes = Partition()
        self._position = {node.name: i for i, node in enumerate(graph.nodes)}
        self._written: dict[str, list[int]] = {}
        self._reshaped: set[str] = set()
        inputs = [entry.value for entry in graph.inputs]
        for value in inputs:
            self._classes.unite(value.name, inputs[0].name)
        writers = [(i, node) for i, node in enumerate(graph.nodes) if effect_of(node) in _WRITING]
        written = [(i, value) for i, node in writers for value in self._written_by(node)]
        self._opaque = {node.name for _, node in writers if effect_of(node) is Effect.OPAQUE}
        self._shown: dict[str, tuple[Value, ...]] = {}
        for node in graph.nodes:
            if lookup(node.op).alias is not Alias.FRESH:
                self._unite(node)
        for i, value in written:
            self._written.setdefault(self._classes.find(value.name), []).append(i)
        self._escaping = self._find_escaping()
        self._held = set(map(self._classes.find, self._escaping))
        readers = (node for node in graph.nodes if node.op.startswith(_READ_THE_MEMORY))
        self._placed = {self._classes.find(value.name) for node in readers for value in node.operands}

    def position(self, node: Node) -> int:
        """The node's place in the order of execution."""
        return self._position[node.name]

    def version(self, value: Value, node: Node) -> int:
        """How often the value's storage may have been written before a node runs."""
        return bisect_left(self._writes(value), self._position[node.name])

    def writers(self, value: Value, node: Node) -> list[Node]:
        """The nodes that may have written the value's storage before a node runs."""
        return [self.graph.nodes[i] for i in self._writes(value) if i < self._position[node.name]]

    def written_after(self, value: Value, node: Node) -> bool:
        """Whether the value's storage may be written once a node has run."""
        writes = self._writes(value)
        return bool(writes) and writes[-1] > self._position[node.name]

    def storage_written(self, value: Value) -> bool:
        """Whether any node may write the value's memory."""
        return bool(self._writes(value))

    @property
    def is_written(self) -> bool:
        """Whether any node may write into memory that others see."""
        return bool(self._written)

    def is_input(self, value: Value) -> bool:
        """Whether the value may show memory of an argument, of the model's state or of a constant."""
        return bool(self.graph.inputs) and self._classes.find(value.name) == self._classes.find(
            self.graph.inputs[0].value.name
        )

    @property
    def reshaped(self) -> frozenset[str]:
        """The names of the values that a node may give another shape or memory: resize_, set_, out=."""
        return frozenset(self._reshaped)

    def escapes(self, value: Value) -> bool:
        """Whether the caller can come to hold the value, a view of it, or what may be either."""
        return value.name in self._escaping

    def storage(self, value: Value) -> str:
        """A name that stands for all values that may share storage with the value."""
        return self._classes.find(value.name)

    def storage_escapes(self, value: Value) -> bool:
        """Whether the caller may come to hold the value's memory: through any value that shows it."""
        return self.storage(value) in self._held

    def is_placed(self, value: Value) -> bool:
        """Whether the caller, or a node, can tell how the value lies in its memory: where it starts, and
        whether it is lazily conjugated or negated."""
        return self.escapes(value) or self.storage(value) in self._placed

    def is_part(self, node: Node) -> bool:
        """Whether others can tell how the results lie in the memory that they show: a node reads it as such,
        or the caller gets what shows memory of an argument or of another result."""
        return any(
            self.storage(value) in self._placed
            or (bool(self._shown.get(value.name)) and self._is_seen_beside(value))
            for value in node.results
        )

    def _is_seen_beside(self, value: Value) -> bool:
        return self.escapes(value) and (self.is_input(value) or self._returned[self.storage(value)] > 1)

    @cached_property
    def _returned(self) -> Counter[str]:
        return Counter(map(self._classes.find, self.graph.returned))

    def _writes(self, value: Value) -> list[int]:
        return self._written.get(self._classes.find(value.name), []) if _has_storage(value) else []

    def _written_by(self, node: Node) -> list[Value]:
        """The operands that a writing node may write; notes those that it may give another shape."""
        if effect_of(node) is Effect.OPAQUE:
            operands = list(filter(_has_storage, node.operands))
            self._reshaped.update(value.name for value in operands)
            return operands
        written = written_operands(node, lookup(node.op))
        made = {value.type for value in node.results}
        self._reshaped.update(value.name for value in written if value.type not in made)
        return written

    def _unite(self, node: Node) -> None:
        """Puts what a node makes into the classes of what it may show."""
        shown = self._sharing(node)
        if shown is None:
            operands = tuple(filter(_has_storage, node.operands))
            shown = (operands,) * len(node.results)
            together = (*operands, *node.results)
            for value in together:
                self._classes.unite(value.name, together[0].name)
        for result, sources in zip(node.results, shown, strict=True):
            self._shown[result.name] = sources
            for value in sources:
                self._classes.unite(result.name, value.name)

    def _sharing(self, node: Node) -> tuple[tuple[Value, ...], ...] | None:
        """The operands whose memory each result shows; None where that is not known for all. Of one that may
        have been given another shape, its type does not tell."""
        if self._reshaped:
            objects = self.graph.analysis(Objects)
            if any(objects.of(value.name) in self._unshaped for value in node.operands):
                return None
        views = self.graph.analysis(Views)
        found = tuple(sources for v in node.results if (sources := views.sharing(v)) is not None)
        return found if len(found) == len(node.results) else None

    @cached_property
    def _unshaped(self) -> set[str]:
        """The objects that a node may give another shape or memory."""
        return set(map(self.graph.analysis(Objects).of, self._reshaped))

    def _find_escaping(self) -> set[str]:
        """Outputs, and backwards everything that may share storage with one through the nodes between."""
        found = {value.name for output in self.graph.outputs for value in values_in(output)}
        for node in reversed(self.graph.nodes):
            if node.name in self._opaque:
                found.update(value.name for value in node.operands)
            for result in node.results:
                if result.name in found and (shown := self._shown.get(result.name)):
                    found.update(value.name for value in shown)
        return found


def reads_memory(node: Node) -> bool:
    """Whether the result depends on how an operand lies in its memory, or on what else is there."""
    return node.op.startswith(_READ_THE_MEMORY)


def written_operands(node: Node, op: Op) -> list[Value]:
    """The operand values that a WRITES node writes into."""
    named: dict[str, Arg] = dict(zip(op.parameters, node.args, strict=False)) | dict(node.kwargs)
    return [value for name in op.written for value in values_in(named[name])]


def _has_storage(value: Value) -> bool:
    return isinstance(value.type, TensorType | ListType)
