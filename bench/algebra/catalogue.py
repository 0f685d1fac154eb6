"""All expressions, by idea."""

from bench.algebra import (
    blocked,
    chains,
    convolutions,
    distributivity,
    layout,
    loops,
    models,
    outer_structures,
    partial_access,
    reductions,
)
from bench.algebra.expression import Expression

CATALOGUE: dict[str, tuple[Expression, ...]] = {
    "chains": chains.CATALOGUE,
    "distributivity": distributivity.CATALOGUE,
    "partial access": partial_access.CATALOGUE,
    "blocked operands": blocked.CATALOGUE,
    "loops": loops.CATALOGUE,
    "outer structures": outer_structures.CATALOGUE,
    "models": models.CATALOGUE,
    "convolutions": convolutions.CATALOGUE,
    "reductions": reductions.CATALOGUE,
    "layout": layout.CATALOGUE,
}
