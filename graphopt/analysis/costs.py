"""What nodes and values cost on one machine, for the passes that weigh one way against another."""

from dataclasses import dataclass

from graphopt.analysis.cost import node_cost, value_bytes
from graphopt.ir.graph import Node, Value


@dataclass(frozen=True)
class Costs:
    """Seconds of a node and bytes of a value."""

    def seconds(self, node: Node) -> float:
        """What running the node takes."""
        cost = node_cost(node)
        return 2e-6 + cost.flops / 4e10 + cost.bytes / 1e10

    def bytes(self, value: Value) -> int:
        """The memory that a tensor takes."""
        return value_bytes(value)
