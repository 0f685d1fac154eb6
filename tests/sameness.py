"""What most tests ask: does the optimised model do exactly what the model does?"""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch

import graphopt
from graphopt.ir.text import parse_graph, print_graph
from graphopt.module import serving_of
from graphopt.steps import Claim
from graphopt.verify.copying import copy_arguments
from graphopt.verify.difference import difference
from graphopt.verify.facts import tensors_in
from graphopt.verify.observation import observe

Args = tuple[Any, ...]
ROUNDING = 2e-5
"""How far elements may move, as a share of the largest: a few hundred units in the last place of float32."""


def assert_same(
    model: Callable[..., Any],
    *args: Any,
    passes: Iterable[str] | None = (),
    backward: bool = False,
    other: Args | None = None,
    **kwargs: Any,
) -> graphopt.Optimized:
    """Optimises without verification, then compares all that can be observed of a call on the example
    inputs and on `other` ones, with gradients as they are and without. The guards must serve the example
    call. The text form must round-trip. Elements may move by `ROUNDING` of the largest where no gradient is
    wanted and a step says that it rounds otherwise, and nowhere else."""
    opt = graphopt.optimize(model, args, kwargs, passes=passes, verify=False, measure=False, on_guard="error")
    text = print_graph(opt.graph)
    assert parse_graph(text) == opt.graph
    assert print_graph(parse_graph(text)) == text
    rounds = any(step.claim is not Claim.BITWISE for step in opt.report.steps)
    tolerance = ROUNDING if rounds else 0.0
    for call in (args, other):
        if call is not None:
            wanted = torch.is_grad_enabled() and _wants_gradients(model, call, kwargs)
            own = 0.0 if wanted else tolerance
            _compare(model, opt.module, call, kwargs, backward, own)
            with torch.no_grad():
                if not serving_of(opt.module).violation(call, kwargs):  # forward may ask for the mode
                    _compare(model, opt.module, call, kwargs, False, tolerance)
    return opt


def _wants_gradients(model: Callable[..., Any], *given: Any) -> bool:
    state = [*model.parameters(), *model.buffers()] if isinstance(model, torch.nn.Module) else []
    return any(tensor.requires_grad for tensor in (*state, *(t for _, t in tensors_in(given))))


def _compare(
    model: Callable[..., Any],
    optimized: torch.nn.Module,
    args: Args,
    kwargs: dict[str, Any],
    backward: bool,
    tolerance: float,
) -> None:
    eager = copy.deepcopy(model)
    owner = eager if isinstance(eager, torch.nn.Module) else None
    copies = copy_arguments(args, kwargs), copy_arguments(args, kwargs)
    expected = observe(eager, *copies[0], module=owner, backward=backward)
    module = copy.deepcopy(optimized)
    actual = observe(module, *copies[1], module=module if owner is not None else None, backward=backward)
    found = difference(expected, actual, tolerance=tolerance)
    assert found is None, found
