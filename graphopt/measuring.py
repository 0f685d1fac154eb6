"""Timing an optimised program against its original on the example call, leaving no trace."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

from graphopt.analysis.memory import Memory
from graphopt.capture.footprint import Preserved
from graphopt.capture.program import Program
from graphopt.capture.world import GlobalState
from graphopt.guards.owned import objects_of
from graphopt.latency import Measured, compare
from graphopt.serving import Policy, Serving
from graphopt.verify.copying import copy_arguments
from graphopt.verify.verifier import Verifier

LEAST_S, MOST_S = 0.4, 15.0
_SUBJECTS = {False: "without gradients", True: "with gradients"}
CALLS = 40  # of both together, if that many fit


def measure(verifier: Verifier, program: Program) -> dict[bool, Measured]:
    """Times the program behind its guards, by grad mode: without gradients; and with them (forward alone)
    where they are enabled and the model can give any."""
    if any(tensor.is_meta for tensor in (*verifier.original.parameters(), *verifier.original.buffers())):
        return {False: Measured(_SUBJECTS[False], reason="the model is on the meta device")}
    modes = [False]
    if torch.is_grad_enabled() and any(p.requires_grad for p in verifier.original.parameters()):
        modes.append(True)
    return {grad: _measured(verifier, program, grad) for grad in modes}


def _measured(verifier: Verifier, program: Program, grad: bool) -> Measured:
    subject = _SUBJECTS[grad]
    original, args, kwargs = verifier.original, verifier.args, verifier.kwargs
    served = Serving(original, (program,), Policy("error", None))
    world = GlobalState()
    try:
        with (
            warnings.catch_warnings(),
            Preserved(original),
            torch.random.fork_rng(),
            torch.set_grad_enabled(grad),
        ):
            warnings.simplefilter("ignore")
            first, second = (calling(one, program, original, args, kwargs) for one in (original, served))
            if reason := served.violation(*copy_arguments(args, kwargs, objects_of(original))):
                return Measured(subject, reason=f"the example call runs the original: {reason}")
            began = time.perf_counter()
            first(), second()
            budget = min(max(CALLS * (time.perf_counter() - began) / 2, LEAST_S), MOST_S)
            return Measured(subject, compare(first, second, budget_s=budget, seed=verifier.seed))
    except Exception as error:
        return Measured(subject, reason=f"a call raises {type(error).__name__}: {error}")
    finally:
        world.restore()


def calling(
    model: Callable[..., Any],
    program: Program,
    original: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Callable[[], Any]:
    """A call that can be made again and again: on the same copies every time; on new ones where forward
    writes into its arguments."""
    if program.interface.object_writes or program.graph.analysis(Memory).is_written:
        return lambda: _call_on_copies(model, original, args, kwargs)
    own_args, own_kwargs = copy_arguments(args, kwargs, objects_of(original))
    return lambda: model(*own_args, **own_kwargs)


def _call_on_copies(
    model: Callable[..., Any], original: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    copied_args, copied_kwargs = copy_arguments(args, kwargs, objects_of(original))
    return model(*copied_args, **copied_kwargs)
