"""From a captured program to the rewritten one that stands: passes, checks, and guilty steps rolled back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from graphopt.analysis.costs import Costs
from graphopt.analysis.sizes import Sizes
from graphopt.authoring import Pass
from graphopt.capture.program import Program
from graphopt.errors import Unsupported
from graphopt.ir.graph import Graph
from graphopt.judging import Judge
from graphopt.pipeline import Outcome, run_passes
from graphopt.profile import Profile, default
from graphopt.racing import raced
from graphopt.serving import Policy, Serving
from graphopt.steps import Claim, Missed, RolledBack, Site, Step, applied
from graphopt.verify.comparison import Verdict
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
    *,
    tune: bool = False,
) -> Rewriting:
    """Runs the passes and, with a verifier, its checks; a step that fails one is found by bisection,
    rolled back, and the passes run again without it. `confirmed` is what `confirm` found; `profile` tells how
    fast the machine is; with `tune` near ties are settled by timing.

    Raises PassError where a pass fails.
    """
    costs = Costs(profile or default(), Sizes(dict(program.facts.sizes)), raced if tune else None)
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
        judge = Judge(program, verifier)
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


def _guilty(judge: Judge, program: Program, outcome: Outcome, failed: Check) -> Step | None:
    """The first step after which a check fails; None where it fails without any."""

    def is_bad(count: int) -> bool:
        steps = outcome.steps[:count]
        graph = applied(program.graph, steps)
        return not judge.passes(replace(program, graph=graph, training=None), failed, steps)

    number = first_bad(len(outcome.steps), is_bad)
    return outcome.steps[number - 1] if number else None


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
