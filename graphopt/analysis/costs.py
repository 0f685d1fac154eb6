"""What nodes and values cost on one machine, for the passes that weigh one way against another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphopt.analysis.seconds import node_seconds
from graphopt.analysis.sizes import Sizes
from graphopt.ir.graph import Node, Value
from graphopt.ir.regions import likeness
from graphopt.profile import Profile, default


@dataclass(frozen=True)
class Costs:
    """Seconds of a node and bytes of a value, with numbers for symbolic sizes. `known` is what follows from
    these alone and was worked out before, by the passes' own keys. `race`, where near ties are to be settled
    by timing, runs two sequences of nodes and tells how many times as fast the second is, or None."""

    profile: Profile = field(default_factory=default)
    sizes: Sizes = field(default_factory=Sizes)
    race: Callable[[Sequence[Node], Sequence[Node]], float | None] | None = field(default=None, compare=False)
    known: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)

    def seconds(self, node: Node) -> float:
        """What running the node takes."""
        place = Costs.seconds, id(node)
        found = self.known.get(place)
        if found is None:
            alike = Costs.seconds, likeness(node)
            if alike not in self.known:
                self.known[alike] = node_seconds(node, self.profile, self.sizes)
            found = self.known[place] = node, self.known[alike]  # the id stays taken
        seconds: float = found[1]
        return seconds

    def bytes(self, value: Value) -> int:
        """The memory that a tensor takes."""
        return self.sizes.bytes(value)
