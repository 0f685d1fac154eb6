"""What capture returns: the graph, how callers meet it, and what was assumed."""

from dataclasses import dataclass, field

import torch

from graphopt.capture.conditions import Conditions
from graphopt.capture.decisions import Decision
from graphopt.capture.foreign import Draws
from graphopt.guards import Facts
from graphopt.ir.graph import Graph
from graphopt.ir.structure import Interface
from graphopt.ir.text import parse_graph, print_graph


@dataclass(frozen=True)
class Program:
    """A captured model. `constants` are the tensors that `graph` names as Constant inputs.

    `path` tells which way forward went where it asks whether it is traced: "eager", or "exported" where
    torch.export refuses eager's. `training` is the graph for calls that want gradients, where it is another.
    `conditions` are the branches on values that forward took, but for those that the graph itself asks;
    `draws` are the random numbers from outside torch.

    It pickles as the graph's text, the interface, the facts and the constants.
    """

    graph: Graph
    interface: Interface
    facts: Facts
    constants: dict[str, torch.Tensor]
    path: str = "eager"
    training: Graph | None = None
    conditions: Conditions | None = None
    draws: Draws = field(default_factory=Draws)

    def __reduce__(self) -> tuple[object, ...]:
        texts = print_graph(self.graph), None if self.training is None else print_graph(self.training)
        conditions = self.conditions and (print_graph(self.conditions.graph), self.conditions.decisions)
        return _from_text, (
            *texts,
            self.interface,
            self.facts,
            self.constants,
            self.path,
            conditions,
            self.draws,
        )


def _from_text(
    text: str,
    training: str | None,
    interface: Interface,
    facts: Facts,
    constants: dict[str, torch.Tensor],
    path: str,
    conditions: tuple[str, tuple[Decision, ...]] | None,
    draws: Draws,
) -> Program:
    with_gradients = None if training is None else parse_graph(training)
    branches = None if conditions is None else Conditions(parse_graph(conditions[0]), conditions[1])
    return Program(parse_graph(text), interface, facts, constants, path, with_gradients, branches, draws)
