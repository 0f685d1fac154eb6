"""A random program judged: eager against what graphopt makes of it."""

from __future__ import annotations

from bench.sweep.trial import Optimizer, Outcome, Trial, graphopt_candidate, judge
from tests.fuzz.programs import Program, arguments, compiled

REFUSED_SHARE = 0.03
"""The largest share of programs, of those that torch.export takes, that graphopt may refuse."""


def outcomes(
    program: Program,
    name: str = "program",
    optimizer: Optimizer = graphopt_candidate,
    without_passes: bool = True,
) -> list[Outcome]:
    """The verdicts on a program under the default passes and, if asked for, under none; unless the
    default ones found nothing to do and the program is kept: then the two runs would be one.

    Two calls have the same values, since state may change between; a third has others.
    """
    differentiable = bool(program.parameters) or any(x.requires_grad for x in program.inputs)
    trial = Trial(
        name,
        "fuzz",
        compiled(program),
        arguments(program, 0),
        arguments(program, 1),
        backward=differentiable,
    )
    found = judge(trial, ["default"], optimizer, ask_export=False)
    if without_passes and any(outcome.verdict != "ok" or outcome.changed for outcome in found):
        found += judge(trial, ["empty"], optimizer, ask_export=False)
    return found
