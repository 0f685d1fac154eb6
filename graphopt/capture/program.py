"""What capture returns: the graph, how callers meet it, and what was assumed."""

from dataclasses import dataclass

import torch

from graphopt.guards import Facts
from graphopt.ir.graph import Graph
from graphopt.ir.structure import Interface


@dataclass(frozen=True)
class Program:
    """A captured model. `constants` are the tensors that `graph` names as Constant inputs."""

    graph: Graph
    interface: Interface
    facts: Facts
    constants: dict[str, torch.Tensor]
