"""What capture returns: the graph, how callers meet it, and what was assumed."""

from dataclasses import dataclass

import torch

from graphopt.guards import Facts
from graphopt.ir.graph import Graph
from graphopt.ir.structure import Interface
from graphopt.ir.text import parse_graph, print_graph


@dataclass(frozen=True)
class Program:
    """A captured model. `constants` are the tensors that `graph` names as Constant inputs.

    It pickles as the graph's text, the interface, the facts and the constants.
    """

    graph: Graph
    interface: Interface
    facts: Facts
    constants: dict[str, torch.Tensor]

    def __reduce__(self) -> tuple[object, ...]:
        return _from_text, (print_graph(self.graph), self.interface, self.facts, self.constants)


def _from_text(text: str, interface: Interface, facts: Facts, constants: dict[str, torch.Tensor]) -> Program:
    return Program(parse_graph(text), interface, facts, constants)
