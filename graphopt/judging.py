"""Judging the numbers of a program that may round otherwise, beside the checks of everything else."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from graphopt.capture.call import Call
from graphopt.capture.capture import capture
from graphopt.capture.program import Program
from graphopt.errors import Unsupported
from graphopt.guards.places import held, split_path
from graphopt.ir.graph import Argument, Constant, State
from graphopt.serving import Policy, Serving
from graphopt.steps import Claim, Step
from graphopt.verify.comparison import Served, Verdict
from graphopt.verify.rounding import excess_error, gradient_excess, reference_bytes
from graphopt.verify.verifier import Check, Verification, Verifier, weakest


class Judge:
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
            inputs = inputs_of(self._program, self._verifier.original, check.args, check.kwargs)
            error = excess(before, graph, inputs, self._verifier.seed)
        except Exception as failed:
            return _unjudged(check, failed)
        return _judged(check, error)


def compare_models(verifier: Verifier, other: Served, owner: torch.nn.Module) -> Verification:
    """Whether another model, with its state in `owner`, does what the original does; where it does not to
    the bit, whether its errors against float64 are no larger than a rewrite's may be. Gradients must be the
    same."""
    verifier = replace(verifier, owner=owner)
    found = verifier.verify(other, Claim.BITWISE, {})
    if found.equivalent is not False:
        return found
    try:
        ours, theirs = (
            capture(model, verifier.args, verifier.kwargs, seed=verifier.seed)
            for model in (verifier.original, owner)
        )
    except Unsupported:
        return found

    def errors(check: Check) -> Verdict:
        if check.backward:
            return verifier.run(check, other, Claim.BITWISE)
        call = check.args, check.kwargs
        inputs = inputs_of(ours, verifier.original, *call), inputs_of(theirs, owner, *call)
        try:
            error = excess_error(ours.graph, theirs.graph, inputs[0], verifier.seed, inputs[1])
        except Exception as failed:
            return _unjudged(check, failed)
        return _judged(check, error)

    rounded = verifier.verify(other, Claim.ROUNDING, {}, errors)
    return rounded if rounded.equivalent else found  # what could not be judged differs still


def compare_saved(verifier: Verifier, other: Served, owner: torch.nn.Module) -> Verification:
    """The same of a saved program; one that does not give the same gradients, for it holds derived values,
    is compared without."""
    found = compare_models(verifier, other, owner)
    if found.equivalent is not False or not torch.is_grad_enabled():
        return found
    with torch.no_grad():
        without = compare_models(verifier, other, owner)
    if not without.equivalent:
        return found
    return replace(without, unchecked=(f"gradients: {found.difference}", *without.unchecked))


def _judged(check: Check, error: str | None) -> Verdict:
    if error is not None:
        return Verdict(False, error)
    return Verdict(True, f"{_errors_of(check)} within 2 × (the largest 4 ×) the original's own")


def _unjudged(check: Check, failed: Exception) -> Verdict:
    """Some operator has no kernel for float64, or none that differentiates."""
    said = str(failed).partition("\n")[0]
    return Verdict(None, f"{_errors_of(check)}: {type(failed).__name__}: {said}")


def _errors_of(check: Check) -> str:
    return "gradients' errors against float64" if check.backward else "errors against float64"


def inputs_of(
    program: Program, model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[Any]:
    """The values of the graph's inputs in one call of a model."""
    leaves = Call.of(model, args, kwargs).leaves
    found: list[Any] = []
    for entry in program.graph.inputs:
        match entry.source:
            case Argument(index):
                found.append(leaves[index])
            case State(_, path):
                found.append(held(model, split_path(path)))
            case Constant(name):
                found.append(program.constants[name])
    return found
