"""What a pass is written with: everything a pass may import."""

from typing import Protocol, runtime_checkable

from graphopt.affine.applying import applied_once
from graphopt.affine.finding import AffineForms, Fold
from graphopt.affine.forms import Applied, nodes_of, widest
from graphopt.affine.maps import LinearMap
from graphopt.algebra.blocks import Spelled, spelled
from graphopt.algebra.forms import Readings
from graphopt.algebra.generality import particular
from graphopt.algebra.improving import Better, better_way
from graphopt.algebra.narrowing import Narrowing
from graphopt.algebra.refusing import against, too_large
from graphopt.algebra.regions import Regions
from graphopt.algebra.rewriting import Work
from graphopt.analysis.dependence import Dependence
from graphopt.analysis.geometry import Geometry, Views
from graphopt.analysis.gradients import differentiable
from graphopt.analysis.instances import SMALLEST, Instance, Instances, NotGeneral, instances
from graphopt.analysis.keeping import budget_of, choose_kept, price
from graphopt.analysis.lawful import Lawful
from graphopt.analysis.memory import Memory
from graphopt.analysis.substitution import Substitution
from graphopt.builder import Builder
from graphopt.draft import Draft
from graphopt.errors import InvalidGraph
from graphopt.ir.graph import Arg, Graph, Mapping, Node, Sequence, Slice, Value, values_in
from graphopt.ir.laws import Form, Law, holds, is_number, kind_of, laws_of
from graphopt.ir.literal import Lit
from graphopt.ir.operands import operands_of, type_of
from graphopt.ir.ops import Alias, Effect, effect_of, lookup, operands_commute
from graphopt.ir.regions import Skeleton, key_of, written_out
from graphopt.ir.text import print_node
from graphopt.ir.types import TensorType, Type
from graphopt.kernels import by_onednn
from graphopt.rules import Match, Rule, Rules
from graphopt.steps import Claim


@runtime_checkable
class Pass(Protocol):
    """A rewrite: a kebab-case name, what it promises, and the edits it makes to a draft.

    `finding`, where it has one, is its word for what it finds, for the report: "computed again".
    `makes_finite` says that it may make something finite of what is not: `nonfinite="exact"` leaves it out.
    """

    name: str
    claim: Claim

    def run(self, draft: Draft) -> None:
        """Edits the draft through its methods alone."""


__all__ = [
    "SMALLEST",
    "AffineForms",
    "Alias",
    "Applied",
    "Arg",
    "Better",
    "Builder",
    "Claim",
    "Dependence",
    "Draft",
    "Effect",
    "Fold",
    "Form",
    "Geometry",
    "Graph",
    "Instance",
    "Instances",
    "InvalidGraph",
    "Law",
    "Lawful",
    "LinearMap",
    "Lit",
    "Mapping",
    "Match",
    "Memory",
    "Narrowing",
    "Node",
    "NotGeneral",
    "Pass",
    "Readings",
    "Regions",
    "Rule",
    "Rules",
    "Sequence",
    "Skeleton",
    "Slice",
    "Spelled",
    "Substitution",
    "TensorType",
    "Type",
    "Value",
    "Views",
    "Work",
    "against",
    "applied_once",
    "better_way",
    "budget_of",
    "by_onednn",
    "choose_kept",
    "differentiable",
    "effect_of",
    "holds",
    "instances",
    "is_number",
    "key_of",
    "kind_of",
    "laws_of",
    "lookup",
    "nodes_of",
    "operands_commute",
    "operands_of",
    "particular",
    "price",
    "print_node",
    "spelled",
    "too_large",
    "type_of",
    "values_in",
    "widest",
    "written_out",
]
