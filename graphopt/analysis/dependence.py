"""What a value depends on: whether it is the same on every call until the model's state changes."""

from graphopt.analysis.filled import Filled
from graphopt.analysis.memory import Memory
from graphopt.ir.graph import Argument, Graph, Node, Value, of_nodes
from graphopt.ir.literal import Lit
from graphopt.ir.ops import Effect, effect_of
from graphopt.ir.types import SymType, TensorType


@of_nodes
class Dependence:
    """Which values of a graph are *derived*: computed from the model's state as a call meets it, constants
    and the sizes of arguments alone, by operators without effects.

    They can be computed before everything else in a call, or in an earlier call. One that may raise is
    derived only where no size is needed for it, so that it can be computed first of all.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._memory = graph.analysis(Memory)
        self._derived = {entry.value.name for entry in graph.inputs if not isinstance(entry.source, Argument)}
        self._sized: set[str] = set()
        self.nodes = tuple(node for node in graph.nodes if self._visit(node))
        """The nodes that make derived values, in order."""

    def is_derived(self, value: Value) -> bool:
        """Whether the value is computed from state, constants and sizes alone."""
        return value.name in self._derived or is_size(value)

    def is_fixed(self, value: Value) -> bool:
        """Whether the value is the same in every call, whatever the sizes, until the model's state changes:
        nothing in the graph may write it."""
        return (
            value.name in self._derived
            and value.name not in self._sized
            and not self._memory.storage_written(value)
        )

    def demanded(self) -> dict[str, Value]:
        """The derived values made by nodes that something reads which is not derived."""
        made = {value.name: value for node in self.nodes for value in node.results}
        found = {name: made[name] for name in self._graph.returned if name in made}
        names = {node.name for node in self.nodes}
        for node in self._graph.nodes:
            if node.name not in names:
                found.update((v.name, v) for v in node.operands if v.name in made)
        return found

    def number(self, value: Value, node: Node) -> Lit | None:
        """The number that fills a tensor when a node reads it, where the tensor depends on nothing at all;
        None where it does, or holds several, or that is not known."""
        return self._graph.analysis(Filled).number(value, node)

    def may_be_kept(self, value: Value) -> bool:
        """Whether a derived tensor can be the same object on the next call: it has memory of its own, which
        nothing writes and which the caller never holds."""
        memory = self._memory
        return (
            isinstance(value.type, TensorType)
            and value.type.strides is not None
            and not memory.is_input(value)
            and not memory.storage_escapes(value)
            and not memory.storage_written(value)
        )

    def _visit(self, node: Node) -> bool:
        """Notes whether a node's results are derived."""
        for value in node.operands:
            if value.name not in self._derived and not is_size(value):
                return False
        effect = effect_of(node)
        sized = any(is_size(value) or value.name in self._sized for value in node.operands)
        if effect not in (Effect.NONE, Effect.RAISES) or (effect is Effect.RAISES and sized):
            return False
        if not all(isinstance(v.type, TensorType) or is_size(v) for v in node.results):
            return False
        for value in node.operands:
            if self._memory.version(value, node):
                return False
        if all(map(is_size, node.results)):
            return False
        self._derived.update(value.name for value in node.results)
        if sized:
            self._sized.update(value.name for value in node.results)
        return True


def is_size(value: Value) -> bool:
    """Whether it is a number that the sizes of the arguments determine."""
    return isinstance(value.type, SymType) and value.type.expr is not None
