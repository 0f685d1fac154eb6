"""Graphs for other sizes, beside the one that serves all: each for the calls that it makes faster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import sympy
import torch

from graphopt.analysis.costs import Costs
from graphopt.authoring import Pass
from graphopt.capture.program import Program
from graphopt.crossings import Crossing, Range, crossing, numbers
from graphopt.ir.graph import Argument, Graph
from graphopt.ir.types import SymType, TensorType
from graphopt.judging import Judge
from graphopt.measuring import measure
from graphopt.pipeline import Outcome, run_passes
from graphopt.profile import Profile
from graphopt.steps import Site, Step
from graphopt.verify.inputs import of_sizes
from graphopt.verify.verifier import Verifier, weakest

MOST_NODES = 2_000
"""Of graphs that are looked at for other sizes: each look takes as long as the passes do."""


@dataclass(frozen=True)
class Alternative:
    """A program for some sizes only, by a condition among its facts; what it does otherwise than the one for
    all; and why it is not used, where it is not."""

    program: Program
    crossing: Crossing
    steps: tuple[Step, ...]
    refusal: str = ""

    def __str__(self) -> str:
        names = _names(self.program)
        condition, far = self.crossing.condition, self.crossing.far
        what = dict.fromkeys(step.identity or step.pass_name for step in self.steps)
        sizes = ", ".join(f"{names[symbol]} = {size}" for symbol, size in far.items())
        return (
            f"when {condition.xreplace(names)}: {'; '.join(what) or 'as written'}; by the cost model"
            f" {self.crossing.gain:.3g} × as fast at {sizes}"
        )


def alternatives(
    program: Program,
    made: Program,
    steps: Sequence[Step],
    passes: Sequence[Pass],
    denied: Mapping[Site, str],
    profile: Profile,
    verifier: Verifier | None,
    *,
    timed: bool,
) -> list[Alternative]:
    """Programs for sizes at which the passes make another graph of a `program` than `made`, by `steps`, and
    one that gains: one for larger sizes, one for smaller ones. Each is verified next to where it takes over,
    and `timed` there."""
    known = dict(program.facts.sizes)
    near = {s: known[str(s)] for s in sorted(program.graph.symbols, key=str) if str(s) in known}
    if not near or not passes or len(program.graph.nodes) > MOST_NODES:
        return []
    taken = Range(program.facts.constraints)
    seen = {step.site: step.identity for step in steps}
    found = []
    for power in (1, -1):
        for far in taken.beyond(near, power):
            costs = Costs(profile, numbers(far))
            outcome = run_passes(program.graph, passes, denied=denied, costs=costs)
            at = crossing(made.graph, outcome.graph, near, far, taken, profile)
            if at is not None:
                new = tuple(step for step in outcome.steps if seen.get(step.site) != step.identity)
                one = Alternative(_program(program, made, outcome.graph, at), at, new)
                refusal = "" if verifier is None else _refusal(program, one, outcome, verifier, timed)
                found.append(replace(one, refusal=refusal))
                break
    return found


def _program(program: Program, made: Program, graph: Graph, at: Crossing) -> Program:
    """A graph without gradients for some sizes; with them, what serves all."""
    facts = replace(
        program.facts,
        constraints=(*program.facts.constraints, at.condition),
        sizes=tuple((str(symbol), size) for symbol, size in at.sizes.items()),
    )
    return replace(made, graph=graph, training=made.training or made.graph, facts=facts)


def _refusal(program: Program, one: Alternative, outcome: Outcome, verifier: Verifier, timed: bool) -> str:
    """Why an alternative is not used; "" where it is: it does what the original does, and takes no longer."""
    args, kwargs = of_sizes(
        program.graph, verifier.original, verifier.args, verifier.kwargs, one.crossing.sizes
    )
    beyond = replace(verifier, args=args, kwargs=kwargs)
    with torch.no_grad():
        claim = weakest([step.claim for step in outcome.steps])
        verification = Judge(program, beyond).verify(one.program, claim, {})
        if verification.equivalent is False:
            return f"it differs: {verification.difference}"
        timings = measure(beyond, one.program).values() if timed else ()
    if any(measured.timing is not None and measured.timing.slower for measured in timings):
        return "it is slower than the original there"
    return ""


def _names(program: Program) -> dict[sympy.Symbol, sympy.Symbol]:
    """What callers call sizes: x.shape[0]."""
    found: dict[sympy.Symbol, sympy.Symbol] = {}
    for entry in program.graph.inputs:
        kind, source = entry.value.type, entry.source
        if not isinstance(source, Argument):
            continue
        if isinstance(kind, SymType) and isinstance(kind.expr, sympy.Symbol):
            found.setdefault(kind.expr, sympy.Symbol(entry.value.name))
        for i, dim in enumerate(kind.shape if isinstance(kind, TensorType) else ()):
            if isinstance(dim, sympy.Symbol):
                found.setdefault(dim, sympy.Symbol(f"{entry.value.name}.shape[{i}]"))
    return found
