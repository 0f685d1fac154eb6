"""Comparing an optimised module with its original on one example call, leaving no trace in either."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch

from graphopt.capture.footprint import GlobalState, Preserved
from graphopt.verify.observation import copy_arguments, difference, observe


@dataclass(frozen=True)
class Verdict:
    """Whether two programs agree (None: it could not be checked), and what that rests on."""

    equivalent: bool | None
    evidence: str


def compare_programs(
    original: torch.nn.Module,
    rewritten: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    seed: int,
) -> Verdict:
    """Runs both, which share one state, on copies of the arguments, and compares all that can be
    observed: outputs, written arguments and state, sharing, the random stream, a raised exception."""
    if any(tensor.is_meta for tensor in (*original.parameters(), *original.buffers())):
        return Verdict(None, "the model is on the meta device: nothing was run")
    world = GlobalState()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seen = []
            for program in (original, rewritten):
                copied_args, copied_kwargs = copy_arguments(args, kwargs)
                with Preserved(original):
                    seen.append(observe(program, copied_args, copied_kwargs, module=original, seed=seed))
    finally:
        world.restore()
    found = difference(*seen)
    if found is not None:
        return Verdict(False, found)
    return Verdict(
        True, "example inputs: outputs, mutation, aliasing and random stream are eager's, bit for bit"
    )
