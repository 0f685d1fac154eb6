"""From a captured program to the rewritten one that stands: passes, checks, and guilty steps rolled back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from graphopt.analysis.costs import Costs
from graphopt.analysis.sizes import Sizes
from graphopt.authoring import Pass
from graphopt.capture.call import Call
from graphopt.capture.program import Program
from graphopt.draft import Claim, Missed, RolledBack, Site, Step, applied
from graphopt.errors import Unsupported
from graphopt.guards.places import held, split_path
from graphopt.ir.graph import Argument, Constant, Graph, State
from graphopt.pipeline import Outcome, run_passes
from graphopt.profile import Profile, default
from graphopt.serving import Policy, Serving
from graphopt.verify.comparison import Verdict
from graphopt.verify.rounding import excess_error, gradient_excess, reference_bytes
from graphopt.verify.verifier import EXAMPLE, Check, Verification, Verifier, first_bad, weakest

MAX_ROLLED_BACK = 16  # steps; past that the passes are not to be trusted with this model


@dataclass(frozen=True)
class Rewriting:
    """The program to run, what led to it, and what is known of it."""

    program: Program
    steps: tuple[Step, ...]
    missed: tuple[Missed, ...]
    verification: Verification
    rolled_back: tuple[RolledBack, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class _Rewrites:
    """The two graphs of a program after the passes: for calls without gradients, and with."""

    program: Program
    passes: Sequence[Pass]
    denied: dict[bool, dict[Site, str]]
    costs: Costs

    def outcome(self, gradients: bool) -> Outcome:
        """What the passes make of the graph."""
        return run_passes(
            self.program.graph, self.passes, gradients, denied=self.denied[gradients], costs=self.costs
        )


def rewrite(
    program: Program,
    passes: Sequence[Pass],
    verifier: Verifier | None,
    confirmed: dict[str, Verdict],
    progress: Callable[[str], None] = lambda text: None,
    profile: Profile | None = None,
) -> Rewriting:
    """Runs the passes and, with a verifier, its checks; a step that fails one is found by bisection,
    rolled back, and the passes run again without it. `confirmed` is what `confirm` found; `profile` tells how
    fast the machine is.

    Raises PassError where a pass fails.
    """
    costs = Costs(profile or default(), Sizes(dict(program.facts.sizes)))
    rewrites = _Rewrites(program, passes, {False: {}, True: {}}, costs)
    rolled_back: list[RolledBack] = []
    while True:
        outcomes = {gradients: rewrites.outcome(gradients) for gradients in (False, True)}
        made = _assembled(program, outcomes[False].graph, outcomes[True].graph)
        kept = outcomes[False]
        notes = tuple(dict.fromkeys(note for outcome in outcomes.values() for note in outcome.notes))
        if verifier is None:
            return Rewriting(made, kept.steps, kept.missed, Verification(None), notes=notes)
        progress("verify")
        judge = _Judge(program, verifier)
        every = [*kept.steps, *outcomes[True].steps]
        known = confirmed if made is program else {}
        verification = judge.verify(made, weakest([step.claim for step in every]), known)
        failed = verification.failed
        guilty = None
        if failed is not None and len(rolled_back) < MAX_ROLLED_BACK:
            progress(f"bisect: {failed.name}")
            guilty = _guilty(judge, program, outcomes[judge.gradients(made, failed)], failed)
        if guilty is None:
            return Rewriting(made, kept.steps, kept.missed, verification, tuple(rolled_back), notes)
        reason = f"rolled back, for it changed the {_subject(failed)}: {verification.difference}"
        rolled_back.append(RolledBack(guilty, reason))
        for denied in rewrites.denied.values():
            denied[guilty.site] = reason


def _subject(failed: Check | None) -> str:
    return "gradients" if failed is not None and failed.backward else "result"


def _assembled(program: Program, graph: Graph, training: Graph) -> Program:
    if graph is program.graph and training is program.graph:
        return program
    return replace(program, graph=graph, training=None if training == graph else training)


def _guilty(judge: "_Judge", program: Program, outcome: Outcome, failed: Check) -> Step | None:
    """The first step after which a check fails; None where it fails without any."""

    def is_bad(count: int) -> bool:
        steps = outcome.steps[:count]
        graph = applied(program.graph, steps)
        return not judge.passes(replace(program, graph=graph, training=None), failed, steps)

    number = first_bad(len(outcome.steps), is_bad)
    return outcome.steps[number - 1] if number else None


class _Judge:
    """Applies the checks that the claims of the steps ask for."""

    def __init__(self, program: Program, verifier: Verifier) -> None:
        self._program = program
        self._verifier = verifier

    def verify(self, made: Program, claim: Claim, known: dict[str, Verdict]) -> Verification:
        """All checks; of `known` ones the verdict."""

        def errors(check: Check) -> Verdict:
            if self._verifier.budget.is_spent():
                return Verdict(None, f"{_errors_of(check)}: the time budget is spent")
            return self._errors(made, check)

        return self._verifier.verify(self._served(made), claim, known, errors)

    def passes(self, made: Program, check: Check, steps: Sequence[Step]) -> bool:
        """Whether one check holds for a program that some steps lead to."""
        claim = weakest([step.claim for step in steps])
        verdict = self._verifier.judged(check, self._served(made), claim, partial(self._errors, made))
        return verdict.equivalent is not False

    def gradients(self, made: Program, check: Check) -> bool:
        """Whether the graph that gives gradients serves a check."""
        if check.backward or not check.grad:
            return check.grad
        with torch.enable_grad():
            return self._served(made).newest.gradients(check.args, check.kwargs) is not False

    def _served(self, made: Program) -> Serving:
        return Serving(self._verifier.original, (made,), Policy("error", None))

    def _errors(self, made: Program, check: Check) -> Verdict:
        """Whether the errors against float64 are no larger than they may be."""
        graph = made.training if made.training is not None and self.gradients(made, check) else made.graph
        before = self._program.graph
        sizes = dict(self._program.facts.sizes)
        shortage = self._verifier.budget.shortage(reference_bytes(before, sizes, backward=check.backward))
        if shortage:
            return Verdict(None, f"{_errors_of(check)}: {shortage}")
        excess = gradient_excess if check.backward else excess_error
        try:
            inputs = _leaves(self._program, self._verifier.original, check)
            error = excess(before, graph, inputs, self._verifier.seed)
        except Exception as failed:  # some operator has no kernel for float64, or none that differentiates
            said = str(failed).partition("\n")[0]
            return Verdict(None, f"{_errors_of(check)}: {type(failed).__name__}: {said}")
        if error is not None:
            return Verdict(False, error)
        return Verdict(True, f"{_errors_of(check)} within 2 × (the largest 4 ×) the original's own")


def _errors_of(check: Check) -> str:
    return "gradients' errors against float64" if check.backward else "errors against float64"


def _leaves(program: Program, original: torch.nn.Module, check: Check) -> list[Any]:
    """The values of the graph's inputs in one call."""
    leaves = Call.of(original, check.args, check.kwargs).leaves
    found: list[Any] = []
    for entry in program.graph.inputs:
        match entry.source:
            case Argument(index):
                found.append(leaves[index])
            case State(_, path):
                found.append(held(original, split_path(path)))
            case Constant(name):
                found.append(program.constants[name])
    return found


def confirm(program: Program, verifier: Verifier) -> dict[str, Verdict]:
    """Runs the captured program on the example call, beside the model: the verdicts by check.

    Where forward went another way than eager's, the same result does not speak for the gradients: where
    they are wanted, they are compared too. Raises Unsupported where it does something else.
    """
    served = Serving(verifier.original, (program,), Policy("error", None))
    verdicts: dict[str, Verdict] = {}
    for check in verifier.checks():
        if check.name != EXAMPLE and not (check.backward and program.path != "eager"):
            break
        verdict = verdicts[check.name] = verifier.run(check, served, Claim.BITWISE)
        if verdict.equivalent is False or (verdict.given_up and check.name == EXAMPLE):
            raise Unsupported(
                f"forward does something else when it is traced: {verdict.evidence}",
                remedy="look for a branch on values, or on whether forward is being compiled or exported",
            )
    return verdicts
