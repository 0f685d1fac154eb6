"""Comparing an optimised program with its original on one example call, without touching either."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from graphopt.capture.footprint import GlobalState
from graphopt.verify.observation import copy_arguments, difference, observe


@dataclass(frozen=True)
class Verdict:
    """Whether two programs agree (None: it could not be checked), and what that rests on."""

    equivalent: bool | None
    evidence: str


def compare_programs(
    original: torch.nn.Module,
    optimise: Callable[[torch.nn.Module], torch.nn.Module],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    seed: int,
) -> Verdict:
    """Runs copies of both programs on copies of the arguments and compares all that can be observed.

    `optimise` makes the optimised module of a copy of the original.
    """
    tensors = [*original.parameters(), *original.buffers()]
    if any(tensor.is_meta for tensor in tensors):
        return Verdict(None, "the model is on the meta device: nothing was run")
    try:
        ours, theirs = copy.deepcopy(original), copy.deepcopy(original)
        copies = [copy_arguments(args, kwargs) for _ in range(2)]
    except Exception as error:
        return Verdict(None, f"the model or its inputs cannot be copied ({error}): nothing was run")
    world = GlobalState()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = observe(theirs, *copies[0], module=theirs, seed=seed)
            rewritten = optimise(ours)
            actual = observe(rewritten, *copies[1], module=ours, seed=seed)
    finally:
        world.restore()
    found = difference(expected, actual)
    if found is not None:
        return Verdict(False, found)
    return Verdict(
        True, "example inputs: outputs, mutation, aliasing and random stream are bit for bit eager's"
    )
