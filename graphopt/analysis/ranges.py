"""What the elements of values lie between, and whether they may be infinite or NaN."""

from graphopt.analysis.intervals import ANY, Range, any_of, rounded
from graphopt.analysis.memory import Memory
from graphopt.analysis.range_facts import Given, fact_of
from graphopt.ir.graph import Arg, Graph, Node, Value, of_nodes
from graphopt.ir.literal import Lit
from graphopt.ir.operands import operands_of
from graphopt.ir.ops import Effect, effect_of
from graphopt.ir.types import TensorType

DEEPEST = 64
"""How many operators back is looked."""


@of_nodes
class Ranges:
    """Ranges of the tensors of one graph, found when they are asked for."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._memory = graph.analysis(Memory)
        self._found: dict[str, Range] = {}

    def of(self, arg: "Arg | None", node: Node, depth: int = 0) -> Range | None:
        """What an operand of a node lies between when the node reads it; a number only itself. None for what
        is no real tensor, nor a number."""
        if isinstance(arg, Lit):
            number = arg.value
            return Range(number, number) if isinstance(number, int | float) and number == number else None
        if not isinstance(arg, Value) or not isinstance(arg.type, TensorType):
            return None
        every = any_of(arg.type.dtype)
        if every is None:
            return None
        producer = self._graph.producer.get(arg.name)
        if producer is None or self._memory.version(arg, producer) != self._memory.version(arg, node):
            return every  # an input, or written since
        if arg.name not in self._found:
            self._found[arg.name] = self._made(arg, producer, every, depth)
        return self._found[arg.name]

    def _made(self, value: Value, node: Node, every: Range, depth: int) -> Range:
        """What a value lies between when its node makes it."""
        assert isinstance(value.type, TensorType)
        fact = fact_of(node.op, node.results.index(value))
        if fact is None or effect_of(node) is not Effect.NONE or depth > DEEPEST:
            return every
        if value.type.device.type != "cpu":
            return every  # what was confirmed is how this processor rounds

        def range_of(operand: Value) -> Range:
            return self.of(operand, node, depth + 1) or ANY

        return rounded(fact(Given(operands_of(node), range_of, value.type.dtype)), value.type.dtype)
