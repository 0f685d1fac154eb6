"""What a pass is written with: everything a pass may import."""

from typing import Protocol, runtime_checkable

from graphopt.analysis.gradients import differentiable
from graphopt.analysis.memory import Memory
from graphopt.draft import Claim, Draft
from graphopt.ir.graph import Arg, Graph, Node, Sequence, Value, values_in
from graphopt.ir.literal import Lit
from graphopt.ir.ops import Alias, Effect, effect_of, lookup
from graphopt.ir.text import print_node
from graphopt.ir.types import TensorType


@runtime_checkable
class Pass(Protocol):
    """A rewrite: a kebab-case name, what it promises, and the edits it makes to a draft."""

    name: str
    claim: Claim

    def run(self, draft: Draft) -> None:
        """Edits the draft through its methods alone."""


__all__ = [
    "Alias",
    "Arg",
    "Claim",
    "Draft",
    "Effect",
    "Graph",
    "Lit",
    "Memory",
    "Node",
    "Pass",
    "Sequence",
    "TensorType",
    "Value",
    "differentiable",
    "effect_of",
    "lookup",
    "print_node",
    "values_in",
]
