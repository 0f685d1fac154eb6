"""Comparing an optimised module with its original on one example call, leaving no trace in either."""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from graphopt.capture.footprint import Preserved
from graphopt.capture.world import GlobalState
from graphopt.errors import BranchError
from graphopt.guards.owned import objects_of
from graphopt.verify.copying import copy_arguments
from graphopt.verify.difference import difference
from graphopt.verify.facts import type_name
from graphopt.verify.observation import Observation, observe

_BRANCH_ERROR = type_name(BranchError("", remedy=""))
SAME = "outputs, mutation, aliasing and random stream are eager's, bit for bit"


@dataclass(frozen=True)
class Verdict:
    """Whether two programs agree (None: it could not be checked), and what that rests on."""

    equivalent: bool | None
    evidence: str
    raises: str = ""  # the exception that the example call ends in
    given_up: bool = False  # for the graph met a branch that falls otherwise than at capture


class Served(Protocol):
    """An optimised module: callable, and able to say why a call would run the original instead."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the graph."""

    def violation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """ "" where the graph serves the call."""


def compare_programs(
    original: torch.nn.Module,
    rewritten: Served,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    seed: int,
    *,
    backward: bool = False,
    tolerance: float = 0.0,
    owner: torch.nn.Module | None = None,
) -> Verdict:
    """Runs both on copies of the arguments, and compares all that can be
    observed: outputs, written arguments and state, sharing, the random stream, a raised exception.

    backward: differentiate the sum of the outputs, and compare the gradients of every leaf too.
    tolerance: how far elements may differ, as a share of the largest; 0: not in a bit.
    owner: whose state `rewritten` has, where the two do not share one.

    Where the graph serves the example call only without gradients, or only once the model has been
    called, it is compared so.
    """
    if any(tensor.is_meta for tensor in (*original.parameters(), *original.buffers())):
        return Verdict(None, "the model is on the meta device: nothing was run")
    world, reason = GlobalState(), ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for warm, grad in ((False, torch.is_grad_enabled()), (False, False), (True, False)):
                try:
                    with _prepared(original, args, kwargs, warm, grad):
                        reason = rewritten.violation(args, kwargs)
                except Exception as error:  # of the first call, which is made here to see what it leaves
                    reason = f"{reason}; and a first call raises {type(error).__name__}"
                if not reason:
                    break
            else:
                return Verdict(None, f"the example call runs the original: {reason}")

            def run(program: Callable[..., Any]) -> Observation:
                copied_args, copied_kwargs = copy_arguments(args, kwargs, objects_of(original))
                module = owner if owner is not None and program is rewritten else original
                with _prepared(module, args, kwargs, warm, grad):
                    return observe(
                        program,
                        copied_args,
                        copied_kwargs,
                        module=module,
                        seed=seed,
                        backward=backward and grad,
                    )

            def differ(expected: Observation, found: Observation) -> str | None:
                return difference(expected, found, tolerance=tolerance)

            expected = run(original)
            seen = run(rewritten)
            if seen.exception == _BRANCH_ERROR:
                reason = seen.message.partition("\n")[0]
                return Verdict(None, f"the example call runs the original: {reason}", given_up=True)
            found = differ(expected, seen)
            if found is not None and differ(expected, run(original)) is not None:
                return Verdict(None, "the original does not repeat its own result: nothing to compare with")
    finally:
        world.restore()
    if found is not None:
        return Verdict(False, found)
    how = " after a first call" if warm else "" if grad == torch.is_grad_enabled() else " without gradients"
    same = SAME if tolerance == 0.0 else "mutation, aliasing and random stream are eager's"
    return Verdict(True, same + how, expected.exception or "")


def exception_of(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], seed: int) -> str:
    """The exception that a call of a model ends in, with its message, or ""; it leaves no trace."""
    world = GlobalState()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            copied_args, copied_kwargs = copy_arguments(args, kwargs, objects_of(model))
            with _prepared(model, args, kwargs, False, torch.is_grad_enabled()):
                seen = observe(model, copied_args, copied_kwargs, module=model, seed=seed)
    finally:
        world.restore()
    return f"{seen.exception}: {seen.message}" if seen.exception else ""


@contextlib.contextmanager
def _prepared(
    original: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], warm: bool, grad: bool
) -> Iterator[None]:
    with Preserved(original), torch.set_grad_enabled(grad):
        for parameter in original.parameters():
            parameter.grad = None
        if warm:
            copied_args, copied_kwargs = copy_arguments(args, kwargs, objects_of(original))
            original(*copied_args, **copied_kwargs)
        yield
